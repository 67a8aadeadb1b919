# SPDX-License-Identifier: MIT
"""GDAS: samples in proportion to the softmax, the gradient of the Gumbel-softmax, a falling temperature."""

import pytest
import torch
from strategy_cases import SMALL, optimizer_gradient, set_matrix

from nasp_ext.arch.registry import space
from nasp_ext.strategies import strategy

SELECTABLE = SMALL.selectable()


def matrix():
    a = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return a.masked_fill(~SELECTABLE, 0.0)


def test_options_are_sampled_in_proportion_to_the_softmax():
    search = strategy("gdas", SMALL, lr=0.0, dtype=torch.float64, seed=2)
    set_matrix(search, matrix())
    counts, draws = torch.zeros(4, 4, dtype=torch.float64), 4000
    for _ in range(draws):
        search.step(lambda gates: gates.weight.sum())
        counts += search.propose().weight
    expected = draws * matrix().masked_fill(~SELECTABLE, -torch.inf).softmax(1)
    assert not counts[~SELECTABLE].any()
    chi2 = ((counts - expected) ** 2 / expected)[SELECTABLE].sum()
    assert chi2 < 16.8  # 10 options in 4 rows: 6 degrees of freedom, 1 %


@pytest.mark.parametrize("tau", [0.5, 4.0])
def test_the_gradient_is_that_of_the_gumbel_softmax(tau):
    search = strategy("gdas", SMALL, tau=tau, dtype=torch.float64, seed=2)
    set_matrix(search, matrix())
    given = torch.randn(4, 4, dtype=torch.float64)
    noise, ran = search.state_dict()["noise"], search.propose()
    found = optimizer_gradient(search, lambda gates: (gates.weight * given).sum())
    logits = ((matrix() + noise) / tau).masked_fill(~SELECTABLE, -torch.inf)
    assert logits.argmax(1).tolist() == list(ran.active)
    w = logits.softmax(1)
    expected = w * (given - (w * given).sum(1, keepdim=True)) / tau  # its Jacobian, by hand
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert (found[SELECTABLE] != 0).all()  # also of the options that did not run


def test_the_noise_is_gumbel():
    noise = strategy("gdas", space("nasp"), dtype=torch.float64, seed=5).state_dict()["noise"].flatten()
    uniform = (-(-noise).exp()).exp().sort().values  # its distribution function
    steps = (torch.arange(len(noise)) + 0.5) / len(noise)
    assert (uniform - steps).abs().max() < 1.63 / len(noise) ** 0.5  # Kolmogorov and Smirnov, 1 %


def test_the_temperature_falls_linearly_to_the_last_step():
    search = strategy("gdas", SMALL, tau=10.0, tau_min=0.1, steps=4)
    seen = []
    for _ in range(5):
        seen.append(search.report()["tau"])
        search.step(lambda gates: gates.weight.sum())
    assert seen == pytest.approx([10.0, 6.7, 3.4, 0.1, 0.1])
    with pytest.raises(ValueError, match="expected 0 < tau_min <= tau"):
        strategy("gdas", SMALL, tau=0.05)


def test_every_edge_runs_and_the_best_edges_are_derived():
    search = strategy("gdas", space("darts"), seed=1)
    assert sum(option >= 0 for option in search.propose().active) == 28
    assert sum(option >= 0 for option in search.best().active) == 16
