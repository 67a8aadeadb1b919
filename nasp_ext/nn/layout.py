# SPDX-License-Identifier: MIT
"""What the cells of a network are made of, read from a search space or from a genotype."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..layered import AnyGenotype, LayeredSpace
from ..space import SearchSpace


@dataclass(frozen=True)
class EdgeLayout:
    """One edge: into ``node`` (from 0), out of state ``source`` (the cell inputs come first)."""

    node: int
    source: int
    primitives: tuple[str, ...]
    row: int | None  # of the gates that mix the primitives; None: the edge holds its one primitive
    attention: bool = False  # mixes several primitives, with the gates as the prior


@dataclass(frozen=True)
class CellLayout:
    """A cell: its edges, node by node; the states whose concatenation is the output; the inputs it reads."""

    edges: tuple[EdgeLayout, ...]
    nodes: int
    concat: tuple[int, ...]
    inputs: int = 2

    @classmethod
    def of_space(cls, space: SearchSpace | LayeredSpace, rows: Iterable[int]) -> "CellLayout":
        """The cell with these rows of the space, all of one cell."""
        cell = space.cell if isinstance(space, LayeredSpace) else space
        attention = isinstance(space, LayeredSpace) and space.attention
        edges = tuple(EdgeLayout(*space.edge(row), space.choices(row), row, attention) for row in rows)
        return cls(edges, cell.nodes, cell.concat, cell.inputs)

    @classmethod
    def of_genotype(cls, genotype: AnyGenotype, cell: str) -> "CellLayout":
        """A cell by its name in ``genotype.cells``."""
        edges = tuple(
            EdgeLayout(node, source, (name,), None) for node, name, source in genotype.cell_edges(cell)
        )
        return cls(edges, len(genotype.nodes(cell)), genotype.output(cell), genotype.inputs)


@dataclass(frozen=True)
class Norms:
    """How the BatchNorms of a network are set, see ``MixedOp``."""

    affine: bool
    pool_norm: bool
    update_unselected_stats: bool = True
