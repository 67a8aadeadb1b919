# SPDX-License-Identifier: MIT
"""Every layer its own cell (Hao & Zhu 2021): a space with the choices of all layers, and its genotype."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from nasp_ext.arch.genotype_text import genotype_in
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.families.cells.edges import (
    Edge,
    check_cell,
    checked_counts,
    checked_edges,
    checked_list,
    is_int,
)
from nasp_ext.families.cells.genotype import GENOTYPES, Genotype
from nasp_ext.families.cells.space import CellSpace

_INPUTS = 2


def reduction_cells(cells: int, reductions: tuple[int, int] | None = None) -> tuple[int, int]:
    """The places, from 0, of the cells that reduce: those given, or 1/3 and 2/3 of the depth.

    >>> reduction_cells(8), reduction_cells(15, (4, 9))
    ((2, 5), (4, 9))
    """
    return (cells // 3, 2 * cells // 3) if reductions is None else reductions


def checked_reductions(found: Any, cells: int) -> tuple[int, int] | None:
    """Places of the reductions as a tuple, or None. Raises ValueError if they are none among ``cells``."""
    if found is None:
        return None
    places = checked_list("reductions", found)
    if len(places) != 2 or not all(map(is_int, places)) or not 0 <= places[0] < places[1] < cells:
        raise ValueError(
            f"expected reductions to be two places in order, from 0, below cells={cells}, got {found!r:.80}"
        )
    return places[0], places[1]


@dataclass(frozen=True)
class LayeredSpace(SearchSpace):
    """A cell space in which no two layers share a cell: row n · edges + e is edge e of layer n.

    Args:
        name: the name of the space.
        cell: what the edges of a normal and of a reduction cell may hold.
        cells: layers.
        attention: an edge of which several options run is mixed by the attention of each image
            (``nn.AttentionOp``), to which the gates are the prior; else by the gates alone.
        reductions: the two layers, from 0, that are reduction cells; None = at 1/3 and 2/3 of the depth.
    Raises:
        ValueError: if a number is too small, the cells have one input, or attention meets partial channels.

    >>> from nasp_ext.arch import space
    >>> LayeredSpace.of(space("darts"), 15).rows, LayeredSpace.of(space("darts"), 15).name
    (210, 'darts-x15')
    """

    cell: CellSpace
    cells: int
    attention: bool = False
    reductions: tuple[int, int] | None = None

    @classmethod
    def of(
        cls,
        cell: SearchSpace,
        cells: int,
        *,
        attention: bool = False,
        reductions: tuple[int, int] | None = None,
    ) -> "LayeredSpace":
        """The space named after its cell.

        Raises:  ValueError: if ``cell`` is no space of cells with two inputs.
        """
        if not isinstance(cell, CellSpace):
            raise ValueError(f"expected a space of cells to give each layer one, got {cell.name!r}")
        return cls(f"{cell.name}-x{cells}", cell, cells, attention, reductions)

    def __post_init__(self) -> None:
        if self.cells < 1:
            raise ValueError(f"expected cells >= 1, got {self.cells}")
        if self.cell.inputs != _INPUTS:
            raise ValueError(f"expected a space with reduction cells, got {self.cell.name!r}, which has none")
        object.__setattr__(self, "reductions", checked_reductions(self.reductions, self.cells))
        if self.attention and self.cell.partial_channels > 1:
            found = self.cell.partial_channels
            raise ValueError(f"expected partial_channels=1 for edges mixed by attention, got {found}")

    @property
    def partial_channels(self) -> int:
        return self.cell.partial_channels

    @property
    def edges_per_node(self) -> int | None:
        return self.cell.edges_per_node

    @property
    def rows(self) -> int:
        return self.cells * self.cell.edges

    @property
    def node_offsets(self) -> tuple[int, ...]:
        bounds = self.cell.node_offsets[: self.cell.nodes + 1]
        inner = (layer * self.cell.edges + bound for layer in range(self.cells) for bound in bounds[1:])
        return (0, *inner)

    @property
    def cell_rows(self) -> tuple[range, ...]:
        """The rows of each layer."""
        return tuple(range(first, first + self.cell.edges) for first in range(0, self.rows, self.cell.edges))

    def is_reduction(self, row: int) -> bool:
        return self._checked(row) // self.cell.edges in reduction_cells(self.cells, self.reductions)

    def choices(self, row: int) -> tuple[str, ...]:
        return self.cell.reduce if self.is_reduction(row) else self.cell.normal

    def edge(self, row: int) -> tuple[int, int]:
        """(node, source) of a row."""
        return self.cell.edge(self._checked(row) % self.cell.edges)

    def cell_row(self, row: int) -> int:
        """The row of ``cell`` that has the same edge and options."""
        return self.is_reduction(row) * self.cell.edges + row % self.cell.edges

    def selectable(self) -> Tensor:
        """(R, K) bool: what the cell lets an architecture choose."""
        same = [self.cell_row(row) for row in range(self.rows)]
        return self.cell.selectable()[same, : self.options]


@dataclass(frozen=True)
class LayeredGenotype:
    """One cell for each layer, a list of (primitive, source) pairs, node by node.

    Its methods are those of ``Genotype``; a cell is named by its layer, from "01".

    Args:
        layers: the edges of each; source 0 and 1 are the two cells before, 2 the first node, …
        layer_nodes: how many of the pairs enter each intermediate node of each layer.
        concat: the nodes whose concatenation is the output of each layer (2 is the first).
        reductions: as of ``LayeredSpace``.
    Raises:
        ValueError: if an edge names a source that does not exist yet, or the counts do not add up.

    >>> cells = LayeredGenotype(((("sep_conv_3x3", 0),), (("skip_connect", 1),)), ((1,), (1,)), (2,))
    >>> cells.cell_edges("02")
    ((0, 'skip_connect', 1),)
    """

    layers: tuple[tuple[Edge, ...], ...]
    layer_nodes: tuple[tuple[int, ...], ...]
    concat: tuple[int, ...]
    reductions: tuple[int, int] | None = None

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
        object.__setattr__(self, "reductions", checked_reductions(self.reductions, len(self.layers)))
        for number, cell in enumerate(self.cells):
            check_cell(f"layers[{number}]", self.cell_edges(cell), self.nodes(cell), self.concat, _INPUTS)

    @property
    def inputs(self) -> int:
        """Cell inputs, always the two cells before."""
        return _INPUTS

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

    def cell_edges(self, cell: str) -> tuple[tuple[int, str, int], ...]:
        """(node, primitive, source) of every edge of a cell; nodes count from 0."""
        pairs = iter(self.pairs(cell))
        return tuple((node, *next(pairs)) for node, n in enumerate(self.nodes(cell)) for _ in range(n))

    def to_json(self) -> str:
        """One line of JSON that ``genotype_from_json`` reads back to an equal genotype."""
        return json.dumps(
            {name: value for name, value in asdict(self).items() if (name, value) != ("reductions", None)}
        )


AnyGenotype = Genotype | LayeredGenotype


def genotype_from_json(data: str | Mapping[str, Any]) -> AnyGenotype:
    """Read a genotype of either form from text, see ``genotype_from_text``, or from parsed JSON.

    Raises:  ValueError: if there is none, or a field is missing, unknown or invalid.
    """
    if isinstance(data, str):
        return genotype_from_text(data)
    if not isinstance(data, Mapping) or "layers" not in data:
        return Genotype.from_json(data)
    fields = {"layers", "layer_nodes", "concat"}
    if set(data) - {"reductions"} != fields:
        found = sorted(map(str, data))
        raise ValueError(f"expected a layered genotype with the fields {sorted(fields)}, got {found}")
    return LayeredGenotype(**data)


def genotype_from_text(text: str, which: str | int | None = None) -> AnyGenotype:
    """Read a genotype of either form as ``Genotype.from_text`` does.

    Raises:  ValueError: as ``Genotype.from_text`` raises.
    """
    found = genotype_in(text, which)
    return Genotype.from_arch(found) if isinstance(found, str) else genotype_from_json(found)


def checked_genotype(value: Any) -> AnyGenotype:
    """The genotype itself. Raises TypeError if it is none: text has to be read first."""
    if isinstance(value, Genotype | LayeredGenotype):
        return value
    found = repr(value) if isinstance(value, str) and len(value) < 80 else type(value).__name__
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        raise TypeError(
            f"expected a Genotype of nasp_ext, got a named tuple {found}: Genotype(**value._asdict()) "
            "makes one of it"
        )
    raise TypeError(
        f"expected a Genotype, got {found}: Genotype.from_text reads text, "
        f"GENOTYPES[name] has the published ones, {', '.join(GENOTYPES)}"
    )
