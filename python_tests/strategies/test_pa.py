# SPDX-License-Identifier: MIT
"""Direct proximal algorithms: eq. 10 and 11 of the NASP paper by hand, and what they are criticised for."""

import pytest
import torch
from strategy_cases import SMALL

from nasp_ext import ops
from nasp_ext.arch.gates import PRUNED
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.strategies import strategy

PAIR = CellSpace("pair", ("skip_connect", "conv_1x1"), ("skip_connect", "conv_1x1"), nodes=1)
PLAIN = {"preset": "paper", "lr": 0.25, "dtype": torch.float64}


def linear(*rows):
    """A loss with this gradient in every row."""
    gradient = torch.tensor(rows, dtype=torch.float64)
    return lambda gates: (gates.weight * gradient).sum()


def rows(search):
    return search.state_dict()["a"].tolist()


def test_standard_forgets_what_is_not_selected():
    search = strategy("pa", PAIR, **PLAIN)
    assert rows(search) == [[0.5, 0.0]] * 4
    loss = linear([0.0, -1.0], [1.0, -1.0], [-4.0, -1.0], [3.0, 2.0])
    search.step(loss)
    # A - g/4: [.5, .25], [.25, .25] (lowest index), [1.5, .25] (clipped), [-.25, -.5] (nothing positive)
    assert rows(search) == [[0.5, 0.0], [0.25, 0.0], [1.0, 0.0], [0.0, 0.0]]
    search.step(loss)
    assert rows(search) == [[0.5, 0.0], [0.0, 0.25], [1.0, 0.0], [0.0, 0.0]]
    for _ in range(50):
        search.step(loss)
    assert rows(search)[0] == [0.5, 0.0]  # option 1 gains in every step and is never kept
    assert search.propose().active[:3] == (0, 1, 0)


def test_lazy_accumulates_and_leaves_the_box():
    search = strategy("pa-lazy", PAIR, **PLAIN)
    loss = linear([0.0, -1.0], [1.0, -1.0], [-4.0, -1.0], [3.0, 2.0])
    search.step(loss)
    assert rows(search) == [[0.5, 0.75], [0.25, 0.75], [1.5, 0.75], [-0.25, 0.0]]
    assert search.propose().active == (1, 1, 0, PRUNED)
    assert search.propose().weight.tolist() == [[0.0, 0.75], [0.0, 0.75], [1.0, 0.0], [0.0, 0.0]]
    search.step(loss)
    assert rows(search)[2:] == [[2.5, 1.0], [-1.0, -0.5]]


@pytest.mark.parametrize("name", ["pa", "pa-lazy"])
def test_the_gradient_is_taken_at_the_projected_matrix(name):
    # F = Σ ā²: its gradient is 2ā = 1 at the kept 0.5, and 0 elsewhere.
    search = strategy(name, PAIR, **PLAIN)
    search.step(lambda gates: gates.weight.square().sum())
    assert rows(search) == ([[0.25, 0.0]] * 4 if name == "pa" else [[0.25, 0.5]] * 4)


@pytest.mark.parametrize("name", ["pa", "pa-lazy"])
def test_the_regulariser_pulls_at_the_projected_matrix(name):
    # Row sums 4, 12, 4, 4: p̄ = 6. With F = R alone the kept 0.5 moves by -lr · 2 · eta · p/6 · 0.5.
    costs = torch.tensor([[3.0, 1.0], [12.0, 0.0], [0.0, 4.0], [3.0, 1.0]])
    search = strategy(name, PAIR, **PLAIN, eta=0.5, costs=costs)
    search.step(lambda gates: 0.0 * gates.weight.sum())
    kept = [0.5 - 0.25 * 2 * 0.5 * p / 6 * 0.5 for p in (3, 12, 0, 3)]
    other = 0.0 if name == "pa" else 0.5
    assert rows(search) == [[pytest.approx(value, rel=1e-14), other] for value in kept]


