# SPDX-License-Identifier: MIT
"""The architecture as a value: gates, what a search space is to a strategy, the spaces by name."""

from nasp_ext.arch.gates import MIXED, PRUNED, Choice, Gates
from nasp_ext.arch.registry import names, register_space, space
from nasp_ext.arch.search_space import SearchSpace, check_made_for

__all__ = [
    "MIXED",
    "PRUNED",
    "Choice",
    "Gates",
    "SearchSpace",
    "check_made_for",
    "names",
    "register_space",
    "space",
]
