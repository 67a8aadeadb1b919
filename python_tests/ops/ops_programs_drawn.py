# SPDX-License-Identifier: MIT
"""Hypothesis strategies for the programs of source_dots."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from ops_blocks_drawn import DTYPES, SEEDS, Numbers
from torch import Tensor

from nasp_ext.ops.program import Lists, encode_source
from nasp_ext.ops.program_values import Block, Geometry, Norm, Option, Pool, SourceOption

KERNELS = {"1x1": (1, 1), "3x3": (3, 3), "1x3": (1, 3), "3x1": (3, 1), "reduce": (1, 1)}


@dataclass
class DrawnSource:
    """The arguments of ``source_dots``."""

    x: Tensor
    grads: list[Tensor]
    lists: Lists

    def arguments(self):
        return self.x, self.grads, *self.lists


def drawn_norm(draw, numbers: Numbers, channels: int) -> Norm[Tensor] | None:
    """With or without a BN, affine, running statistics, their update."""
    kind = draw(st.sampled_from(["none", "batch", "moving", "moving", "running"]))
    has_affine = draw(st.booleans())
    if kind == "none":
        return None
    affine = (numbers.normal(channels), numbers.normal(channels)) if has_affine else None
    running = numbers.normal(channels), numbers.normal(channels).abs() + 0.1
    return Norm(
        *(kind != "running", kind == "moving", 1e-3, 0.1, affine, None if kind == "batch" else running),
        torch.tensor(3) if kind == "moving" else None,
    )


def drawn_block(draw, numbers: Numbers, kind: str, channels: int, out: int, stride: int) -> Block[Tensor]:
    dilation, parts, depthwise = 1, 2 if kind == "reduce" else 1, None
    if kind == "depthwise":
        size, dilation = draw(st.sampled_from([3, 5, 7])), draw(st.sampled_from([1, 2]))
        kernel = size, size
        depthwise = numbers.normal(channels, 1, size, size) / size
    else:
        kernel = KERNELS[kind]
    of_product = kernel if depthwise is None else (1, 1)
    products = [numbers.normal(out // parts, channels, *of_product) / channels**0.5 for _ in range(parts)]
    padding = [dilation * (size // 2) for size in kernel]
    geometry = Geometry(*kernel, stride, stride, *padding, dilation, dilation)
    relu = draw(st.booleans())
    return Block(geometry, depthwise, tuple(products), relu, drawn_norm(draw, numbers, out))


def drawn_option(draw, numbers: Numbers, channels: int, out: int, stride: int) -> Option[Tensor]:
    kinds = ["pool"] if channels == out else []
    kinds += ["identity"] if channels == out and stride == 1 else []
    kind = draw(st.sampled_from([*kinds, "chain", "chain"]))
    if kind == "identity":
        return Option()
    if kind == "pool":
        largest, kernel = draw(st.booleans()), draw(st.sampled_from([1, 3, 5, 7]))
        return Option(Pool(largest, kernel, stride, drawn_norm(draw, numbers, channels)))
    blocks, chain = draw(st.integers(1, 3)), []
    for number in range(blocks):
        last = number == blocks - 1
        first = "reduce" if number == 0 and stride == 2 and out % 2 == 0 else "1x3"
        block = draw(st.sampled_from(["depthwise", "depthwise", "1x1", "3x3", "3x1", first]))
        to = out if last else 2 * draw(st.integers(1, 20))
        chain.append(drawn_block(draw, numbers, block, channels, to, 1 if number else stride))
        channels = to
    return Option(chain=tuple(chain))


@st.composite
def programs(draw, least=1) -> DrawnSource:
    """Options of 1 to 3 edges in any order; an edge may have none."""
    batch, height, width = draw(st.tuples(*(st.integers(1, most) for most in (4, 9, 9))))
    if batch * height * width < 8:
        batch, height = 4, 2 * height + 1  # a BN moves its statistics by at least two values per channel
    numbers = Numbers(draw(SEEDS), draw(DTYPES), draw(st.booleans()))
    channels = draw(st.integers(1, 40))
    out, stride = draw(st.sampled_from([channels, channels, 6, 17])), draw(st.sampled_from([1, 1, 2]))
    size = (batch, out, -(-height // stride), -(-width // stride))
    edges = draw(st.integers(1, 3))
    grads = [numbers.images(*size, values=numbers.normal(*size)) for _ in range(edges)]
    x = numbers.images(batch, channels, height, width)
    options = [
        SourceOption(edge, drawn_option(draw, numbers, channels, out, stride))
        for edge in draw(st.lists(st.integers(0, edges - 1), min_size=least, max_size=6))
    ]
    return DrawnSource(x, grads, encode_source(options))
