# SPDX-License-Identifier: MIT
"""Hypothesis strategies for the fused operators: blocks and pools of awkward shapes, and their tensors.

Activations lie on a grid on which the affine map in front of a ReLU is exact in float32: both sides then
agree on what is above 0, and values of exactly 0 and ties of a max pool are common.
"""

from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from nasp_ext.ops import reference
from nasp_ext.ops.program import Lists

BEST = torch.ops.nasp_ext.instruction_set(-1)
NAMES = ("any processor", "AVX2", "AVX-512")
SETS = [
    pytest.param(
        number, marks=pytest.mark.skipif(number > BEST, reason=f"this processor has no {name}"), id=name
    )
    for number, name in enumerate(NAMES)
]
DRAWN = settings(max_examples=15, deadline=None, derandomize=True)
FEW = settings(DRAWN, max_examples=8)


@contextmanager
def instruction_set(number: int):
    """Inside, the fused operators use no better set than this one."""
    before = torch.ops.nasp_ext.instruction_set(-1)
    try:
        assert torch.ops.nasp_ext.instruction_set(number) == number
        yield
    finally:
        torch.ops.nasp_ext.instruction_set(BEST)
        assert torch.ops.nasp_ext.instruction_set(-1) == before


@contextmanager
def threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Numbers:
    """Tensors from one seed."""

    def __init__(self, seed: int, dtype: torch.dtype, sliced: bool = False) -> None:
        self.generator, self.dtype, self.sliced = torch.Generator().manual_seed(seed), dtype, sliced

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.dtype)

    def grid(self, *shape: int, step: float = 0.125) -> Tensor:
        return (torch.randn(shape, generator=self.generator) / step).round().to(self.dtype) * step

    def images(self, *shape: int, values: Tensor | None = None) -> Tensor:
        """Channels_last, or a slice of the channels of a tensor that is NaN beside it."""
        values = self.grid(*shape) if values is None else values
        return in_memory(values, self.sliced)

    def norm(self, channels: int) -> Tensor:
        """(5, C), with an affine map on the grid."""
        mean, shift = self.grid(channels), self.grid(channels)
        var = self.normal(channels).abs() + 0.1
        return torch.stack([mean, var, var.rsqrt(), self.grid(channels, step=0.25), shift])


def in_memory(values: Tensor, sliced: bool) -> Tensor:
    batch, channels, height, width = values.shape
    before, behind = (3, 2) if sliced else (0, 0)
    shape = (batch, before + channels + behind, height, width)
    wide = values.new_full(shape, float("nan")).to(memory_format=torch.channels_last)
    found = wide[:, before : before + channels]
    found.copy_(values)
    return found


def beside(images: Tensor) -> Tensor:
    """What lies around a slice that ``in_memory`` made."""
    wide = images._base
    return torch.cat((wide[:, :3], wide[:, -2:]), 1)


def up(value):
    """The same in float64 and memory of its own: the twins' side of a comparison."""
    if isinstance(value, Tensor):
        return value.double().clone() if value.is_floating_point() else value.clone()
    if isinstance(value, Lists):
        return Lists(*map(up, value))
    if isinstance(value, list | tuple):
        return type(value)(up(item) for item in value)
    return value


@dataclass(frozen=True)
class BlockCall:
    """The arguments that forward and backward of a block share."""

    x: Tensor
    in_norm: Tensor | None
    depthwise: Tensor | None
    products: list[Tensor]
    geometry: tuple[int, ...]
    relu: bool

    def arguments(self):
        return self.x, self.in_norm, self.depthwise, self.products, self.geometry, self.relu

    def magnitudes(self) -> "BlockCall":
        """The same in float64 with every number replaced by its magnitude."""
        x, in_norm, depthwise, products, geometry, relu = up(self.arguments())
        if in_norm is not None:
            x = x * in_norm[3].view(-1, 1, 1) + in_norm[4].view(-1, 1, 1)
        active = torch.where(x <= 0, 0.0, x) if relu else x.abs()
        taps = None if depthwise is None else depthwise.abs()
        return BlockCall(active, None, taps, [p.abs() for p in products], geometry, False)


DTYPES = st.sampled_from([torch.float32, torch.float64])
SIZES = st.tuples(*(st.integers(1, most) for most in (4, 70, 20, 20)))
SEEDS = st.integers(0, 2**16)
KINDS = ["depthwise", "depthwise", "1x1", "3x3", "1x3", "3x1", "reduce"]


