# SPDX-License-Identifier: MIT
"""The windows of the auxiliary head's pool."""

import pytest
import torch

from nasp_ext.families.cells.heads import AuxiliaryHead


@pytest.mark.parametrize(
    ("size", "rows"),
    [
        ((8, 8), ((0, 5), (3, 8))),  # 5x5 windows of stride 3, as the authors pool the maps of CIFAR
        ((7, 7), ((0, 4), (3, 7))),  # others by halves, which share the middle of an odd side
        ((4, 4), ((0, 2), (2, 4))),
        ((10, 10), ((0, 5), (5, 10))),
        ((1, 1), ((0, 1), (0, 1))),
    ],
    ids=str,
)
def test_maps_are_averaged_to_two_by_two(size, rows):
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    relu, pool = AuxiliaryHead(3, 4).features[:2]
    expected = [[x[:, :, a:b, c:d].mean((2, 3)) for c, d in rows] for a, b in rows]
    torch.testing.assert_close(pool(relu(x)), torch.stack([torch.stack(row, -1) for row in expected], -2))


def test_only_maps_of_eight_by_eight_have_windows_of_five():
    x = torch.rand(1, 1, 8, 9, dtype=torch.float64)
    pooled = AuxiliaryHead(1, 4).features[1](x)
    assert pooled.shape == (1, 1, 2, 2)
    torch.testing.assert_close(pooled[0, 0, 0, 0], x[0, 0, :4, :5].mean())
