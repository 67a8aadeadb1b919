# SPDX-License-Identifier: MIT
"""What the cells of a network are made of, read from a search space or from a genotype."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from nasp_ext.families.cells.genotype import Genotype
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.layered.space import AnyGenotype, LayeredSpace
from nasp_ext.families.topology.space import WiredSpace


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
    def of_space(cls, space: CellSpace | LayeredSpace, rows: Iterable[int]) -> "CellLayout":
        """The cell with these rows of the space, all of one cell."""
        cell = space.cell if isinstance(space, LayeredSpace) else space
        attention = isinstance(space, LayeredSpace) and space.attention
        partial = space.partial_channels
        edges = tuple(
            EdgeLayout(*space.edge(row), space.choices(row), row, attention, partial_channels=partial)
            for row in rows
        )
        return cls(edges, cell.nodes, cell.concat, cell.inputs)

    @classmethod
    def of_genotype(cls, genotype: AnyGenotype, cell: str, partial_channels: int = 1) -> "CellLayout":
        """A cell by its name in ``genotype.cells``."""
        projected = isinstance(genotype, Genotype) and genotype.projected
        given = genotype.cell_edges(cell)
        counted = Counter(given).items() if projected else [(edge, 1) for edge in given]
        edges = tuple(
            EdgeLayout(node, source, (name,), None, times=times, partial_channels=partial_channels)
            for (node, name, source), times in counted
        )
        return cls(edges, len(genotype.nodes(cell)), genotype.output(cell), genotype.inputs, projected)


@dataclass(frozen=True)
class WiredLayout:
    """A cell whose edges and output are chosen at each call."""

    space: WiredSpace
    reduction: bool
    inputs: int = 2
    width: int = 1

    @property
    def primitives(self) -> tuple[str, ...]:
        return self.space.reduce if self.reduction else self.space.normal

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Every (node, source) that there may be a term for."""
        return [(node, source) for node in range(self.space.nodes) for source in range(2 + node)]


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