@st.composite
def blocks(draw, sizes=SIZES, kinds=KINDS) -> tuple[BlockCall, Numbers]:
    batch, channels, height, width = draw(sizes)
    numbers = Numbers(draw(SEEDS), draw(DTYPES), draw(st.booleans()))
    kind, stride, dilation = draw(st.sampled_from(kinds)), draw(st.sampled_from([1, 1, 2])), 1
    out, depthwise, parts = draw(st.integers(1, 40)), None, 1
    kernel = {"3x3": (3, 3), "1x3": (1, 3), "3x1": (3, 1)}.get(kind, (1, 1))
    if kind == "depthwise":
        size, dilation = draw(st.sampled_from([3, 5, 7])), draw(st.sampled_from([1, 2]))
        kernel = (size, size)
        depthwise = numbers.normal(channels, 1, *kernel) / size
    if kind == "reduce":
        stride, parts = 2, 2
    of_product = (1, 1) if depthwise is not None else kernel
    products = [numbers.normal(out, channels, *of_product) / channels**0.5 for _ in range(parts)]
    padding = [dilation * (size // 2) for size in kernel]
    strides = [stride if size > 1 or kernel == (1, 1) else 1 for size in kernel]
    geometry = (*kernel, *strides, *padding, dilation, dilation)
    in_norm = numbers.norm(channels) if draw(st.booleans()) else None
    x = numbers.images(batch, channels, height, width)
    return BlockCall(x, in_norm, depthwise, products, geometry, draw(st.booleans())), numbers


@st.composite
def norm_parts(draw, channels: int, numbers: Numbers):
    """weight, bias, mean, var of a BN: affine or not, with running statistics or the batch's."""
    affine, running = draw(st.booleans()), draw(st.booleans())
    parts = [numbers.normal(channels) for _ in range(3)]
    weight, bias = parts[:2] if affine else (None, None)
    return weight, bias, *((parts[2], numbers.normal(channels).abs() + 0.1) if running else (None, None))


@dataclass(frozen=True)
class Behind:
    """What a backward is given of the BN behind it, beside the arguments of the forward."""

    grad: Tensor
    factors: Tensor | None
    sums: Tensor
    z: Tensor
    norm: Tensor
    batch_stats: bool

    def arguments(self):
        return self.grad, self.factors, self.sums, self.z, self.norm, self.batch_stats

    def magnitudes(self) -> "Behind":
        """A gradient without a BN, of the magnitude of what is added up to the gradient behind it."""
        grad, factors, sums, z, norm, batch_stats = up(self.arguments())
        grad = grad.abs() if factors is None else grad.abs() * factors.abs().view(-1, 1, 1, 1)
        if norm.numel():
            mean, _, rstd, scale, _ = (row.view(-1, 1, 1) for row in norm)
            if batch_stats:
                means = sums.abs().view(2, -1, 1, 1) / (z.numel() // z.shape[1])
                grad = grad + means[0] + ((z - mean) * rstd).abs() * means[1]
            grad = grad * scale.abs()
        return Behind(grad, None, sums, z, z.new_zeros(0, 0), False)


@st.composite
def behind(draw, z: Tensor, norm: Tensor, batch_stats: bool, numbers: Numbers) -> Behind:
    grad = numbers.images(*z.shape, values=numbers.normal(*z.shape))
    factors = numbers.normal(len(z)) if draw(st.booleans()) else None
    scaled = grad.double() if factors is None else grad.double() * factors.view(-1, 1, 1, 1)
    normalised = (z - norm[0].view(-1, 1, 1)) * norm[2].view(-1, 1, 1) if norm.numel() else z
    sums = torch.stack([scaled.sum((0, 2, 3)), (scaled * normalised).sum((0, 2, 3))])
    return Behind(grad, factors, sums, z, norm, batch_stats)


@st.composite
def targets(draw, x: Tensor, numbers: Numbers, required: bool = False) -> tuple[Tensor | None, Tensor | None]:
    """(out, base) of a backward; base may be out."""
    kind = draw(st.sampled_from(["fresh", "added", "in place", *([] if required else ["none"])]))
    if kind == "none":
        return None, None
    out = in_memory(numbers.normal(*x.shape), True)
    return out, {"fresh": None, "added": numbers.images(*x.shape), "in place": out}[kind]


def copied(out: Tensor | None, base: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """The same for the twin; base stays out if it is."""
    twin = None if out is None else up(out)
    return twin, twin if base is out else up(base)


def with_magnitude(block: BlockCall, given: Behind) -> list[Tensor]:
    """The largest sums of magnitudes in each gradient: of x, of the depthwise and product weights."""
    terms, arguments = block.magnitudes(), given.magnitudes()
    out = torch.empty_like(terms.x)
    results = reference.block_backward(*arguments.arguments(), *terms.arguments(), True, out, None)
    return [out, results[1], *results[2]]
