# SPDX-License-Identifier: MIT
"""Hypothesis strategies for the programs of source_dots, written from csrc/program/source_program.h."""

from dataclasses import dataclass, field

import torch
from hypothesis import strategies as st
from ops_blocks_drawn import DTYPES, SEEDS, Numbers
from torch import Tensor


@dataclass
class Program:
    """The arguments of ``source_dots``."""

    x: Tensor
    grads: list[Tensor]
    numbers: Numbers
    program: list[int] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    statistics: list[Tensor] = field(default_factory=list)
    floats: list[float] = field(default_factory=list)

    def arguments(self):
        return self.x, self.grads, self.program, self.weights, self.statistics, self.floats

    def norm(self, draw, channels: int) -> None:
        """With or without a BN, affine, running statistics, their update."""
        kind = draw(st.sampled_from(["none", "batch", "moving", "moving", "running"]))
        affine = draw(st.booleans())
        if kind == "none":
            self.program += [0, 0, 0, 0]
            return
        self.program += [1, int(affine), int(kind != "running"), int(kind == "moving")]
        if affine:
            self.weights += [self.numbers.normal(channels), self.numbers.normal(channels)]
        if kind != "batch":
            self.statistics += [self.numbers.normal(channels), self.numbers.normal(channels).abs() + 0.1]
        if kind == "moving":
            self.statistics.append(torch.tensor(3))
        self.floats += [1e-3, 0.1]

    def block(self, draw, kind: str, channels: int, out: int, stride: int) -> None:
        kernel, dilation, parts = (1, 1), 1, 1
        if kind == "depthwise":
            size, dilation = draw(st.sampled_from([3, 5, 7])), draw(st.sampled_from([1, 2]))
            kernel = (size, size)
            self.weights.append(self.numbers.normal(channels, 1, size, size) / size)
        elif kind != "reduce":
            kernel = {"1x1": (1, 1), "3x3": (3, 3), "1x3": (1, 3), "3x1": (3, 1)}[kind]
        else:
            parts = 2
        of_product = (1, 1) if kind == "depthwise" else kernel
        self.weights += [
            self.numbers.normal(out // parts, channels, *of_product) / channels**0.5 for _ in range(parts)
        ]
        padding = [dilation * (size // 2) for size in kernel]
        geometry = [*kernel, stride, stride, *padding, dilation, dilation]
        self.program += [int(kind == "depthwise"), parts, *geometry, int(draw(st.booleans()))]
        self.norm(draw, out)

    def option(self, draw, edge: int, channels: int, out: int, stride: int) -> None:
        kinds = ["pool"] if channels == out else []
        kinds += ["identity"] if channels == out and stride == 1 else []
        kind = draw(st.sampled_from([*kinds, "chain", "chain"]))
        self.program.append(edge)
        if kind == "identity":
            self.program.append(0)
        elif kind == "pool":
            self.program += [1, int(draw(st.booleans())), draw(st.sampled_from([1, 3, 5, 7])), stride]
            self.norm(draw, channels)
        else:
            blocks = draw(st.integers(1, 3))
            self.program += [2, blocks]
            for number in range(blocks):
                last = number == blocks - 1
                first = "reduce" if number == 0 and stride == 2 and out % 2 == 0 else "1x3"
                block = draw(st.sampled_from(["depthwise", "depthwise", "1x1", "3x3", "3x1", first]))
                to = out if last else 2 * draw(st.integers(1, 20))
                if block == "reduce" and last:
                    to = out
                self.block(draw, block, channels, to, stride if number == 0 else 1)
                channels = to


@st.composite
def programs(draw, least=1) -> Program:
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
    drawn = Program(numbers.images(batch, channels, height, width), grads, numbers)
    for edge in draw(st.lists(st.integers(0, edges - 1), min_size=least, max_size=6)):
        drawn.option(draw, edge, channels, out, stride)
    return drawn
