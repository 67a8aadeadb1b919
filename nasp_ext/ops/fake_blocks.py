# SPDX-License-Identifier: MIT
"""Fake kernels of the fused operators: the shapes, dtypes and layouts of what they give."""

from typing import Any

import torch
from torch import Tensor

from nasp_ext import _C as _C  # registers torch.ops.nasp_ext
from nasp_ext.ops._native import register_fake
from nasp_ext.ops.program import decode_source
from nasp_ext.ops.program_values import Geometry

_NORM_ROWS = 5


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
    if len(geometry) != len(Geometry._fields) or not Geometry(*geometry).exists():
        raise ValueError(
            f"expected 8 numbers in geometry: sizes >= 1 but for the padding, >= 0; found {geometry}"
        )
    _check_images(x)
    channels = sum(product.shape[0] for product in products)
    return _fake_images(x, channels, *Geometry(*geometry).size(x.shape)), x.new_empty(
        (_NORM_ROWS if norm else 0, channels)
    )


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
    _check_images(x)
    return (
        x.new_empty((rows, x.shape[1]), dtype=torch.float64),
        x.new_empty(depthwise.shape) if depthwise is not None and wanted else x.new_empty((0,)),
        [x.new_empty(product.shape) for product in products] if need_weights else [],
    )


def _fake_pool_forward(
    x: Tensor, max: bool, kernel_size: int, stride: int, norm: bool, *parts: Any
) -> tuple[Tensor, Tensor]:
    if kernel_size < 1 or kernel_size % 2 == 0 or stride < 1:
        raise ValueError(f"expected an odd kernel and a stride >= 1, found {kernel_size} and {stride}")
    _check_images(x)
    height, width = ((size - 1) // stride + 1 for size in x.shape[2:])
    return _fake_images(x, x.shape[1], height, width), x.new_empty((_NORM_ROWS if norm else 0, x.shape[1]))


def _check_images(x: Tensor) -> None:
    if x.dim() != 4:
        raise ValueError(f"expected images of shape (N, C, H, W), found {tuple(x.shape)}")


def _fake_images(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    sizes = (x.shape[0], channels, height, width)
    return torch.empty(sizes, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _fake_sums(grad: Tensor, terms: list[Tensor], *rest: Any) -> Tensor:
    _check_images(grad)
    return grad.new_empty((len(terms), 2, grad.shape[1]), dtype=torch.float64)


def _fake_change(*arguments: Any) -> None:
    return None


def _fake_dots(x: Tensor, grads: list[Tensor], *lists: Any) -> Tensor:
    return x.new_empty((len(decode_source(*lists)),))


def _fake_new_images(like: Tensor, size: list[int]) -> Tensor:
    if len(size) != 4:
        raise ValueError(f"expected a size (N, C, H, W), found {len(size)} numbers")
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


register_fake("empty_images", _fake_new_images)
register_fake("block_forward", _fake_block_forward)
register_fake("block_backward", _fake_block_backward)
register_fake("pool_forward", _fake_pool_forward)
register_fake("pool_backward_", _fake_change)
register_fake("node_sum_", _fake_change)
register_fake("node_gradient_sums", _fake_sums)
register_fake("update_statistics_", _fake_change)
register_fake("source_dots", _fake_dots)
