# SPDX-License-Identifier: MIT
"""What a search space is to a strategy."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

# Fields of the spaces that say what a space is called and how its options are mixed, not what they are.
_NO_CHOICE = ("name", "partial_channels", "attention", "pool_norm")


@dataclass(frozen=True)
class SearchSpace(ABC):
    """What a strategy knows of a search space: an ordered list of R choices with up to K options each.

    ``supernet`` and ``genotype_of`` know what the choices of each subclass mean.
    """

    name: str

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
    own = [field.name for field in fields(found) if field.name not in _NO_CHOICE]
    values = [getattr(found, name) for name in own]
    return type(found), *((_choices(value) if isinstance(value, SearchSpace) else value) for value in values)


def check_primitives(cell: str, names: tuple[str, ...]) -> None:
    """Raises ValueError if a list of primitives is empty or repeats one."""
    if not names or len(set(names)) != len(names):
        raise ValueError(f"expected {cell} primitives without repetition, at least one, got {names}")
