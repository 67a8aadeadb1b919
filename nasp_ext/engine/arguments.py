# SPDX-License-Identifier: MIT
"""What the functions of this package are given, before any work."""

from __future__ import annotations

from typing import Any, get_args

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.search_space import SearchSpace


def check_arguments(**given: tuple[object, Any]) -> None:
    """Raise TypeError for the first argument that is of another type than it should be.

    Args:    given: (value, type or union of types) by name.

    >>> check_arguments(out=(None, str | None), epochs=(3, int))
    """
    for name, (value, kind) in given.items():
        if not isinstance(value, kind):
            kinds = get_args(kind) or (kind,)
            words = ["None" if one is type(None) else one.__name__ for one in kinds]
            raise TypeError(
                f"expected {name} to be {_article(words)}, got {type(value).__name__}: {value!r:.80}"
            )


def check_gates(space: SearchSpace, gates: Gates) -> None:
    """Raise ValueError unless a network of ``space`` could run these gates, TypeError if they are none."""
    check_arguments(gates=(gates, Gates))
    expected = (space.rows, space.options)
    if gates.weight.shape != expected:
        raise ValueError(
            f"expected gates of space {space.name!r}, {expected}, got {tuple(gates.weight.shape)}"
        )
    if not bool(gates.weight.isfinite().all()):
        raise ValueError("expected gates of finite weights, got NaN or infinity")


def _article(words: list[str]) -> str:
    text = " or ".join(words)
    return text if text == "None" else f"{'an' if text[0] in 'AEIOaeio' else 'a'} {text}"
