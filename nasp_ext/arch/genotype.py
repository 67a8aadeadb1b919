# SPDX-License-Identifier: MIT
"""What every family's genotype has: the one architecture that a search found, as data."""

from abc import ABC, abstractmethod
from typing import ClassVar


class AnyGenotype(ABC):
    """One architecture as data; immutable, equal to another if it says the same.

    Attributes:
        kind: the family whose networks it describes, see ``Family``.
    """

    kind: ClassVar[str]

    @property
    def depth(self) -> int | None:
        """How many cells or layers its network has; None = any number."""
        return None

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of all that was chosen, one after the other."""
        return ()

    @abstractmethod
    def to_json(self) -> str:
        """One line of JSON that ``genotype_from_json`` reads back to an equal genotype.

        An object; its entry ``kind`` names the family, and stands in front.
        """

    def to_arch(self) -> str:
        """The text ``|op~0|+|op~0|op~1|+…`` under which tables of trained cells have it.

        Raises:  ValueError: it has no such text.
        """
        raise ValueError(f"expected a cell of one input to look up, got a genotype of kind {self.kind!r}")
