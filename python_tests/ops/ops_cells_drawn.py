# SPDX-License-Identifier: MIT
"""Hypothesis strategies for whole cells, written from csrc/program/cell_program.h and cell_sources.h."""

from dataclasses import dataclass, field

import torch
from hypothesis import strategies as st
from ops_blocks_drawn import DTYPES, SEEDS, Numbers
from ops_programs_drawn import Program
from torch import Tensor


@dataclass
class DrawnCell:
    """The arguments of ``cell_forward``, and those that ``cell_backward`` has besides."""

    inputs: list[Tensor]
    cell: Program
    factors: Tensor | None
    size: list[int]
    concat: list[int]
    flags: tuple[bool, bool, list[int]]  # weighted, need_weights, need_inputs
    sources: list[int] = field(default_factory=list)
    source: Program | None = None

    def forward(self):
        c = self.cell
        return (self.inputs, c.program, c.weights, c.statistics, c.floats, self.factors, self.size)

    def backward(self, grad: Tensor, kept: list[Tensor]):
        c, s = self.cell, self.source
        lists = ([], [], [], []) if s is None else (self.sources, s.weights, s.statistics, s.floats)
        return (grad, self.inputs, kept, c.program, c.weights, c.floats, self.factors, *self.flags, *lists)


@st.composite
def cells(draw) -> DrawnCell:
    """One or two inputs, up to three nodes, of which some may have no edge or be no part of the output."""
    batch, channels, height, width = draw(st.tuples(*(st.integers(2, most) for most in (3, 20, 7, 7))))
    numbers = Numbers(draw(SEEDS), draw(DTYPES))
    inputs, nodes = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    states = range(inputs, inputs + nodes)
    concat = draw(st.lists(st.sampled_from(states), min_size=1, max_size=nodes, unique=True))
    cell = Program(torch.empty(0), [], numbers)
    cell.program += [inputs, nodes, len(concat), *concat]
    images = []
    for _ in range(inputs):
        before = draw(st.booleans())
        cell.program.append(int(before))
        given = draw(st.integers(1, 20)) if before else channels
        images.append(numbers.images(batch, given, height, width))
        if before:
            cell.program += [2, 1]
            cell.block(draw, draw(st.sampled_from(["1x1", "3x3"])), given, channels, 1)
    edges = [
        (node, source)
        for node in range(nodes)
        for source in draw(st.lists(st.integers(0, inputs + node - 1), max_size=3))
    ]
    cell.program.append(len(edges))
    for node, source in edges:
        cell.program += [node, source]
        cell.option(draw, draw(st.integers(0, 1)), channels, channels, 1)  # the number: mixed or not
    factors = numbers.normal(len(edges), batch) if edges and draw(st.booleans()) else None
    flags = (draw(st.booleans()), draw(st.booleans()), [draw(st.integers(0, 1)) for _ in range(inputs)])
    if flags[0] and factors is not None:  # gates: a number for each edge
        factors = factors[:, :1].expand(-1, batch).contiguous()
    drawn = DrawnCell(images, cell, factors, [channels, height, width], concat, flags)
    if draw(st.booleans()):
        _sources(draw, drawn, inputs, nodes, channels)
    return drawn


def _sources(draw, drawn: DrawnCell, inputs: int, nodes: int, channels: int) -> None:
    drawn.source = Program(torch.empty(0), [], drawn.cell.numbers)
    for state in range(inputs + nodes):
        behind = list(range(max(0, state - inputs + 1), nodes))
        to = draw(st.lists(st.sampled_from(behind), max_size=2)) if behind else []
        own = Program(torch.empty(0), [], drawn.cell.numbers)
        for edge in range(len(to)):
            for _ in range(draw(st.integers(1, 2))):
                own.option(draw, edge, channels, channels, 1)
        counts = [len(to), len(own.program), len(own.weights), len(own.statistics), len(own.floats)]
        drawn.sources += [*counts, *to, *own.program]
        drawn.source.weights += own.weights
        drawn.source.statistics += own.statistics
        drawn.source.floats += own.floats
