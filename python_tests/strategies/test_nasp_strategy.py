# SPDX-License-Identifier: MIT
"""NASP as a strategy: exact gradient at Ā, one host copy per iteration, nothing left in the weights."""

from collections import Counter

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nasp_ext.arch.registry import space
from nasp_ext.strategies import NASPStrategy


def test_one_iteration_makes_one_host_copy(monkeypatch):
    copies = Counter()
    for name in ("tolist", "item", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__"):
        original = getattr(Tensor, name)

        def counted(self, *args, _name=name, _original=original, **kwargs):
            copies[_name, tuple(self.shape)] += 1
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(Tensor, name, counted)
    search = NASPStrategy(space("darts"))
    search.propose()
    copies.clear()
    for _ in range(3):
        search.step(lambda gates: gates.weight.sum())
        search.propose()
    assert copies == {("tolist", (28,)): 3}


class _Operators(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen[str(func.overloadpacket)] += 1
        return func(*args, **(kwargs or {}))


def test_one_iteration_is_one_fused_call():
    search = NASPStrategy(space("darts"))
    search.propose()
    with _Operators() as operators:
        search.step(lambda gates: gates.weight.sum())
    assert operators.seen["nasp_ext.nasp_step_"] == 1
    assert operators.seen["nasp_ext.select_active"] == 0


def test_weights_get_no_gradient_from_an_architecture_step():
    weights = torch.ones(8, requires_grad=True)
    search = NASPStrategy(space("darts"), lr=0.1)
    search.step(lambda gates: (gates.weight @ weights).sum())
    assert weights.grad is None


def test_a_moves_along_the_gradient_at_the_discrete_matrix():
    # Ā holds a_k = 0.5 at the first option; loss = Σ ā², so g = 2ā = 1 there and 0 elsewhere.
    search = NASPStrategy(space("nasp"), preset="paper", lr=0.25)
    search.step(lambda gates: gates.weight.pow(2).sum())
    expected = torch.full((28, 8), 0.5).masked_fill(~space("nasp").mask(), 0.0)
    expected[:, 0] = 0.25
    assert torch.equal(search.scores(), expected)


def test_regulariser_lowers_the_dear_options_by_what_they_cost():
    costs = torch.zeros(28, 8)
    costs[0, 0], costs[20, 0] = 21.0, 7.0  # p̄ = 28 / 28 rows
    search = NASPStrategy(space("nasp"), preset="paper", lr=0.01, eta=1.0, costs=costs)
    search.step(lambda gates: 0.0 * gates.weight.sum())
    scores = search.scores()
    assert scores[0, 0].item() == pytest.approx(0.5 - 0.01 * 2 * 21 * 0.5)
    assert scores[20, 0].item() == pytest.approx(0.5 - 0.01 * 2 * 7 * 0.5)
    assert scores[1, 0].item() == 0.5


def test_betas_and_weight_decay_are_those_of_adam():
    target = torch.randn(28, 8, dtype=torch.float64)
    options = {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.05}
    search = NASPStrategy(space("nasp"), dtype=torch.float64, **options)
    adam = torch.optim.Adam([search.scores().requires_grad_()], **options)
    (a,) = adam.param_groups[0]["params"]
    mask = space("nasp").mask()
    for _ in range(3):
        search.step(lambda gates: (gates.weight * target).sum())
        a.grad = target.masked_fill(~mask, 0.0)
        adam.step()
        a.data.clamp_(0, 1)
    torch.testing.assert_close(search.scores(), a.detach(), rtol=1e-12, atol=1e-12)


def test_weight_decay_shrinks_a_in_a_plain_step_too():
    search = NASPStrategy(space("nasp"), preset="paper", lr=0.25, weight_decay=0.5, dtype=torch.float64)
    search.step(lambda gates: 0.0 * gates.weight.sum())
    assert set(search.scores()[space("nasp").mask()].tolist()) == {0.5 - 0.25 * 0.5 * 0.5}


def test_a_state_of_other_betas_or_decay_is_refused():
    state = NASPStrategy(space("nasp"), betas=(0.9, 0.99)).state_dict()
    with pytest.raises(ValueError, match=r"param_groups\[0\].betas"):
        NASPStrategy(space("nasp")).load_state_dict(state)
    NASPStrategy(space("nasp"), betas=(0.9, 0.99)).load_state_dict(state)
    with pytest.raises(ValueError, match=r"param_groups\[0\].weight_decay"):
        NASPStrategy(space("nasp"), betas=(0.9, 0.99), weight_decay=0.0).load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"betas": (0.5, 1.0)}, "expected betas to be two numbers in"),
        ({"weight_decay": -1.0}, "expected weight_decay to be a finite number >= 0"),
        ({"preset": "paper", "betas": (0.9, 0.999)}, "expected no betas with preset 'paper'"),
    ],
)
def test_options_of_adam_that_cannot_be_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        NASPStrategy(space("nasp"), **options)


def test_eta_without_costs_is_a_clear_error():
    with pytest.raises(ValueError, match="needs cost"):
        NASPStrategy(space("nasp"), eta=0.1)


def test_none_is_selected_only_if_allowed():
    def favour_none(gates):
        return -10 * gates.weight[:, 0].sum()  # option 0 of the darts space is `none`

    never = NASPStrategy(space("darts"), lr=0.1)
    allowed = NASPStrategy(space("darts"), lr=0.1, allow_none=True)
    for _ in range(5):
        never.step(favour_none)
        allowed.step(favour_none)
    assert 0 not in never.propose().active
    assert 0 in allowed.propose().active


def test_edges_per_node_decides_how_many_rows_stay():
    one = NASPStrategy(space("darts"), edges_per_node=1).propose()
    every = NASPStrategy(space("darts"), edges_per_node=None).propose()
    assert sum(option != -1 for option in one.active) == 8
    assert sum(option != -1 for option in every.active) == 28


def test_it_finds_the_best_options_of_a_separable_loss():
    # F is linear in Ā with its own best option per row; NASP must end there from the constant start.
    gain = torch.rand(28, 8, generator=torch.Generator().manual_seed(2)).masked_fill(
        ~space("nasp").mask(), 0.0
    )
    search = NASPStrategy(space("nasp"), lr=0.01, preset="paper")
    for _ in range(30):  # too few for A to reach 1, where entries would tie
        search.step(lambda gates: -(gates.weight * gain).sum())
    assert search.propose().active == tuple(gain.argmax(1).tolist())
