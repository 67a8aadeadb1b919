# SPDX-License-Identifier: MIT
"""Spaces of cells whose nodes choose what they read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace, check_primitives
from nasp_ext.families.cells.genotype import Genotype


@dataclass(frozen=True)
class WiredSpace(SearchSpace):
    """A cell space in which each node chooses what it reads (Pham et al. 2018; Akimoto et al. 2019).

    A node sums ``slots`` terms, each an operation on one of the states before: the two cell inputs and the
    nodes so far. Its rows are the sources of the slots, then their operations. All nodes of the normal cell
    come first, then those of the reduction cell. The loose ends, which no node reads, are the output.

    Which nodes they are depends on the choices, and no gate scales them: the space has no gradient.

    Args:
        normal, reduce: names of the operations of either cell; nodes: intermediate nodes of a cell.
        slots: terms of a node; pool_norm: as for ``CellSpace``.
    Raises:
        ValueError: if a list is empty or repeats a name, or a number is too small.

    >>> from nasp_ext.arch import space
    >>> asng = space("asng-cnn")
    >>> asng.rows, asng.options, sum(len(asng.choices(row)) - 1 for row in range(asng.rows))
    (40, 6, 140)
    >>> asng.choices(4), asng.choices(6)[:2]
    (('input 0', 'input 1', 'node 0'), ('skip_connect', 'sep_conv_3x3'))
    """

    kind: ClassVar[str] = "topology"
    no_choice: ClassVar[tuple[str, ...]] = ("name", "pool_norm")
    normal: tuple[str, ...]
    reduce: tuple[str, ...]
    nodes: int = 5
    slots: int = 2
    pool_norm: bool = False

    def __post_init__(self) -> None:
        for cell in ("normal", "reduce"):
            object.__setattr__(self, cell, tuple(getattr(self, cell)))
            check_primitives(cell, getattr(self, cell))
        if self.nodes < 1 or self.slots < 1:
            found = f"nodes={self.nodes}, slots={self.slots}"
            raise ValueError(f"expected nodes >= 1 and slots >= 1, got {found}")

    @property
    def has_gradient(self) -> bool:
        return False

    @cached_property
    def rows(self) -> int:
        """R, the rows of A."""
        return 2 * self.nodes * 2 * self.slots

    @property
    def node_offsets(self) -> tuple[int, ...]:
        """Row bounds of the nodes, normal cell first."""
        return tuple(range(0, self.rows + 1, 2 * self.slots))

    def choices(self, row: int) -> tuple[str, ...]:
        node, position = divmod(self._checked(row), 2 * self.slots)
        if position < self.slots:
            node %= self.nodes
            return (*(f"input {i}" for i in range(2)), *(f"node {i}" for i in range(node)))
        return self.normal if node < self.nodes else self.reduce

    def terms(self, active: Sequence[int], reduction: bool) -> list[tuple[int, int, int]]:
        """(node, source, number of the operation) of every term of a cell, node by node.

        Args:    active: the option of each row.
        Raises:  ValueError: if a row has none, or one that it lacks.
        """
        found = []
        operations = len(self.reduce if reduction else self.normal)
        for node in range(self.nodes):
            first = 2 * self.slots * (node + reduction * self.nodes)
            for row in range(first, first + self.slots):
                source, operation = active[row], active[row + self.slots]
                if not 0 <= source < 2 + node or not 0 <= operation < operations:
                    missing = row if not 0 <= source < 2 + node else row + self.slots
                    raise ValueError(
                        f"expected an option of {self.choices(missing)} in row {missing} of space "
                        f"{self.name!r}, got number {active[missing]}"
                    )
                found.append((node, source, operation))
        return found

    def loose_ends(self, terms: Iterable[tuple[int, int, int]]) -> tuple[int, ...]:
        """The nodes, counted from 0, that no term of a cell reads."""
        read = {source - 2 for _, source, _ in terms}
        return tuple(node for node in range(self.nodes) if node not in read)

    def _genotype(self, active: tuple[int, ...]) -> AnyGenotype:
        """Cells whose loose ends are projected, equal terms of a node listed as often as they count."""
        fields: dict[str, Any] = {"projected": True}
        for cell, names in (("normal", self.normal), ("reduce", self.reduce)):
            terms = self.terms(active, cell == "reduce")
            fields[cell] = tuple((names[option], source) for _, source, option in terms)
            fields[f"{cell}_concat"] = tuple(2 + node for node in self.loose_ends(terms))
            fields[f"{cell}_nodes"] = (self.slots,) * self.nodes
        return Genotype(**fields)
