# SPDX-License-Identifier: MIT
"""The spaces of the literature, and one's own, by name."""

from typing import TypeVar

from nasp_ext.arch.search_space import SearchSpace, check_space

_S = TypeVar("_S", bound=SearchSpace)
_SPACES: dict[str, SearchSpace] = {}


def space(name: str) -> SearchSpace:
    """The registered space of that name.

    Raises:  ValueError: if there is none; the message lists the names.
    >>> space("nasp").choices(14)
    ('skip_connect', 'avg_pool_3x3', 'max_pool_3x3', 'max_pool_5x5', 'max_pool_7x7')
    """
    if not isinstance(name, str) or name not in _SPACES:
        raise ValueError(f"expected the name of a search space, one of {sorted(_SPACES)}, got {name!r}")
    return _SPACES[name]


def names() -> tuple[str, ...]:
    """The registered spaces."""
    return tuple(_SPACES)


def register_space(new: _S) -> _S:
    """Make a space of one's own known by its name; registering an equal one again is allowed.

    Raises:
        ValueError: if the name belongs to a different space, or rows, nodes and choices do not fit together.
        TypeError: if ``new`` is no space.
    """
    if not isinstance(new, SearchSpace) or not isinstance(new.name, str):
        raise TypeError(f"expected a search space with a name, got {type(new).__name__}: {new!r:.80}")
    check_space(new)
    if _SPACES.setdefault(new.name, new) != new:
        raise ValueError(f"expected a new name for a search space, got {new.name!r}, which is taken")
    return new
