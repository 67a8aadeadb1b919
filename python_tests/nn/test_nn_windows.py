# SPDX-License-Identifier: MIT
"""Candidate operations whose windows no fused kernel takes: they run as PyTorch runs them."""

import pytest
import torch
from torch import nn

from nasp_ext import MixedOp

BILLION = 10**9


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 1, stride=BILLION**2, padding=BILLION, bias=False),
        nn.Conv2d(4, 4, 3, padding=BILLION, dilation=BILLION, bias=False),
        nn.Conv2d(4, 4, 3, stride=2**62, padding=1, bias=False),
        nn.Conv2d(4, 4, 3, padding=65, bias=False),
        nn.MaxPool2d(3, 2**31 - 1, 1),
    ],
    ids=["padding", "dilation", "stride", "more padding than image", "pool stride"],
)
def test_candidate_with_an_absurd_window_is_what_pytorch_makes_of_it(layer):
    x, weights = torch.randn(2, 4, 9, 9), torch.ones(1, requires_grad=True)
    found, expected = MixedOp.from_modules([layer])(x, weights), layer(x)
    torch.testing.assert_close(found, expected)
    (of_weights,) = torch.autograd.grad(found.square().sum(), weights)
    torch.testing.assert_close(of_weights, 2 * expected.detach().square().sum().view(1))


def test_candidate_that_pytorch_refuses_is_refused():
    layer = nn.Conv2d(4, 4, 3, stride=1, padding=0, dilation=BILLION, bias=False)
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
        MixedOp.from_modules([layer])(torch.randn(2, 4, 9, 9), torch.ones(1))
