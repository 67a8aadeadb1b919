# SPDX-License-Identifier: MIT
"""Hypothesis strategies for whole cells, and for the options of cells that do not run."""

from dataclasses import dataclass

from hypothesis import strategies as st
from ops_blocks_drawn import DTYPES, SEEDS, Numbers
from ops_programs_drawn import drawn_block, drawn_option
from torch import Tensor

from nasp_ext.ops.program import Lists, encode_cell, encode_sources
from nasp_ext.ops.program_values import CellProgram, Option, ProgramEdge, SourceOption, StateSource


@dataclass
class DrawnCell:
    """The arguments of ``cell_forward``, and those that ``cell_backward`` has besides."""

    inputs: list[Tensor]
    numbers: Numbers
    cell: Lists
    factors: Tensor | None
    size: list[int]
    flags: tuple[bool, bool, list[int]]  # weighted, need_weights, need_inputs
    sources: Lists

    def forward(self):
        return (self.inputs, *self.cell, self.factors, self.size)

    def backward(self, grad: Tensor, kept: list[Tensor]):
        program, weights, _, floats = self.cell
        return (grad, self.inputs, kept, program, weights, floats, self.factors, *self.flags, *self.sources)


@st.composite
def cells(draw) -> DrawnCell:
    """One or two inputs, up to three nodes, of which some may have no edge or be no part of the output."""
    batch, channels, height, width = draw(st.tuples(*(st.integers(2, most) for most in (3, 20, 7, 7))))
    numbers = Numbers(draw(SEEDS), draw(DTYPES))
    inputs, nodes = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    states = range(inputs, inputs + nodes)
    concat = draw(st.lists(st.sampled_from(states), min_size=1, max_size=nodes, unique=True))
    images, preprocess = [], []
    for _ in range(inputs):
        before = draw(st.booleans())
        given = draw(st.integers(1, 20)) if before else channels
        images.append(numbers.images(batch, given, height, width))
        kind = draw(st.sampled_from(["1x1", "3x3"]))
        chain = (drawn_block(draw, numbers, kind, given, channels, 1),)
        preprocess.append(Option(chain=chain) if before else None)
    edges = [
        ProgramEdge(node, source, draw(st.booleans()), drawn_option(draw, numbers, channels, channels, 1))
        for node in range(nodes)
        for source in draw(st.lists(st.integers(0, inputs + node - 1), max_size=3))
    ]
    factors = numbers.normal(len(edges), batch) if edges and draw(st.booleans()) else None
    flags = (draw(st.booleans()), draw(st.booleans()), [draw(st.integers(0, 1)) for _ in range(inputs)])
    if flags[0] and factors is not None:  # gates: a number for each edge
        factors = factors[:, :1].expand(-1, batch).contiguous()
    cell = encode_cell(CellProgram(nodes, tuple(concat), tuple(preprocess), tuple(edges)))
    sources = _sources(draw, numbers, inputs, nodes, channels) if draw(st.booleans()) else []
    size = [channels, height, width]
    return DrawnCell(images, numbers, cell, factors, size, flags, encode_sources(sources))


def _sources(draw, numbers: Numbers, inputs: int, nodes: int, channels: int) -> list[StateSource]:
    found = []
    for state in range(inputs + nodes):
        behind = list(range(max(0, state - inputs + 1), nodes))
        to = draw(st.lists(st.sampled_from(behind), max_size=2)) if behind else []
        options = [
            SourceOption(edge, drawn_option(draw, numbers, channels, channels, 1))
            for edge in range(len(to))
            for _ in range(draw(st.integers(1, 2)))
        ]
        found.append(StateSource(tuple(to), tuple(options)))
    return found
