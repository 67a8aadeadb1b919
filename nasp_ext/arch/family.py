# SPDX-License-Identifier: MIT
"""What a family of search spaces brings, and the table of the known ones by kind."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace


class Family(ABC):
    """Spaces whose choices mean the same, with their genotypes, networks and drawings.

    ``nasp_ext.supernet``, ``derive``, ``derived_network``, ``genotype_from_json`` and the drawings of a run
    ask the family whose ``kind`` the space or the genotype names.

    Attributes:
        kind: its name; ``SearchSpace.kind`` and ``AnyGenotype.kind`` of its classes are the same.
        space: the class of its spaces; None if it has genotypes alone.
    """

    kind: ClassVar[str]
    space: ClassVar[type[SearchSpace] | None] = None

    @property
    def published(self) -> Mapping[str, AnyGenotype]:
        """Genotypes of the literature by name."""
        return {}

    @abstractmethod
    def supernet(self, space: Any, *sizes: Any, **options: Any) -> nn.Module:
        """A fresh network that holds every option of a space, called ``net(x, gates)``.

        Its attribute ``space`` is the space. Sizes are the family's own; every one has a default or a name.
        """

    @abstractmethod
    def derived(self, genotype: Any, *sizes: Any, **options: Any) -> nn.Module:
        """A fresh network of one architecture, called ``net(x)``; its attribute ``space`` is None."""

    @abstractmethod
    def derive(self, supernet: Any, gates: Gates, *, inherit_weights: bool) -> nn.Module:
        """The network that discrete gates of ``supernet.space`` choose, see ``nasp_ext.derive``."""

    def depends_on_input(self, genotype: Any, cells: int) -> bool:
        """Whether the output of a network of so many cells can differ from input to input at all."""
        return True

    @abstractmethod
    def drawings(self, genotype: Any) -> dict[str, str]:
        """SVG text by file name."""

    @abstractmethod
    def read(self, data: Mapping[str, Any]) -> AnyGenotype:
        """The genotype of parsed JSON, without its entry ``kind``.

        Raises:  ValueError: a field is missing, unknown or invalid.
        """

    def owns(self, data: Mapping[str, Any]) -> bool:
        """Whether parsed JSON that names no kind is a genotype of this family."""
        return False


_FAMILIES: dict[str, Family] = {}


def register_family(new: Family) -> None:
    """Make a family known by its kind.

    Raises:  TypeError: it is no family, or names no kind; ValueError: the kind is taken.
    """
    kind = getattr(new, "kind", None)
    if not isinstance(new, Family) or not isinstance(kind, str) or not kind:
        raise TypeError(f"expected a Family with a kind, got {type(new).__name__}")
    if kind in _FAMILIES:
        raise ValueError(f"expected a new kind of family, got {kind!r}, which is taken")
    _FAMILIES[kind] = new


def families() -> tuple[Family, ...]:
    """The registered families."""
    return tuple(_FAMILIES.values())


def family_named(kind: Any) -> Family:
    """The family of that kind.

    Raises:  ValueError: there is none; the message lists them.
    """
    if not isinstance(kind, str) or kind not in _FAMILIES:
        raise ValueError(f"expected a kind of search space, one of {', '.join(_FAMILIES)}, got {kind!r:.80}")
    return _FAMILIES[kind]


def family_of(value: SearchSpace | AnyGenotype) -> Family:
    """The family of a space or of a genotype.

    Raises:  TypeError: of no registered one.
    """
    kind = getattr(value, "kind", None)
    if kind not in _FAMILIES:
        raise TypeError(
            f"expected a space or genotype of a family, one of {', '.join(_FAMILIES)}, got "
            f"{type(value).__name__} of kind {kind!r}: register_family makes one known"
        )
    return _FAMILIES[kind]
