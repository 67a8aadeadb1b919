# SPDX-License-Identifier: MIT
"""What the cells of a network are made of, read from a search space or from a genotype."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from nasp_ext.families.cells.genotype import CellsGenotype
from nasp_ext.families.cells.space import CellSpace, EdgeSpace


@dataclass(frozen=True)
class EdgeLayout:
    """One edge: into ``node`` (from 0), out of state ``source`` (the cell inputs come first)."""

    node: int
    source: int
    primitives: tuple[str, ...]
    row: int | None  # of the gates that mix the primitives; None: the edge holds its one primitive
    attention: bool = False  # mixes several primitives, with the gates as the prior
    times: int = 1  # how often its output counts
    partial_channels: int = 1  # C / this many channels go through the primitives


@dataclass(frozen=True)
class CellLayout:
    """A cell of fixed edges.

    Args:
        edges: node by node; concat: the states whose concatenation is the output.
        projected: a ``Projection`` follows it.
    """

    edges: tuple[EdgeLayout, ...]
    nodes: int
    concat: tuple[int, ...]
    inputs: int = 2
    projected: bool = False

    @property
    def width(self) -> int:
        """How many times the channels of a node the output has."""
        return 1 if self.projected else len(self.concat)

    @classmethod
    def of_space(cls, space: EdgeSpace, rows: Iterable[int], cell: CellSpace) -> "CellLayout":
        """The cell with these rows of a space, all of one cell, whose nodes are as ``cell`` says."""
        edges = tuple(
            EdgeLayout(
                *space.edge(row),
                space.choices(row),
                row,
                space.attention,
                partial_channels=space.partial_channels,
            )
            for row in rows
        )
        return cls(edges, cell.nodes, cell.concat, cell.inputs)

    @classmethod
    def of_genotype(cls, genotype: CellsGenotype, cell: str, partial_channels: int = 1) -> "CellLayout":
        """A cell by its name in ``genotype.cells``."""
        given = genotype.cell_edges(cell)
        counted = Counter(given).items() if genotype.projected else [(edge, 1) for edge in given]
        edges = tuple(
            EdgeLayout(node, source, (name,), None, times=times, partial_channels=partial_channels)
            for (node, name, source), times in counted
        )
        nodes = len(genotype.nodes(cell))
        return cls(edges, nodes, genotype.output(cell), genotype.inputs, genotype.projected)


@dataclass(frozen=True)
class Place:
    """Where in its network a cell stands.

    Args:
        previous: channels of the two inputs; channels: of every node.
        reduction: the cell halves height and width.
        shrunk: the cell before this one does, so that the older input has twice the height and width.
    """

    previous: tuple[int, int]
    channels: int
    reduction: bool
    shrunk: bool


@dataclass(frozen=True)
class Norms:
    """How the BatchNorms of a network are set, see ``MixedOp``."""

    affine: bool
    pool_norm: bool
    update_unselected_stats: bool = True


class NetworkCell(nn.Module):
    """What stands in a place of a network: called as ``cell(s0, s1, choices, drop_path_prob, gates)``."""

    def derived_edges(self, active: Sequence[int]) -> list[str]:
        """Where the modules of the derived cell's edges are in this one; active: the option of each row."""
        return []

    def derived_tensors(self, active: Sequence[int]) -> dict[str, Tensor]:
        """What the state of the derived cell has under names of its own."""
        return {}


class CellMaker(Protocol):
    """Makes the cell of a place.

    Attributes:
        inputs: of the cell, 2 or 1; width: how many times the channels of a node its output has.
    """

    @property
    def inputs(self) -> int: ...
    @property
    def width(self) -> int: ...
    def __call__(self, place: Place, norms: Norms) -> NetworkCell: ...
