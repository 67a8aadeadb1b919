# SPDX-License-Identifier: MIT
"""Fake kernels of the fused operators: the shapes, dtypes and layouts of what they give."""

from typing import Any

import torch
from torch import Tensor

from .. import _C as _C  # registers torch.ops.nasp_ext

_NORM_ROWS = 5
_PROGRAM_NORM = 4  # numbers of a NORM in a program, see csrc/source/program.h
_PROGRAM_POOL = 3 + _PROGRAM_NORM
_PROGRAM_BLOCK = 2 + 8 + 1 + _PROGRAM_NORM


def _fake_block_forward(
    x: Tensor,
    in_norm: Tensor | None,
    depthwise: Tensor | None,
    products: list[Tensor],
    geometry: list[int],
    relu: bool,
    norm: bool,
    *parts: Any,
) -> tuple[Tensor, Tensor]:
    kernel, stride, padding, dilation = (geometry[i : i + 2] for i in range(0, 8, 2))
    sizes = [
        (x.shape[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)
    ]
    channels = sum(product.shape[0] for product in products)
    return _fake_images(x, channels, *sizes), x.new_empty((_NORM_ROWS if norm else 0, channels))


def _fake_block_backward(
    grad: Tensor,
    factors: Tensor | None,
    sums: Tensor,
    z: Tensor,
    norm: Tensor,
    batch_stats: bool,
    x: Tensor,
    in_norm: Tensor | None,
    depthwise: Tensor | None,
    products: list[Tensor],
    geometry: list[int],
    relu: bool,
    need_weights: bool,
    out: Tensor | None,
    base: Tensor | None,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    rows = 0 if out is None or in_norm is None else 2
    wanted = depthwise is not None and need_weights
    return (
        x.new_empty((rows, x.shape[1]), dtype=torch.float64),
        x.new_empty(depthwise.shape) if depthwise is not None and wanted else x.new_empty((0,)),
        [x.new_empty(product.shape) for product in products] if need_weights else [],
    )


def _fake_pool_forward(
    x: Tensor, max: bool, kernel_size: int, stride: int, norm: bool, *parts: Any
) -> tuple[Tensor, Tensor]:
    height, width = ((size - 1) // stride + 1 for size in x.shape[2:])
    return _fake_images(x, x.shape[1], height, width), x.new_empty((_NORM_ROWS if norm else 0, x.shape[1]))


def _fake_images(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    sizes = (x.shape[0], channels, height, width)
    return torch.empty(sizes, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _fake_sums(grad: Tensor, terms: list[Tensor], *rest: Any) -> Tensor:
    return grad.new_empty((len(terms), 2, grad.shape[1]), dtype=torch.float64)


def _fake_change(*arguments: Any) -> None:
    return None


def _fake_dots(x: Tensor, grads: list[Tensor], program: list[int], *rest: Any) -> Tensor:
    return x.new_empty((_options(program),))


def _options(program: list[int]) -> int:
    """How many options a program has, see csrc/source/program.h."""
    count, position = 0, 0
    while position < len(program):
        kind, position = program[position + 1], position + 2
        if kind == 1:
            position += _PROGRAM_POOL
        elif kind == 2:
            position += 1 + program[position] * _PROGRAM_BLOCK
        count += 1
    return count


def _fake_new_images(like: Tensor, size: list[int]) -> Tensor:
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


torch.library.register_fake("nasp_ext::empty_images")(_fake_new_images)
torch.library.register_fake("nasp_ext::block_forward")(_fake_block_forward)
torch.library.register_fake("nasp_ext::block_backward")(_fake_block_backward)
torch.library.register_fake("nasp_ext::pool_forward")(_fake_pool_forward)
torch.library.register_fake("nasp_ext::pool_backward_")(_fake_change)
torch.library.register_fake("nasp_ext::node_sum_")(_fake_change)
torch.library.register_fake("nasp_ext::node_gradient_sums")(_fake_sums)
torch.library.register_fake("nasp_ext::update_statistics_")(_fake_change)
torch.library.register_fake("nasp_ext::source_dots")(_fake_dots)
