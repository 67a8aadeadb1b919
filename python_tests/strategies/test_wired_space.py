# SPDX-License-Identifier: MIT
"""Strategies on a space whose nodes choose what they read."""

import pytest
from strategy_cases import NAMES, STEERED

from nasp_ext.arch.registry import space
from nasp_ext.strategies import strategy

WIRED = space("asng-cnn")
NEED_A_GRADIENT = {"nasp", "darts", "darts-2nd", "gdas", "pa", "pa-lazy", "pc-darts"}


@pytest.mark.parametrize("name", sorted(NEED_A_GRADIENT & set(NAMES)))
def test_strategies_that_need_a_gradient_say_so(name):
    with pytest.raises(ValueError, match=f"losses alone .*random.* space 'asng-cnn'.* got '{name}'"):
        strategy(name, WIRED)


@pytest.mark.parametrize("name", sorted(set(STEERED) - NEED_A_GRADIENT))
def test_every_row_keeps_an_option_that_it_has(name):
    search, mask = strategy(name, WIRED, seed=1), WIRED.mask()
    for _ in range(8):
        for gates in (*search.proposals(), search.best()):
            assert gates.unit
            assert mask[range(40), gates.active].all()
            assert min(gates.active) >= 0
        search.step(lambda gates: gates.weight[:, 0].sum())
