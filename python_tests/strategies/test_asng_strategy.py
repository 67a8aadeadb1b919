# SPDX-License-Identifier: MIT
"""ASNG-NAS as a strategy: its variables, how it prunes edges, and what it evaluates."""

import json
import math
from dataclasses import dataclass
from itertools import combinations, pairwise

import pytest
import torch

from nasp_ext.arch.gates import PRUNED
from nasp_ext.arch.registry import space
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.strategies import ASNGStrategy

DARTS = space("darts")


def test_its_variables_in_the_papers_own_space():
    search = ASNGStrategy(space("asng-cnn"))
    assert sum(m > 1 for m in search._categories) == 40
    assert search.optimizer.dimension == 140  # n_θ, section 3.2


def test_its_variables_where_nodes_keep_two_edges():
    cell = [1, 7, 7, 3, 7, 7, 6, 7, 7, 10, 7, 7]  # per node: pairs of 2, 3, 4, 5 edges, then two operations
    assert ASNGStrategy(DARTS)._categories == cell * 2
    every = [count for edges in (2, 3, 4, 5) for count in (1, *[7] * edges)]
    assert ASNGStrategy(DARTS, edges_per_node=None)._categories == every * 2
    assert ASNGStrategy(DARTS, edges_per_node=1, allow_none=True)._categories[:4] == [2, 8, 3, 8]


@pytest.mark.parametrize("keep", [1, 2, None])
def test_every_edge_and_option_starts_equally_likely(keep):
    search = ASNGStrategy(DARTS, edges_per_node=keep, dtype=torch.float64)
    scores = search.scores()
    for low, high in pairwise(DARTS.node_offsets):
        kept = high - low if keep is None else keep
        expected = DARTS.selectable()[low:high].double() * kept / (high - low) / 7
        torch.testing.assert_close(scores[low:high], expected)


def test_scores_are_how_often_an_option_is_proposed():
    search = ASNGStrategy(space("nasp"), weight_lam=4000, lam=2, delta0=3.0, seed=2)
    for _ in range(20):  # away from the uniform start
        search.step(lambda gates: gates.weight[:, 1].sum() - gates.weight[::3].sum())
    frequency = torch.stack([gates.weight for gates in search.proposals()]).mean(0)
    torch.testing.assert_close(search.scores(), frequency, rtol=0, atol=0.04)
    assert (search.scores() - ASNGStrategy(space("nasp")).scores()).abs().max() > 0.2


@pytest.mark.parametrize(("weight_lam", "lam"), [(1, 2), (2, 2), (5, 3), (2, 6)])
def test_the_weights_train_at_some_samples_and_a_step_evaluates_others(weight_lam, lam):
    search = ASNGStrategy(DARTS, weight_lam=weight_lam, lam=lam, seed=0)
    trained, evaluated = [], []

    def loss_fn(gates):
        assert not torch.is_grad_enabled()
        evaluated.append(gates.active)
        return gates.weight.sum() + len(evaluated)

    for number in range(3):
        assert len(search.proposals()) == weight_lam
        assert search.propose() is search.proposals()[0]
        trained += [gates.active for gates in search.proposals()]
        first = len(evaluated)
        loss = search.step(loss_fn)
        assert len(evaluated) == first + lam
        assert loss == 16 + first + (lam + 1) / 2  # the mean: 16 rows are kept
        assert search.report()["tells"] == number + 1
    assert len({*trained, *evaluated}) == 3 * (weight_lam + lam)  # all of them are draws of their own


def test_what_a_step_learns_from_is_what_it_evaluated():
    # Gates with option 1 in row 0 are bad, whatever the weights train at: its probability falls.
    search = ASNGStrategy(DARTS, lam=2, seed=1)
    seen = set()
    for _ in range(40):
        before, losses = search.scores()[0, 1], []

        def loss_fn(gates, losses=losses):
            losses.append(float(gates.active[0] == 1))
            return torch.tensor(losses[-1])

        search.step(loss_fn)
        change = search.scores()[0, 1] - before
        assert (change < 0) if sum(losses) == 1 else (change == 0)
        seen.add(sum(losses))
    assert {0.0, 1.0} <= seen


def test_gates_are_never_read_back_from_their_device():
    # A meta tensor has no values: whoever reads one raises.
    search = ASNGStrategy(DARTS, device="meta", seed=0)
    for i in range(3):
        assert search.propose().weight.device.type == "meta"
        search.step(lambda gates, i=i: torch.tensor(float(sum(gates.active) + i)))
    assert search.best().weight.device.type == "meta"
    assert search.scores().device.type == "meta"


def test_losses_reach_the_host_in_one_copy(monkeypatch):
    copies = []
    to = torch.Tensor.to

    def counted(self, *args, **kwargs):
        if "cpu" in args:
            copies.append(tuple(self.shape))
        return to(self, *args, **kwargs)

    search = ASNGStrategy(DARTS, lam=4, seed=0)
    monkeypatch.setattr(torch.Tensor, "to", counted)
    search.step(lambda gates: gates.weight[0].sum())
    assert [shape for shape in copies if shape == (4,)] == [(4,)]
    assert () not in copies


