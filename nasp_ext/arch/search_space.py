# SPDX-License-Identifier: MIT
"""What a search space is to a strategy."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from nasp_ext.arch.gates import MIXED, Gates
from nasp_ext.arch.genotype import AnyGenotype


@dataclass(frozen=True)
class SearchSpace(ABC):
    """What a strategy knows of a search space: an ordered list of R choices with up to K options each.

    What the choices mean, the family knows that has the same ``kind``: see ``arch.Family``.

    Attributes:
        kind: of the family; a space that no network is built of needs none.
        no_choice: fields that say what a space is called and how its options are mixed, not what they are.
    """

    kind: ClassVar[str] = ""
    no_choice: ClassVar[tuple[str, ...]] = ("name",)
    name: str

    def __new__(cls, *arguments: Any, **options: Any) -> "SearchSpace":
        if cls is SearchSpace:
            raise TypeError(
                "expected a space of a family, such as CellSpace(name, normal, reduce), got SearchSpace, "
                "which says what all of them have"
            )
        return super().__new__(cls)

    @property
    def edges_per_node(self) -> int | None:
        """How many rows of a node an architecture keeps, None = all."""
        return None

    @property
    def partial_channels(self) -> int:
        """In a supernet C / this many channels of an edge go through its options (Xu et al. 2020)."""
        return 1

    @property
    def has_gradient(self) -> bool:
        """Whether the loss has a gradient with respect to the gates."""
        return True

    @property
    def attention(self) -> bool:
        """Whether edges of which several options run are mixed by the attention of each image."""
        return False

    @property
    def tabular(self) -> bool:
        """Whether its architectures have a text in tables of trained cells, see ``AnyGenotype.to_arch``."""
        return False

    @property
    @abstractmethod
    def rows(self) -> int:
        """R, the rows of A."""

    @property
    @abstractmethod
    def node_offsets(self) -> tuple[int, ...]:
        """Row bounds of the nodes: node n owns rows offsets[n] … offsets[n + 1] - 1."""

    @abstractmethod
    def choices(self, row: int) -> tuple[str, ...]:
        """The names of the options of a row."""

    @property
    def cell_rows(self) -> tuple[range, ...]:
        """The rows of each cell that has rows of its own, in order."""
        return (range(self.rows),)

    def is_reduction(self, row: int) -> bool:
        """Whether a row is of a cell that reduces."""
        return False

    def cell_row(self, row: int) -> int:
        """The row that has the same choice in the space whose layers share their cells."""
        return self._checked(row)

    def edge_name(self, row: int) -> str:
        """What a row is called within its cell."""
        return f"choice {self._checked(row)}"

    def title(self, row: int) -> str:
        """What a row is called in a drawing."""
        return self.edge_name(row)

    def with_partial_channels(self, divisor: int) -> "SearchSpace":
        """The same choices, of supernets in which C / divisor channels of an edge go through its options.

        Raises:  ValueError: its networks cannot do that.
        """
        raise ValueError(f"expected a space of cells for partial channels, got {self.name!r}")

    def with_edges_per_node(self, kept: int | None) -> "SearchSpace":
        """The same choices, of which an architecture keeps so many rows of a node; None = all.

        Raises:  ValueError: it has no such number.
        """
        if kept == self.edges_per_node:
            return self
        raise ValueError(f"expected a space of cells to keep {kept} edges per node, got {self.name!r}")

    def in_layers(
        self, cells: int, *, attention: bool | None = None, reductions: tuple[int, int] | None = None
    ) -> "SearchSpace":
        """The space in which every one of ``cells`` layers has these choices for itself.

        Args:
            attention: see the property; None = as it is.
            reductions: the two layers, from 0, that reduce; None = at 1/3 and 2/3 of the depth, or as it is.
        Raises:  ValueError: its layers cannot differ.
        """
        raise ValueError(f"expected a space of cells to give each layer one, got {self.name!r}")

    def genotype(self, gates: Gates) -> AnyGenotype:
        """The architecture that discrete gates choose, as data.

        Raises:  ValueError: if they are dense, of another space, or choose an option their row lacks.
        """
        return self._genotype(self.discrete(gates))

    def _genotype(self, active: tuple[int, ...]) -> AnyGenotype:
        """The architecture with these options, one for each row, which have been checked."""
        raise TypeError(f"expected a space with genotypes, got {self.name!r} of {type(self).__name__}")

    def discrete(self, gates: Gates) -> tuple[int, ...]:
        """The option of each row of discrete gates, PRUNED for none.

        Raises:  ValueError: as ``genotype`` raises.
        """
        if gates.weight.shape != (self.rows, self.options):
            found = f"{(self.rows, self.options)}, got {tuple(gates.weight.shape)}"
            raise ValueError(f"expected gates of space {self.name!r}, {found}")
        if gates.active is None or MIXED in gates.active:
            raise ValueError("expected discrete gates, got dense rows: ops.select_active makes them")
        for row, option in enumerate(gates.active):
            if option >= len(self.choices(row)):
                raise ValueError(
                    f"expected an option of {self.choices(row)} in row {row}, got number {option}"
                )
        return gates.active

    @cached_property
    def options(self) -> int:
        """K, the columns of A: the length of the longest row."""
        return max(len(self.choices(row)) for row in range(self.rows))

    def mask(self) -> Tensor:
        """(R, K) bool: True where the option exists."""
        lengths = torch.tensor([len(self.choices(row)) for row in range(self.rows)])
        return torch.arange(self.options) < lengths[:, None]

    def selectable(self) -> Tensor:
        """(R, K) bool: the options that an architecture may choose."""
        return self.mask()

    @property
    def architectures(self) -> int:
        """How many settings of the choices there are: of each node the rows it keeps, and their options.

        >>> from nasp_ext.arch import space
        >>> space("nas-bench-201").architectures == 5**6
        True
        """
        options = self.selectable().sum(1).tolist()
        total = 1
        for first, end in pairwise(self.node_offsets):
            rows = end - first
            kept = rows if self.edges_per_node is None else min(self.edges_per_node, rows)
            ways = [1, *(0 for _ in range(kept))]  # to keep 0, 1, … of the rows so far
            for count in options[first:end]:
                ways = [1, *(more + count * fewer for fewer, more in pairwise(ways))]
            total *= ways[kept]
        return total

    def _checked(self, row: int) -> int:
        if not 0 <= row < self.rows:
            raise ValueError(f"expected a row of space {self.name!r} in 0..{self.rows - 1}, got {row}")
        return row


def check_space(space: SearchSpace) -> None:
    """Raise ValueError unless rows, nodes and choices of a space fit together.

    >>> from nasp_ext.arch import space
    >>> check_space(space("darts"))
    """
    rows, offsets = space.rows, tuple(space.node_offsets)
    if not isinstance(rows, int) or rows < 1:
        raise ValueError(f"expected space {space.name!r} to have one row or more, got {rows!r}")
    if offsets[:1] != (0,) or offsets[-1] != rows or list(offsets) != sorted(offsets):
        raise ValueError(
            f"expected node_offsets of space {space.name!r} to go up from 0 to its {rows} rows, got {offsets}"
        )
    for row in range(rows):
        names = space.choices(row)
        words = isinstance(names, tuple | list) and all(isinstance(name, str) for name in names)
        if not words or not names or len(set(names)) < len(names):
            raise ValueError(
                f"expected choices({row}) of space {space.name!r} to be different names, at least one, "
                f"got {names!r}"
            )


def check_made_for(own: object, space: SearchSpace) -> None:
    """Refuse a strategy that was made for other choices than a network has.

    Names do not count, nor does how a network mixes its options: what may be chosen is the same.

    Args:    own: ``strategy.space``; None of a strategy that does not tell.
    Raises:  ValueError: the spaces differ.
    """
    if isinstance(own, SearchSpace) and _choices(own) != _choices(space):
        same = " (another space of that name)" if own.name == space.name else ""
        raise ValueError(
            f"expected a strategy made for space {space.name!r}, got one made for {own.name!r}{same}"
        )


def _choices(found: SearchSpace) -> tuple[Any, ...]:
    """All that a strategy can tell of a space."""
    own = [field.name for field in fields(found) if field.name not in found.no_choice]
    values = [getattr(found, name) for name in own]
    return type(found), *((_choices(value) if isinstance(value, SearchSpace) else value) for value in values)


def check_primitives(cell: str, names: tuple[str, ...]) -> None:
    """Raises ValueError if a list of primitives is empty or repeats one."""
    if not names or len(set(names)) != len(names):
        raise ValueError(f"expected {cell} primitives without repetition, at least one, got {names}")
