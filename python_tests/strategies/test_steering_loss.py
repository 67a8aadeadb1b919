# SPDX-License-Identifier: MIT
"""What strategies take: a plain function or a steering loss, a context, a probe at the end of an epoch."""

import ast
from pathlib import Path

import pytest
import torch
from strategy_cases import SMALL, STEERED, ToyLoss, advance, build, space_for

from nasp_ext import strategies
from nasp_ext.strategies import StrategyContext, context_options, strategy

DIFFERENTIATING = ["darts", "gdas", "nasp", "pa", "pa-lazy", "pc-darts"]


class Recording(ToyLoss):
    """A steering loss, whose gradient is twice that of its value."""

    def __init__(self) -> None:
        self.asked = 0

    def gradient(self, gates):
        self.asked += 1
        return self(gates).detach(), -2 * self.gain.to(gates.weight)


class Doubled(ToyLoss):
    def __call__(self, gates):
        return 2 * super().__call__(gates)


def test_no_strategy_calls_autograd_itself():
    folder = Path(strategies.__file__).parent
    using = {
        file.name
        for file in folder.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("autograd", "backward")
    }
    assert using == {"gradients.py"}


@pytest.mark.parametrize("name", DIFFERENTIATING)
def test_the_gradient_is_that_of_the_loss_where_it_has_one(name):
    given, plain = build(name, SMALL, 1), build(name, SMALL, 1)
    loss = Recording()
    for _ in range(3):
        given.step(loss)
        plain.step(lambda gates: Doubled()(gates))
    assert loss.asked == 3
    assert torch.equal(given.scores(), plain.scores())


@pytest.mark.parametrize("name", ["asng", "random"])
def test_strategies_that_learn_from_losses_ask_for_no_gradient(name):
    loss = Recording()
    for _ in range(3):
        build(name, SMALL, 1).step(loss)
    assert loss.asked == 0


def test_the_context_goes_to_the_options_of_the_same_name():
    assert context_options("asm") == ("device", "dtype")
    assert context_options("nasp") == ("seed", "device", "dtype", "costs")
    context = StrategyContext(seed=3, dtype=torch.float64, steps=7, costs=torch.ones(4, 4))
    assert context.options("gdas") == {"seed": 3, "dtype": torch.float64, "steps": 7}
    for name in STEERED:
        made = strategy(name, SMALL, context=context)
        same = strategy(name, SMALL, **context.options(name))
        assert made.scores().dtype == torch.float64
        for step in range(2):
            advance(made, ToyLoss(), step)
            advance(same, ToyLoss(), step)
        assert torch.equal(made.scores(), same.scores())


def test_options_come_on_top_of_the_context():
    one = strategy("random", SMALL, context=StrategyContext(seed=1), seed=2)
    assert one.propose().active == strategy("random", SMALL, seed=2).propose().active
    assert one.propose().active != strategy("random", SMALL, seed=1).propose().active


class Probe:
    def __init__(self, liked) -> None:
        self.liked, self.asked = liked, 0

    def attention(self, gates):
        self.asked += 1
        return self.liked


@pytest.mark.parametrize("name", STEERED)
def test_the_end_of_an_epoch_is_nothing_to_who_steers(name):
    search, probe = build(name, SMALL, 1), Probe(None)
    before = search.scores()
    search.end_epoch(probe)
    assert probe.asked == 0
    assert torch.equal(search.scores(), before)
    assert search.steers
    assert not search.needs_attention


def test_who_looks_asks_for_attention_cell_by_cell():
    search = build("asm", SMALL, 1)
    liked = torch.rand(search.scores().shape, generator=torch.Generator().manual_seed(0))
    probe = Probe(liked)
    search.end_epoch(probe)
    assert probe.asked == 3
    torch.testing.assert_close(search.scores(), liked * space_for("asm", SMALL).mask())
    assert not search.steers
