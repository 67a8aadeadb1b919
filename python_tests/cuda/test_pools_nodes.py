# SPDX-License-Identifier: MIT
"""The CUDA side of pools, node sums and running statistics against the CPU operators.

Each test runs in the emulator, in several orders of threads, and on a GPU where there is one.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_cases import CPU, Shape, images, norm_rows, to
from torch import Tensor

from nasp_ext import ops

Close = Callable[[Tensor, Tensor, torch.dtype], None]
DTYPES = [torch.float32, torch.float64]
SHAPES: list[Shape] = [(2, 5, 7, 9), (1, 34, 12, 11), (3, 1, 1, 1)]
INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("largest", [True, False], ids=["max", "average"])
@pytest.mark.parametrize("kernel, stride", [(3, 1), (3, 2), (5, 3), (1, 1)])
def test_pool_is_that_of_the_cpu(
    device: torch.device, close: Close, dtype: torch.dtype, largest: bool, kernel: int, stride: int
) -> None:
    for shape in SHAPES:
        x = images(*shape, dtype=dtype)
        channels = shape[1]
        for statistics in ("batch", "running", "none"):
            parts: list[Tensor | None] = [None] * 4
            if statistics == "running":
                parts = [torch.randn(channels, dtype=dtype) for _ in range(3)]
                parts.append(torch.rand(channels, dtype=dtype))
            arguments = (x, largest, kernel, stride, statistics != "none", parts, 1e-5)
            z, norm = ops.pool_forward(*to(device, arguments))
            expected_z, expected_norm = CPU.pool_forward(*arguments[:5], *parts, 1e-5)
            close(z, expected_z, dtype)
            close(norm, expected_norm, dtype)

            grad, sums = images(*expected_z.shape, dtype=dtype), torch.randn(2, channels).double()
            factors = torch.rand(len(x), dtype=dtype) if statistics == "batch" else None
            base = images(*shape, dtype=dtype) if statistics == "running" else None
            front = (grad, factors, sums, expected_z, expected_norm, statistics == "batch", x)
            out, expected = torch.empty_like(x, device=device), torch.empty_like(x)
            ops.pool_backward_(*to(device, front), largest, kernel, stride, out, to(device, base))
            CPU.pool_backward_(*front, largest, kernel, stride, expected, base)
            close(out, expected, dtype)


def test_ties_infinities_and_nans_are_pooled_as_in_pytorch(device: torch.device) -> None:
    values = torch.tensor([-INF, 0.0, -0.0, 1.0, 1.0, INF, NAN])
    for weights in ([0, 1, 1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0.3]):
        index = torch.multinomial(torch.tensor(weights).float(), 2 * 3 * 8 * 7, replacement=True)
        x = values[index].view(2, 3, 8, 7).to(memory_format=torch.channels_last).requires_grad_()
        for stride in (1, 2):
            expected = F.max_pool2d(x, 3, stride, 1)
            grad = torch.randint(1, 9, expected.shape).float().to(memory_format=torch.channels_last)
            (expected_grad,) = torch.autograd.grad(expected, x, grad)
            moved = x.detach().to(device)
            z, norm = ops.pool_forward(moved, True, 3, stride, False)
            out = torch.empty_like(moved)
            ops.pool_backward_(grad.to(device), None, norm, z, norm, False, moved, True, 3, stride, out, None)
            assert torch.equal(z.cpu().nan_to_num(9e9), expected.detach().nan_to_num(9e9))
            assert torch.equal(out.cpu(), expected_grad)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 3, 64])
def test_node_sums_are_those_of_the_cpu(
    device: torch.device, close: Close, dtype: torch.dtype, count: int
) -> None:
    for shape in [(2, 5, 7, 9), (1, 34, 12, 11), (2, 300, 2, 1)] if count < 64 else [(2, 3, 2, 2)]:
        terms = [images(*shape, dtype=dtype) for _ in range(count)]
        norms = [
            norm_rows(shape[1], dtype) if e % 3 < 2 else torch.empty(0, 0, dtype=dtype) for e in range(count)
        ]
        for factors in (None, torch.rand(count, shape[0], dtype=dtype)):
            out, expected = (images(*shape, dtype=dtype) for _ in range(2))
            moved = to(device, (terms, norms, factors))
            target = out.to(device)
            ops.node_sum_(target, *moved)
            CPU.node_sum_(expected, terms, norms, factors, None)
            close(target, expected, dtype)
            for base in (images(*shape, dtype=dtype), expected):
                ops.node_sum_(target, *moved, target if base is expected else base.to(device))
                CPU.node_sum_(expected, terms, norms, factors, base)
                close(target, expected, dtype)
            sums = ops.node_gradient_sums(out.to(device), *moved)
            close(sums, CPU.node_gradient_sums(out, terms, norms, factors), dtype)


def test_new_images_are_channels_last(device: torch.device) -> None:
    x = ops.empty_images(torch.zeros(1, device=device, dtype=torch.float64), (2, 3, 4, 5))
    assert x.shape == (2, 3, 4, 5)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert (x.dtype, x.device.type) == (torch.float64, device.type)
    with pytest.raises(ValueError, match="found 1 numbers"):
        ops.empty_images(x, (2,))


def test_sums_of_no_images_are_zero(device: torch.device) -> None:
    empty = torch.empty(0, 3, 4, 4, device=device).to(memory_format=torch.channels_last)
    norms = [torch.empty(0, 0, device=device)]
    ops.node_sum_(empty, [empty], norms)
    assert ops.node_gradient_sums(empty, [empty], norms).tolist() == [[[0.0] * 3] * 2]
    assert ops.pool_forward(empty, True, 3, 1, False)[0].shape == (0, 3, 4, 4)
    with pytest.raises(ValueError, match="at least one value per channel for the statistics of the batch"):
        ops.pool_forward(empty, True, 3, 1)


@pytest.mark.parametrize("count", [2, 150])
def test_running_statistics_move_as_on_the_cpu(device: torch.device, close: Close, count: int) -> None:
    """150 BatchNorms are more than fit one launch; their dtypes are mixed."""
    dtypes = [DTYPES[b % 5 == 0] for b in range(count)]
    norms = [norm_rows(1 + b * 5 % 37, dtype) for b, dtype in enumerate(dtypes)]
    lists: list[Any] = [
        [rows[0] * 2 for rows in norms],
        [rows[1] * 2 for rows in norms],
        [torch.tensor(b) for b in range(count)],
        norms,
    ]
    numbers = ([2 + b for b in range(count)], [0.1 + b / 999 for b in range(count)])
    moved = to(device, [[x.clone() for x in tensors] for tensors in lists])
    ops.update_statistics_(*moved, *numbers)
    CPU.update_statistics_(*lists, *numbers)
    for actual, expected in zip(moved[:2], lists[:2], strict=True):
        for a, b in zip(actual, expected, strict=True):
            close(a, b, b.dtype)
    assert [int(x) for x in moved[2]] == [b + 1 for b in range(count)]


def test_bad_lists_raise_what_they_raise_on_the_cpu(device: torch.device) -> None:
    x = images(2, 3, 4, 4).to(device)
    with pytest.raises(ValueError, match="1 to 64 terms"):
        ops.node_sum_(x, [], [])
    with pytest.raises(ValueError, match="lists of one length"):
        ops.update_statistics_([x[0, :, 0, 0]], [], [], [], [], [])
    with pytest.raises(ValueError, match="odd kernel"):
        ops.pool_forward(x, True, 2, 1)
