# SPDX-License-Identifier: MIT
"""Calls at the edge of what makes sense, on the CUDA side: no images, and norms that are not there."""

import pytest
import torch

from nasp_ext import ops
from nasp_ext.ops.program_values import Geometry

POINTWISE, DEPTHWISE = list(Geometry()), list(Geometry.square(3, padding=1))


def images(device, count, channels):
    x = torch.rand(count, channels, 5, 5, device=device)
    return x.to(memory_format=torch.channels_last)


def norm(device, channels):
    return torch.rand(5, channels, device=device) + 0.5


def test_running_statistics_of_no_images_are_an_affine_map(device):
    mean, var = torch.tensor([1.0, 2.0], device=device), torch.tensor([3.0, 0.0], device=device)
    x = images(device, 0, 2)
    for z, rows in (
        ops.pool_forward(x, True, 3, 1, True, (None, None, mean, var), 1.0),
        ops.block_forward(
            x,
            None,
            None,
            [torch.ones(2, 2, 1, 1, device=device)],
            POINTWISE,
            True,
            True,
            (None, None, mean, var),
            1.0,
        ),
    ):
        assert z.shape == (0, 2, 5, 5)
        expected = [[1.0, 2.0], [3.0, 0.0], [0.5, 1.0], [0.5, 1.0], [-0.5, -2.0]]
        assert rows.tolist() == expected


def test_statistics_of_a_batch_without_images_are_refused(device):
    with pytest.raises(ValueError, match="at least one value per channel"):
        ops.pool_forward(images(device, 0, 2), True, 3, 1)


@pytest.mark.parametrize("geometry", [POINTWISE, DEPTHWISE], ids=["pointwise", "depthwise"])
def test_gradients_of_weights_over_no_images_are_zero(device, geometry):
    depthwise = torch.rand(4, 1, 3, 3, device=device) if geometry is DEPTHWISE else None
    product, grad, x = torch.rand(6, 4, 1, 1, device=device), images(device, 0, 6), images(device, 0, 4)
    sums = torch.zeros(2, 6, dtype=torch.float64, device=device)
    behind = grad, None, sums, grad, norm(device, 6), True
    block = x, norm(device, 4), depthwise, [product], geometry, True
    in_sums, of_depthwise, (of_product,) = ops.block_backward(
        *behind, *block, True, torch.empty_like(x), None
    )
    assert not in_sums.any()
    assert not of_product.any()
    assert not of_depthwise.any()


def test_sums_over_no_images_are_zero(device):
    x = images(device, 0, 4)
    found = ops.node_gradient_sums(x, [x], [norm(device, 4)])
    assert found.shape == (1, 2, 4)
    assert not found.any()
    ops.node_sum_(torch.empty_like(x), [x], [norm(device, 4)])


def test_no_statistic_moves_if_the_norm_of_one_is_empty(device):
    means, variances = ([torch.ones(4, device=device) for _ in range(2)] for _ in range(2))
    batches = [torch.tensor(3, device=device) for _ in range(2)]
    norms = [norm(device, 4), torch.empty(0, 4, device=device)]
    with pytest.raises(ValueError, match=r"norms of shape \(5, 4\), found \(0, 4\)"):
        ops.update_statistics_(means, variances, batches, norms, [9, 9], [0.1, 0.1])
    assert all(t.eq(1).all() for t in (*means, *variances))
    assert all(t == 3 for t in batches)


def test_norm_that_is_not_there_moves_nothing(device):
    """A pool of one pixel whose NORM says that it does not exist, and that it moves its statistics."""
    x = images(device, 2, 4)
    dots = ops.source_dots(x, [x], [0, 1, 1, 1, 1, 0, 0, 0, 1], [], [], [])
    torch.testing.assert_close(dots, x.square().sum().view(1))
