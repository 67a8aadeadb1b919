# SPDX-License-Identifier: MIT
"""Blocks with random tensors for the tests of the device."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CPU = torch.ops.nasp_ext
Shape = tuple[int, int, int, int]


def images(count: int, channels: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A slice of the channels of a larger batch of images, channels_last."""
    whole = torch.randn(count, channels + 3, height, width, dtype=dtype)
    return whole.to(memory_format=torch.channels_last)[:, 2 : 2 + channels]


def norm_rows(channels: int, dtype: torch.dtype) -> Tensor:
    rows = torch.randn(5, channels, dtype=dtype)
    rows[1:3] = rows[1:3].abs() + 0.5
    return rows


def to(device: torch.device, value: Any) -> Any:
    """Tensors and lists of them on a device, as they lie in memory."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, (list, tuple)):
        return type(value)(to(device, item) for item in value)
    return value


@dataclass(frozen=True)
class BlockCase:
    """A block of one kind: see ``ops.block_forward``. ``out``: channels of each product, None = as many."""

    name: str
    kernel: tuple[int, int]
    stride: int = 1
    dilation: int = 1
    depthwise: bool = False
    parts: int = 1
    out: int | None = None
    shapes: tuple[Shape, ...] = ((2, 5, 7, 9), (1, 34, 6, 5))

    def __str__(self) -> str:
        return self.name

    def geometry(self) -> list[int]:
        padding = [0 if self.parts == 2 else self.dilation * (k // 2) for k in self.kernel]
        return [*self.kernel, *[self.stride] * 2, *padding, *[self.dilation] * 2]

    def weights(self, channels: int, dtype: torch.dtype) -> tuple[Tensor | None, list[Tensor]]:
        out = self.out or channels
        depthwise = torch.randn(channels, 1, *self.kernel, dtype=dtype) if self.depthwise else None
        kernel = (1, 1) if self.depthwise else self.kernel
        return depthwise, [torch.randn(out, channels, *kernel, dtype=dtype) for _ in range(self.parts)]

    def forward(self, shape: Shape, dtype: torch.dtype, chained: bool, statistics: str) -> tuple[Any, ...]:
        """The arguments of block_forward."""
        depthwise, products = self.weights(shape[1], dtype)
        out = len(products) * len(products[0])
        parts: list[Tensor | None] = [None] * 4
        if chained:
            parts[:2] = [torch.randn(out, dtype=dtype) for _ in range(2)]
        if statistics == "running":
            parts[2:] = [torch.randn(out, dtype=dtype), torch.rand(out, dtype=dtype)]
        x, in_norm = images(*shape, dtype=dtype), norm_rows(shape[1], dtype) if chained else None
        return (x, in_norm, depthwise, products, self.geometry(), True, statistics != "none", *parts, 1e-5)

    def backward(
        self, shape: Shape, dtype: torch.dtype, chained: bool, factors: bool, weights: bool
    ) -> tuple[Any, ...]:
        """The arguments of block_backward up to ``out`` and ``base``."""
        x, in_norm, depthwise, products, geometry, relu, *_ = self.forward(shape, dtype, chained, "batch")
        z, norm = CPU.block_forward(
            x, in_norm, depthwise, products, geometry, relu, *[chained], *[None] * 4, 1
        )
        grad = images(*z.shape, dtype=dtype)
        sums = torch.randn(2, z.shape[1], dtype=torch.float64)
        factor = torch.rand(len(x), dtype=dtype) if factors else None
        return (grad, factor, sums, z, norm, True, x, in_norm, depthwise, products, geometry, relu, weights)


def blocks() -> list[BlockCase]:
    """Every kind of block, at sizes that fill no tile."""
    return [
        BlockCase("sep3", (3, 3), depthwise=True),
        BlockCase("sep5_stride2", (5, 5), stride=2, depthwise=True, out=7),
        BlockCase("dil5", (5, 5), dilation=2, depthwise=True, shapes=((3, 16, 8, 8),)),
        BlockCase("dil7_stride2", (7, 7), stride=2, dilation=2, depthwise=True, shapes=((1, 3, 9, 10),)),
        BlockCase("pointwise", (1, 1), out=24, shapes=((2, 70, 8, 9), (3, 5, 1, 1))),
        BlockCase("factorized", (1, 1), stride=2, parts=2, out=9, shapes=((2, 6, 7, 8), (1, 65, 4, 4))),
        BlockCase("plain3", (3, 3), out=20, shapes=((2, 3, 12, 11),)),
        BlockCase("plain3_stride2", (3, 3), stride=2),
        BlockCase("plain1x3", (1, 3), shapes=((2, 8, 3, 17),)),
        BlockCase("plain3x1_stride2", (3, 1), stride=2, shapes=((2, 8, 9, 4),)),
    ]
