# SPDX-License-Identifier: MIT
"""Search strategies: each proposes gates and learns from the loss at them; none knows a network."""

from nasp_ext.strategies.base import LossFn, Strategy, UnrolledLossFn, names, register_strategy, strategy
from nasp_ext.strategies.nasp import NASPStrategy
from nasp_ext.strategies.random import RandomStrategy

register_strategy("nasp", NASPStrategy)
register_strategy("random", RandomStrategy)

__all__ = [
    "LossFn",
    "NASPStrategy",
    "RandomStrategy",
    "Strategy",
    "UnrolledLossFn",
    "names",
    "register_strategy",
    "strategy",
]