@pytest.mark.parametrize("keep", [1, 2])
def test_it_finds_the_best_edges_and_their_operations(keep):
    gain = torch.rand(28, 8, generator=torch.Generator().manual_seed(4))
    gain[:, 3] += 1  # the best operation on every edge, so that the best edges are those of the largest gain
    gain[[1, 2, 5, 7, 12]] += 1
    search = ASNGStrategy(DARTS, edges_per_node=keep, lam=4, seed=1)
    for _ in range(1200):
        search.step(lambda gates: -(gates.weight * gain).sum())
    active = search.best().active
    for low, high in pairwise(DARTS.node_offsets):
        values = gain[low:high, 3]
        best = max(combinations(range(high - low), keep), key=lambda rows: values[list(rows)].sum())
        assert [row for row in range(high - low) if active[low + row] != PRUNED] == list(best)
    assert {option for option in active if option != PRUNED} == {3}


def test_rows_of_a_node_that_differ_keep_their_own_options():
    @dataclass(frozen=True)
    class Uneven(SearchSpace):
        @property
        def rows(self):
            return 3

        @property
        def node_offsets(self):
            return (0, 3)

        @property
        def edges_per_node(self):
            return 1

        def choices(self, row):
            return ("a", "b", "c")[: row + 1]

    search = ASNGStrategy(Uneven("uneven"), seed=0)
    assert search._categories == [3, 1, 2, 3]
    for _ in range(300):
        search.step(lambda gates: -gates.weight[1, 1])
        assert sum(option != PRUNED for option in search.propose().active) == 1
    assert search.best().active == (PRUNED, 1, PRUNED)


def test_the_report_is_plain_and_follows_the_steps():
    search = ASNGStrategy(DARTS, seed=0)
    before = search.report()
    assert before["delta"] == 1
    assert before["s_squared"] == 0
    for _ in range(10):
        search.step(lambda gates: gates.weight[:, 1].sum())
    after = json.loads(json.dumps(search.report(), allow_nan=False))
    assert after["tells"] == 10
    assert after["convergence"] > before["convergence"]
    assert after["delta"] == pytest.approx(1 / after["Delta"])


def test_a_loss_that_is_no_number_is_the_worst_one():
    search = ASNGStrategy(DARTS, seed=0)
    for _ in range(500):
        search.step(lambda gates: torch.tensor(math.nan if gates.active[0] == 1 else 0.0))
    assert search.scores()[0, 1] < 0.05


def test_a_row_without_an_option_is_refused():
    only_none = CellSpace("only-none", ("none",), ("skip_connect",))
    with pytest.raises(ValueError, match="found none in row 0"):
        ASNGStrategy(only_none)


def older(search, samples):
    """The state that this search would have had when its samples for both were those asked for."""
    state = search.state_dict()
    del state["samples"]
    state["asng"]["asked"] = [samples[:, None]]
    return state


def test_a_state_of_before_there_were_two_kinds_of_samples_goes_on():
    search = ASNGStrategy(DARTS, lam=3, seed=1)
    search.step(lambda gates: gates.weight[:, 1].sum())
    state = older(search, search.optimizer.draw(3))
    twin = ASNGStrategy(DARTS, lam=3, seed=2)
    twin.load_state_dict(state)
    assert torch.equal(twin.state_dict()["samples"], state["asng"]["asked"][0][:2, 0])
    assert torch.equal(twin.scores(), search.scores())
    twin.step(lambda gates: gates.weight[:, 1].sum())
    assert twin.report()["tells"] == 2
    search.load_state_dict(twin.state_dict())
    with pytest.raises(ValueError, match=r"older state of 4 samples .* found 3"):
        ASNGStrategy(DARTS, weight_lam=4, lam=3).load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda state: state.pop("samples"), "expected samples, or in an older state asng.asked.* neither"),
        (lambda state: state["asng"].update(asked=[torch.zeros(2, 1, 24).long()]), "found both"),
        (lambda state: state["samples"].fill_(-1), "samples to hold numbers >= 0"),
        (lambda state: state["samples"].fill_(7), "samples to hold options, found a number beyond"),
        (lambda state: state.update(samples=torch.zeros(3, 24).long()), r"samples to be .*\(2, 24\)"),
    ],
    ids=["neither", "both", "negative", "beyond", "of another number"],
)
def test_a_state_without_samples_that_may_be_is_refused(change, match):
    search = ASNGStrategy(DARTS)
    state = search.state_dict()
    change(state)
    with pytest.raises(ValueError, match=match):
        search.load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "match"), [({"weight_lam": 0}, "weight_lam >= 1, got 0"), ({"lam": 1}, "lam >= 2, got 1")]
)
def test_too_few_samples_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        ASNGStrategy(DARTS, **options)
