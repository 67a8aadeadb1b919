# SPDX-License-Identifier: MIT
"""Search spaces: the choices that a strategy makes, and what they are called."""

from .base import Space, check_made_for
from .edges import NONE, SearchSpace
from .known import DARTS, names, register_space, space
from .wired import WiredSpace

__all__ = [
    "DARTS",
    "NONE",
    "SearchSpace",
    "Space",
    "WiredSpace",
    "check_made_for",
    "names",
    "register_space",
    "space",
]
