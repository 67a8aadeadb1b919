# SPDX-License-Identifier: MIT
"""Genotypes in which every layer has its own cell."""

import json
from dataclasses import asdict, dataclass
from typing import ClassVar

from nasp_ext.families.cells.edges import Edge, check_cell, checked_counts, checked_edges, checked_list
from nasp_ext.families.cells.genotype import CellsGenotype

_INPUTS = 2


@dataclass(frozen=True)
class LayeredGenotype(CellsGenotype):
    """One cell for each layer, a list of (primitive, source) pairs, node by node.

    Its methods are those of ``Genotype``; a cell is named by its layer, from "01".

    Args:
        layers: the edges of each; source 0 and 1 are the two cells before, 2 the first node, …
        layer_nodes: how many of the pairs enter each intermediate node of each layer.
        concat: the nodes whose concatenation is the output of each layer (2 is the first).
    Raises:
        ValueError: if an edge names a source that does not exist yet, or the counts do not add up.

    >>> cells = LayeredGenotype(((("sep_conv_3x3", 0),), (("skip_connect", 1),)), ((1,), (1,)), (2,))
    >>> cells.cell_edges("02")
    ((0, 'skip_connect', 1),)
    """

    kind: ClassVar[str] = "layered"
    layers: tuple[tuple[Edge, ...], ...]
    layer_nodes: tuple[tuple[int, ...], ...]
    concat: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("layers", "layer_nodes", "concat"):
            object.__setattr__(self, name, checked_list(name, getattr(self, name)))
        if not self.layers or len(self.layer_nodes) != len(self.layers):
            found = f"{len(self.layers)} layers and counts for {len(self.layer_nodes)}"
            raise ValueError(f"expected layers, at least one, and layer_nodes for each, got {found}")
        edges, nodes = [], []
        for number, (pairs, counts) in enumerate(zip(self.layers, self.layer_nodes, strict=True)):
            name = f"layers[{number}]"
            edges.append(checked_edges(name, pairs))
            nodes.append(checked_counts(name, edges[-1], checked_list(f"layer_nodes[{number}]", counts)))
        object.__setattr__(self, "layers", tuple(edges))
        object.__setattr__(self, "layer_nodes", tuple(nodes))
        for number, cell in enumerate(self.cells):
            check_cell(f"layers[{number}]", self.cell_edges(cell), self.nodes(cell), self.concat, _INPUTS)

    @property
    def inputs(self) -> int:
        """Of a cell, always the two cells before."""
        return _INPUTS

    @property
    def projected(self) -> bool:
        return False

    @property
    def depth(self) -> int:
        """The layers."""
        return len(self.layers)

    @property
    def cells(self) -> tuple[str, ...]:
        """The names of the cells, "01", "02", …"""
        return tuple(f"{number:02d}" for number in range(1, len(self.layers) + 1))

    def pairs(self, cell: str) -> tuple[Edge, ...]:
        """(primitive, source) of every edge of a cell."""
        return self.layers[self.cells.index(cell)]

    def nodes(self, cell: str) -> tuple[int, ...]:
        """The number of edges into each intermediate node of a cell."""
        return self.layer_nodes[self.cells.index(cell)]

    def output(self, cell: str) -> tuple[int, ...]:
        """The states whose concatenation is the output of a cell."""
        return self.concat

    def to_json(self) -> str:
        """One line of JSON that ``genotype_from_json`` reads back to an equal genotype."""
        return json.dumps(asdict(self))
