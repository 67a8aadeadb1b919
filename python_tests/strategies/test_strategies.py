# SPDX-License-Identifier: MIT
"""Every strategy keeps the same promises: proposals inside the space, bit-exact state, no network inside."""

import io
from itertools import pairwise

import pytest
import torch

from nasp_ext import strategies
from nasp_ext.gates import PRUNED, Gates
from nasp_ext.space import SearchSpace, space
from nasp_ext.strategies import strategy

TARGET = torch.rand(28, 8, generator=torch.Generator().manual_seed(5))


def loss_fn(gates: Gates) -> torch.Tensor:
    return ((gates.weight - TARGET) ** 2).sum()


@pytest.fixture(params=["nasp", "random"])
def name(request):
    return request.param


@pytest.fixture(params=["darts", "nasp"])
def found(request) -> SearchSpace:
    return space(request.param)


def test_every_registered_strategy_is_tested_here():
    assert set(strategies.names()) == {"nasp", "random"}


def test_proposals_keep_two_existing_options_per_node_and_never_none(name, found):
    search = strategy(name, found, seed=1)
    selectable = found.selectable()
    for _ in range(5):
        gates = search.propose()
        assert gates.weight.shape == (found.rows, found.options)
        for row, option in enumerate(gates.active):
            assert option == PRUNED or selectable[row, option]
            expected = torch.zeros(found.options)
            if option != PRUNED:
                expected[option] = 1
            assert torch.equal(gates.weight[row], expected)
        for low, high in zip(found.node_offsets[:-1], found.node_offsets[1:], strict=True):
            assert sum(option != PRUNED for option in gates.active[low:high]) == 2
        search.step(loss_fn)


def test_the_proposal_rests_until_the_next_step(name):
    search = strategy(name, space("darts"), seed=1)
    assert search.propose().active == search.propose().active
    before = search.propose().active
    search.best(), search.scores()
    assert search.propose().active == before


def test_step_gives_the_detached_loss_at_the_proposal(name):
    search = strategy(name, space("darts"), seed=1)
    expected = loss_fn(search.propose())
    loss = search.step(loss_fn)
    assert torch.equal(loss, expected)
    assert not loss.requires_grad


def test_scores_are_non_negative_and_zero_where_no_option_is(name, found):
    search = strategy(name, found, seed=1)
    search.step(loss_fn)
    scores = search.scores()
    assert (scores >= 0).all()
    assert not scores[~found.selectable()].any()


def test_state_resumes_bit_for_bit(name):
    search = strategy(name, space("darts"), seed=1)
    for _ in range(4):
        search.step(loss_fn)
    file = io.BytesIO()
    torch.save(search.state_dict(), file)
    file.seek(0)
    twin = strategy(name, space("darts"), seed=99)
    twin.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(5):
        assert twin.propose().active == search.propose().active
        assert torch.equal(twin.step(loss_fn), search.step(loss_fn))
        assert torch.equal(twin.scores(), search.scores())
    assert twin.best().active == search.best().active


def test_a_saved_state_does_not_change_afterwards(name):
    search = strategy(name, space("darts"), seed=1)
    state = search.state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    search.step(loss_fn)
    before, after = torch.load(io.BytesIO(file.getvalue()), weights_only=True), state
    key = "a" if name == "nasp" else "active"
    assert torch.equal(before[key], after[key])


def test_state_of_another_space_is_refused(name):
    small = SearchSpace("small", ("skip_connect", "conv_1x1"), ("skip_connect",), nodes=2)
    state = strategy(name, small).state_dict()
    with pytest.raises(ValueError, match="another search space"):
        strategy(name, space("darts")).load_state_dict(state)


def test_unknown_strategy_lists_the_known_ones():
    with pytest.raises(ValueError, match="one of nasp, random, got 'darwin'"):
        strategy("darwin", space("darts"))


def test_unknown_option_lists_the_known_ones(name):
    with pytest.raises(ValueError, match=f"strategy '{name}' takes the options .*seed.*, got colour"):
        strategy(name, space("darts"), colour="red")


def test_a_name_can_be_registered_once_only():
    with pytest.raises(ValueError, match="'nasp', which is taken"):
        strategies.register_strategy("nasp", strategies.RandomStrategy)


@pytest.mark.parametrize("name", ["nasp", "random"])
def test_a_space_says_how_many_edges_a_node_keeps(name):
    one = SearchSpace("one-edge", ("skip_connect", "conv_1x1"), ("skip_connect",), nodes=3, edges_per_node=1)
    active = strategy(name, one).propose().active
    kept = [sum(option >= 0 for option in active[low:high]) for low, high in pairwise(one.node_offsets)]
    assert kept == [1] * 6


@pytest.mark.parametrize("name", ["nasp", "random"])
def test_every_edge_stays_and_none_is_chosen_where_the_space_says_so(name):
    search, chosen = strategy(name, space("nas-bench-201"), seed=1), set()
    target = torch.zeros(6, 5)
    target[:, 0] = 2  # none pays
    for _ in range(20):
        active = search.propose().active
        assert PRUNED not in active
        chosen |= set(active)
        search.step(lambda gates: ((gates.weight - target) ** 2).sum())
    assert 0 in chosen


@pytest.mark.parametrize("edges", [0, -1, "all", 1.5])
def test_random_search_refuses_edges_that_are_no_number(edges):
    with pytest.raises(ValueError, match="expected edges_per_node to be"):
        strategy("random", space("darts"), edges_per_node=edges)


def test_random_search_remembers_the_lowest_loss():
    search = strategy("random", space("darts"), seed=1)
    seen = {}
    for _ in range(10):
        gates = search.propose()
        seen[float(search.step(loss_fn))] = gates.active
    assert search.best().active == seen[min(seen)]
    assert len(seen) == 10
