# SPDX-License-Identifier: MIT
"""Spaces of cells with a choice per edge: which operation stands on it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

from torch import Tensor

from nasp_ext.arch.family import family_named
from nasp_ext.arch.gates import PRUNED
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.primitive_names import NONE
from nasp_ext.arch.search_space import SearchSpace, check_primitives
from nasp_ext.families.cells.edges import Edge
from nasp_ext.families.cells.genotype import Genotype


class EdgeSpace(Protocol):
    """A space with a row for each edge of its cells."""

    @property
    def attention(self) -> bool: ...
    @property
    def partial_channels(self) -> int: ...
    def choices(self, row: int) -> tuple[str, ...]: ...
    def edge(self, row: int) -> tuple[int, int]: ...


@dataclass(frozen=True)
class CellSpace(SearchSpace):
    """A cell space, one choice per edge: rows 0 … edges-1 are the normal cell, the rest the reduction.

    Edges are numbered node by node, sources ascending: with two inputs, node 0 has the sources 0, 1 (the
    outputs of the two cells before), node 1 has 0, 1, 2 (2 is node 0), and so on.

    Args:
        name: the name it is found by.
        normal, reduce: names of the primitives an edge of the cell may hold, in the order of the options.
            No ``reduce``: there is one kind of cell, and residual blocks reduce.
        nodes: intermediate nodes of a cell.
        inputs: cell inputs: 2, the two cells before, or 1, the cell before (then without ``reduce``).
        edges_per_node: edges a node keeps, None = all.
        output: "concat", all intermediate nodes side by side, or "last", the last one alone.
        none_allowed: an architecture may choose ``none``; else it only takes part in mixtures.
        pool_norm: in a supernet a BN(affine=False) follows each pool.
        partial_channels: in a supernet C / this many channels of an edge go through its options, the others
            past them (``nn.PartialMixedOp``); 1 = all go through.
    Raises:
        ValueError: if a list is empty or repeats a name, a number is too small, or parts do not fit.

    >>> from nasp_ext.arch import space
    >>> space("darts").edges, space("darts").rows, space("darts").options
    (14, 28, 8)
    >>> space("nas-bench-201").edges, space("nas-bench-201").rows, space("nas-bench-201").options
    (6, 6, 5)
    """

    kind: ClassVar[str] = "cells"
    no_choice: ClassVar[tuple[str, ...]] = ("name", "partial_channels", "pool_norm")
    normal: tuple[str, ...]
    reduce: tuple[str, ...] = ()
    nodes: int = 4
    inputs: int = 2
    edges_per_node: int | None = 2
    output: str = "concat"
    none_allowed: bool = False
    pool_norm: bool = True
    partial_channels: int = 1

    def __post_init__(self) -> None:
        for cell in ("normal", "reduce"):
            object.__setattr__(self, cell, tuple(getattr(self, cell)))
        if self.inputs not in (1, 2):
            raise ValueError(f"expected a cell of 2 inputs (the two cells before it) or 1, got {self.inputs}")
        check_primitives("normal", self.normal)
        if self.inputs == 2:
            check_primitives("reduce", self.reduce)
        elif self.reduce:
            found = f"{self.reduce}: residual blocks reduce"
            raise ValueError(f"expected no reduce primitives beside cells of 1 input, got {found}")
        kept = self.edges_per_node
        if self.nodes < 1 or not (kept is None or 1 <= kept <= self.inputs):
            found = f"nodes={self.nodes}, inputs={self.inputs}, edges_per_node={kept}"
            raise ValueError(f"expected nodes >= 1 and edges_per_node None or 1 … inputs, got {found}")
        if self.partial_channels < 1:
            raise ValueError(f"expected partial_channels >= 1, got {self.partial_channels}")
        if self.output not in ("concat", "last"):
            raise ValueError(f"expected output to be 'concat' or 'last', got {self.output!r}")

    def with_partial_channels(self, divisor: int) -> "CellSpace":
        """The same choices, of supernets in which C / divisor channels of an edge go through its options.

        >>> from nasp_ext.arch import space
        >>> space("darts").with_partial_channels(4).name
        'darts-pc4'
        """
        return replace(self, name=f"{self.name}-pc{divisor}", partial_channels=divisor)

    def with_edges_per_node(self, kept: int | None) -> "CellSpace":
        return replace(self, edges_per_node=kept)

    def in_layers(
        self, cells: int, *, attention: bool | None = None, reductions: tuple[int, int] | None = None
    ) -> SearchSpace:
        layers: Any = family_named("layered").space  # another folder, which knows this one
        found: SearchSpace = layers.of(self, cells, attention=bool(attention), reductions=reductions)
        return found

    @property
    def tabular(self) -> bool:
        return self.inputs == 1 and self.output == "last"

    @cached_property
    def cell_edges(self) -> tuple[tuple[int, int], ...]:
        """(node, source) of every edge of one cell; nodes count from 0, sources from the cell inputs."""
        return tuple((node, source) for node in range(self.nodes) for source in range(self.inputs + node))

    @property
    def edges(self) -> int:
        return len(self.cell_edges)

    @property
    def kinds(self) -> int:
        """2 with reduction cells, else 1."""
        return 2 if self.reduce else 1

    @cached_property
    def rows(self) -> int:
        """R, the rows of A."""
        return self.kinds * self.edges

    @property
    def cell_rows(self) -> tuple[range, ...]:
        """The rows of each kind of cell."""
        return tuple(range(first, first + self.edges) for first in range(0, self.rows, self.edges))

    @property
    def node_offsets(self) -> tuple[int, ...]:
        """Row bounds of the nodes, normal cell first: node n owns rows offsets[n] … offsets[n + 1] - 1."""
        bounds = [0]
        for node in self.kinds * tuple(range(self.nodes)):
            bounds.append(bounds[-1] + self.inputs + node)
        return tuple(bounds)

    @property
    def concat(self) -> tuple[int, ...]:
        """The states whose concatenation is the output of a cell."""
        states = tuple(range(self.inputs, self.inputs + self.nodes))
        return states if self.output == "concat" else states[-1:]

    def is_reduction(self, row: int) -> bool:
        return self._checked(row) >= self.edges

    def primitives(self, row: int) -> tuple[str, ...]:
        """The options of a row, without the masked ones."""
        return self.reduce if self.is_reduction(row) else self.normal

    def choices(self, row: int) -> tuple[str, ...]:
        return self.primitives(row)

    def edge(self, row: int) -> tuple[int, int]:
        """(node, source) of a row."""
        return self.cell_edges[self._checked(row) % self.edges]

    def edge_name(self, row: int) -> str:
        node, source = self.edge(row)
        return f"{source}→{self.inputs + node}"

    def title(self, row: int) -> str:
        return f"{'reduce' if self.is_reduction(row) else 'normal'} {self.edge_name(row)}"

    def selectable(self) -> Tensor:
        """(R, K) bool: the mask, without ``none`` unless the space allows it."""
        keep = self.mask()
        for row in range(self.rows):
            if NONE in self.primitives(row) and not self.none_allowed:
                keep[row, self.primitives(row).index(NONE)] = False
        return keep

    def _genotype(self, active: tuple[int, ...]) -> AnyGenotype:
        """The cells in which the active options stand, edge for edge."""
        fields: dict[str, Any] = {"reduce": (), "reduce_concat": (), "inputs": self.inputs}
        for kind, rows in zip(("normal", "reduce"), self.cell_rows, strict=False):
            edges, counts = self.kept(self, rows, active)
            fields |= {kind: edges, f"{kind}_nodes": counts, f"{kind}_concat": self.concat}
        return Genotype(**fields)

    def kept(
        self, space: "EdgeSpace", rows: range, active: tuple[int, ...]
    ) -> tuple[tuple[Edge, ...], tuple[int, ...]]:
        """The edges of one cell, and how many enter each node.

        Args:    space: whose rows they are, this one or one made of it; active: the option of each row.
        """
        edges = [row for row in rows if active[row] != PRUNED]
        nodes = [space.edge(row)[0] for row in edges]
        pairs = tuple((space.choices(row)[active[row]], space.edge(row)[1]) for row in edges)
        return pairs, tuple(nodes.count(node) for node in range(self.nodes))
