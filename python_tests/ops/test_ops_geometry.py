# SPDX-License-Identifier: MIT
"""Windows that differ in height and width, against the same sums written out with unfold in float64."""

import itertools

import pytest
import torch
from ops_blocks_drawn import SETS, instruction_set
from ops_blocks_samples import images, norm
from torch.nn import functional as F

from nasp_ext import ops

PAIRS = list(itertools.product((1, 2, 3), repeat=2))


def unfolded(x, depthwise, product, stride, padding, dilation):
    """The depthwise convolution as a sum over the taps of shifted images, then the 1×1."""
    (size, channels), kernel = x.shape[:2], depthwise.shape[-1]
    windows = F.unfold(x, kernel, dilation, padding, stride).view(size, channels, kernel**2, -1)
    height = (x.shape[2] + 2 * padding[0] - dilation[0] * (kernel - 1) - 1) // stride[0] + 1
    summed = (windows * depthwise.view(1, channels, kernel**2, 1)).sum(2).view(size, channels, height, -1)
    return F.conv2d(summed, product)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("dilation", PAIRS)
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (1, 2)])
def test_depthwise_block_keeps_height_and_width_apart(stride, dilation, isa, assert_near):
    x, padding = images(2, 9, 14, 13), (1, 2)
    depthwise, product = images(9, 1, 3, 3).contiguous(), images(5, 9, 1, 1).contiguous()
    call = None, depthwise, [product], (3, 3, *stride, *padding, *dilation), False
    leaves = [t.double().requires_grad_() for t in (x, depthwise, product)]
    expected = unfolded(*leaves, stride, padding, dilation)
    grad, out = images(*expected.shape, seed=5), torch.empty_like(x)
    none, sums = x.new_empty(0, 0), torch.zeros(2, 5, dtype=torch.float64)
    with instruction_set(isa):
        z, _ = ops.block_forward(x, *call, False)
        gradients = ops.block_backward(grad, None, sums, z, none, False, x, *call, True, out, None)
    assert_near(z, expected.detach(), z.dtype)
    _, of_depthwise, (of_product,) = gradients
    wanted = torch.autograd.grad(expected, leaves, grad.double())
    for found, value in zip((out, of_depthwise, of_product), wanted, strict=True):
        assert_near(found, value, z.dtype, [torch.full((1,), 10.0)])


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("dilation", PAIRS)
def test_plain_block_keeps_height_and_width_apart(dilation, isa, assert_near):
    x, product = images(2, 4, 14, 13), images(5, 4, 3, 2).contiguous()
    call = norm(4), None, [product], (3, 2, 2, 1, 1, 2, *dilation), True
    scale, shift = (row.view(-1, 1, 1).double() for row in norm(4)[3:])
    active = (x.double() * scale + shift).relu()
    expected = F.conv2d(active, product.double(), None, (2, 1), (1, 2), dilation)
    with instruction_set(isa):
        z, _ = ops.block_forward(x, *call, False)
    assert_near(z, expected, z.dtype)
