# SPDX-License-Identifier: MIT
"""What the cells of a network are made of, read from a search space or from a genotype."""

from dataclasses import dataclass

from ..genotypes import Genotype
from ..space import SearchSpace


@dataclass(frozen=True)
class EdgeLayout:
    """One edge: into ``node`` (from 0), out of state ``source`` (the cell inputs come first)."""

    node: int
    source: int
    primitives: tuple[str, ...]
    row: int | None  # of the gates that mix the primitives; None: the edge holds its one primitive


@dataclass(frozen=True)
class CellLayout:
    """A cell: its edges, node by node; the states whose concatenation is the output; the inputs it reads."""

    edges: tuple[EdgeLayout, ...]
    nodes: int
    concat: tuple[int, ...]
    inputs: int = 2

    @classmethod
    def of_space(cls, space: SearchSpace, reduction: bool) -> "CellLayout":
        rows = [row for row in range(space.rows) if space.is_reduction(row) == reduction]
        edges = tuple(EdgeLayout(*space.edge(row), space.primitives(row), row) for row in rows)
        return cls(edges, space.nodes, space.concat, space.inputs)

    @classmethod
    def of_genotype(cls, genotype: Genotype, reduction: bool) -> "CellLayout":
        cell = "reduce" if reduction else "normal"
        concat = genotype.reduce_concat if reduction else genotype.normal_concat
        edges = tuple(
            EdgeLayout(node, source, (name,), None) for node, name, source in genotype.cell_edges(cell)
        )
        return cls(edges, len(genotype.nodes(cell)), concat, genotype.inputs)


@dataclass(frozen=True)
class Norms:
    """How the BatchNorms of a network are set, see ``MixedOp``."""

    affine: bool
    pool_norm: bool
    update_unselected_stats: bool = True
