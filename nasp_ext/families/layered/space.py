# SPDX-License-Identifier: MIT
"""Spaces in which every layer has its own cell (Hao & Zhu 2021)."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.families.cells.edges import checked_reductions
from nasp_ext.families.cells.network import reduction_cells
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.layered.genotype import LayeredGenotype

_INPUTS = 2


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

    kind: ClassVar[str] = "layered"
    no_choice: ClassVar[tuple[str, ...]] = ("name", "attention")
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

    def in_layers(
        self, cells: int, *, attention: bool | None = None, reductions: tuple[int, int] | None = None
    ) -> "LayeredSpace":
        if cells != self.cells:
            raise ValueError(f"expected {self.cells} layers of space {self.name!r}, got {cells}")
        kept = self.attention if attention is None else attention
        places = self.reductions if reductions is None else reductions
        if (kept, places) == (self.attention, self.reductions):
            return self
        return replace(self, attention=kept, reductions=places)

    @property
    def depth(self) -> int:
        """The layers."""
        return self.cells

    @cached_property
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

    def edge_name(self, row: int) -> str:
        return self.cell.edge_name(self.cell_row(row))

    def title(self, row: int) -> str:
        return f"{self._checked(row) // self.cell.edges + 1:02d} {self.edge_name(row)}"

    def selectable(self) -> Tensor:
        """(R, K) bool: what the cell lets an architecture choose."""
        same = [self.cell_row(row) for row in range(self.rows)]
        return self.cell.selectable()[same, : self.options]

    def _genotype(self, active: tuple[int, ...]) -> AnyGenotype:
        """The cells in which the active options stand, edge for edge."""
        layers = [self.cell.kept(self, rows, active) for rows in self.cell_rows]
        pairs, counts = zip(*layers, strict=True)
        return LayeredGenotype(pairs, counts, self.cell.concat, self.reductions)
