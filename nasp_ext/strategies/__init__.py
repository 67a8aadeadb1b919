# SPDX-License-Identifier: MIT
"""Search strategies: each proposes gates and learns from the loss at them; none knows a network."""

from nasp_ext.strategies.asm import ASMStrategy
from nasp_ext.strategies.asng import ASNGStrategy
from nasp_ext.strategies.base import (
    AttentionFn,
    AttentionStrategy,
    LossFn,
    Probe,
    SteeringLoss,
    Strategy,
    StrategyContext,
    context_options,
    names,
    register_strategy,
    strategy,
)
from nasp_ext.strategies.darts import DARTSStrategy
from nasp_ext.strategies.darts_second import SecondOrderDARTSStrategy
from nasp_ext.strategies.gdas import GDASStrategy
from nasp_ext.strategies.nasp import NASPStrategy
from nasp_ext.strategies.pa import LazyPAStrategy, PAStrategy
from nasp_ext.strategies.pc_darts import PCDARTSStrategy
from nasp_ext.strategies.random import RandomStrategy

register_strategy("nasp", NASPStrategy)
register_strategy("darts", DARTSStrategy)
register_strategy("darts-2nd", SecondOrderDARTSStrategy)
register_strategy("pc-darts", PCDARTSStrategy)
register_strategy("pa", PAStrategy)
register_strategy("pa-lazy", LazyPAStrategy)
register_strategy("asng", ASNGStrategy)
register_strategy("gdas", GDASStrategy)
register_strategy("random", RandomStrategy)
register_strategy("asm", ASMStrategy)

__all__ = [
    "ASMStrategy",
    "ASNGStrategy",
    "AttentionFn",
    "AttentionStrategy",
    "DARTSStrategy",
    "GDASStrategy",
    "LazyPAStrategy",
    "LossFn",
    "NASPStrategy",
    "PAStrategy",
    "PCDARTSStrategy",
    "Probe",
    "RandomStrategy",
    "SecondOrderDARTSStrategy",
    "SteeringLoss",
    "Strategy",
    "StrategyContext",
    "context_options",
    "names",
    "register_strategy",
    "strategy",
]