@pytest.mark.parametrize("name", ["pa", "pa-lazy"])
def test_the_regulariser_counts_no_option_that_may_not_be_selected(name):
    # `none` of SMALL is masked, and its reduction rows have two options: each row sums to 6, so p̄ = 6.
    costs = torch.tensor([900.0, 3.0, 2.0, 1.0]).repeat(4, 1)
    costs[2:] = torch.tensor([3.0, 3.0, 800.0, 700.0])
    options = {"preset": "paper", "lr": 1.0, "init": 1.0, "dtype": torch.float64}
    search = strategy(name, SMALL, **options, eta=0.1, costs=costs)
    search.step(lambda gates: 0.0 * gates.weight.sum())
    first = [1, 1, 0, 0]
    moved = search.state_dict()["a"][range(4), first].tolist()
    assert moved == pytest.approx([1 - 2 * 0.1 * 3 / 6] * 4, rel=1e-14)


@pytest.mark.parametrize("name", ["pa", "pa-lazy"])
def test_without_a_weight_the_costs_change_no_bit(name):
    def run(**options):
        search = strategy(name, space("nasp"), seed=1, **options)
        losses = [search.step(lambda gates: (gates.weight * gain).square().sum()) for _ in range(5)]
        return torch.stack([search.state_dict()["a"].sum(), *losses])

    gain = torch.randn(28, 8)
    assert torch.equal(run(), run(eta=0.0, costs=torch.rand(28, 8)))
    assert not torch.equal(run(), run(eta=0.5, costs=torch.rand(28, 8)))


@pytest.mark.parametrize("name", ["pa", "pa-lazy"])
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"eta": 0.1}, "eta = 0.1 needs cost="),
        ({"eta": -0.1}, "expected eta to be a finite number >= 0, got -0.1"),
        ({"eta": 0.1, "costs": torch.ones(3)}, r"expected cost to fit the matrix \(4, 2\).*got \(3,\)"),
        ({"eta": 0.1, "costs": -torch.ones(2)}, "cost to hold finite numbers >= 0"),
    ],
)
def test_a_regulariser_that_cannot_be_is_refused(name, options, match):
    with pytest.raises(ValueError, match=match):
        strategy(name, PAIR, **options)


def test_both_propose_the_projection_of_the_matrix():
    gain = torch.randn(28, 8, generator=torch.Generator().manual_seed(3))
    mask = space("nasp").selectable()
    for name in ("pa", "pa-lazy"):
        search = strategy(name, space("nasp"), preset="paper", lr=0.3)
        for _ in range(5):
            search.step(lambda gates: (gates.weight * gain).sum() + gates.weight.square().sum())
            a = search.state_dict()["a"]
            assert torch.equal(search.propose().weight, ops.prox_c(a, mask)[0])


def test_the_official_preset_is_adam_with_one_hot_rows_and_two_edges():
    search = strategy("pa-lazy", space("darts"), dtype=torch.float64, lr=0.01)
    gain = torch.randn(28, 8, dtype=torch.float64)
    a = torch.full((28, 8), 0.5, dtype=torch.float64).masked_fill(~space("darts").selectable(), 0.0)
    a.requires_grad_()
    adam = torch.optim.Adam([a], lr=0.01, betas=(0.5, 0.999), weight_decay=1e-3)
    for _ in range(3):
        search.step(lambda gates: (gates.weight * gain).sum())
        a.grad = gain.masked_fill(~space("darts").selectable(), 0.0)
        adam.step()
    torch.testing.assert_close(search.state_dict()["a"], a.detach(), rtol=1e-12, atol=1e-12)
    assert search.propose().unit
    assert sum(option >= 0 for option in search.propose().active) == 16
    with pytest.raises(ValueError, match="expected preset to be one of"):
        strategy("pa", space("darts"), preset="fast")


@pytest.mark.parametrize("name", ["pa", "pa-lazy"])
def test_ties_are_broken_by_the_seed(name):
    first = strategy(name, space("nasp"), edges_per_node=None).propose().active
    assert set(first) == {0}
    drawn = strategy(name, space("nasp"), edges_per_node=None, seed=1).propose().active
    assert len(set(drawn)) > 2


@pytest.mark.parametrize("name", ["pa", "pa-lazy"])
def test_a_resumed_run_breaks_the_same_ties(name):
    def still(gates):
        return 0.0 * gates.weight.sum()

    options = {"preset": "official", "init": 0.0}  # every entry stays 0
    search, twin = (strategy(name, space("nasp"), seed=seed, **options) for seed in (7, 8))
    search.step(still)
    twin.load_state_dict(search.state_dict())
    seen = set()
    for _ in range(3):
        assert twin.propose().active == search.propose().active
        seen.add(search.propose().active)
        search.step(still), twin.step(still)
    assert len(seen) == 3
