# SPDX-License-Identifier: MIT
"""The spaces of the literature, and one's own, by name."""

from typing import TypeVar

from .base import Space
from .edges import NONE, SearchSpace
from .wired import WiredSpace

_S = TypeVar("_S", bound=Space)

# Liu, Simonyan, Yang 2019 (DARTS), section 3.1; NASP searches it without `none`: `selectable()`.
_DARTS = (
    NONE,
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
# Yao et al. 2020, appendix B.3, as in the authors' released space (the printed list lacks sep_conv_7x7).
_NASP_NORMAL = (
    "skip_connect",
    "conv_3x1_1x3",
    "dil_conv_3x3",
    "conv_1x1",
    "conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
)
_NASP_REDUCE = ("skip_connect", "avg_pool_3x3", "max_pool_3x3", "max_pool_5x5", "max_pool_7x7")

# Akimoto et al. 2019 (ASNG-NAS), section 5.2, in the order of the text.
_ASNG = ("skip_connect", "sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3")
# Dong & Yang 2020 (NAS-Bench-201), section 2.1.
_NAS_BENCH_201 = (NONE, "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")

DARTS = SearchSpace("darts", _DARTS, _DARTS)
NAS_BENCH_201 = SearchSpace(
    "nas-bench-201",
    _NAS_BENCH_201,
    nodes=3,
    inputs=1,
    edges_per_node=None,
    output="last",
    none_allowed=True,
    pool_norm=False,
)
_SPACES: dict[str, Space] = {
    found.name: found
    for found in (
        DARTS,
        SearchSpace("nasp", _NASP_NORMAL, _NASP_REDUCE),
        NAS_BENCH_201,
        WiredSpace("asng-cnn", _ASNG, _ASNG),
    )
}


def space(name: str) -> Space:
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

    Raises:  ValueError: if the name belongs to a different space; TypeError: if ``new`` is no space.
    """
    if not isinstance(new, Space) or not isinstance(new.name, str):
        raise TypeError(f"expected a search space with a name, got {type(new).__name__}: {new!r:.80}")
    if _SPACES.setdefault(new.name, new) != new:
        raise ValueError(f"expected a new name for a search space, got {new.name!r}, which is taken")
    return new
