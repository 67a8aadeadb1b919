# SPDX-License-Identifier: MIT
"""What every registered strategy promises: feasible gates, one run per seed, a state that resumes it."""

import dataclasses
import io
from itertools import pairwise

import pytest
import torch
from strategy_cases import (
    BEST,
    NAMES,
    SMALL,
    STEERED,
    TOYS,
    Toy,
    ToyLoss,
    Unrolled,
    advance,
    build,
    space_for,
)

from nasp_ext import strategies
from nasp_ext.arch.gates import PRUNED, Gates
from nasp_ext.arch.registry import space
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.derivation import genotype_of
from nasp_ext.strategies import strategy
from nasp_ext.strategies.base import looks, option_types

TARGET = torch.rand(42, 8, generator=torch.Generator().manual_seed(5))


@Unrolled
def loss_fn(gates: Gates) -> torch.Tensor:
    rows, options = gates.weight.shape
    return ((gates.weight - TARGET[:rows, :options].to(gates.weight)) ** 2).sum()


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(params=["darts", "nasp", "nas-bench-201"])
def found(request, name) -> CellSpace:
    if looks(name) and request.param == "nas-bench-201":
        pytest.skip("its cells have no reductions, and layers with attention do")
    return space(request.param)


def stored(state):
    """The state as a checkpoint gives it back."""
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def same(one, two) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


def same_gates(one: Gates, two: Gates) -> bool:
    return torch.equal(one.weight, two.weight) and (one.active, one.unit) == (two.active, two.unit)


def check_feasible(gates: Gates, found: SearchSpace, by_node: bool) -> None:
    """(R, K), nothing outside the options that exist; rows one-hot as ``active`` says, or adding up to 1,
    each by itself or those of a node together."""
    assert gates.weight.shape == (found.rows, found.options)
    assert not gates.weight.requires_grad
    assert (gates.weight >= 0).all()
    assert not gates.weight[~found.mask()].any()
    if gates.active is None:
        sums = gates.weight.sum(1)
        if by_node:
            sums = torch.stack([sums[low:high].sum() for low, high in pairwise(found.node_offsets)])
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-6)
        return
    for row, option in enumerate(gates.active):
        others = gates.weight[row].clone()
        if option != PRUNED:
            assert found.selectable()[row, option]
            assert not gates.unit or others[option] == 1
            others[option] = 0
        assert not others.any()


def test_proposals_are_feasible_and_the_best_is_discrete(name, found):
    search, found = build(name, found, 1), space_for(name, found)
    for number in range(4):
        proposals = search.proposals()
        assert isinstance(proposals, tuple)
        assert proposals
        for gates in (*proposals, search.propose(), search.best()):
            check_feasible(gates, found, by_node=name == "pc-darts")
        genotype_of(found, search.best())  # refuses dense gates
        for low, high in pairwise(found.node_offsets):
            kept = sum(option != PRUNED for option in search.best().active[low:high])
            assert kept == (high - low if found.edges_per_node is None else found.edges_per_node)
        advance(search, loss_fn, number)


def test_gates_rest_until_the_next_step_whoever_asks(name):
    search = build(name, space("darts"), 1)
    advance(search, loss_fn, 0)
    first, best = search.proposals(), search.best()
    search.scores(), search.report(), search.state_dict(), search.propose()
    assert all(map(same_gates, first, search.proposals()))
    assert same_gates(best, search.best())


def test_step_gives_a_detached_loss(name):
    loss = build(name, space("darts"), 1).step(loss_fn)
    assert loss.shape == ()
    assert not loss.requires_grad
    assert loss.isfinite()


def test_scores_are_non_negative_and_zero_where_no_option_is(name, found):
    search, found = build(name, found, 1), space_for(name, found)
    for number in range(3):
        advance(search, loss_fn, number)
        scores = search.scores()
        assert scores.shape == (found.rows, found.options)
        assert (scores >= 0).all()
        assert not scores[~found.mask()].any()


@pytest.mark.parametrize("name", [name for name in NAMES if "seed" in option_types(name)])
def test_the_same_seed_is_the_same_run_and_another_one_is_another(name):
    def run(seed):
        search = strategy(name, space("darts"), seed=seed)
        losses = [search.step(loss_fn) for _ in range(6)]
        return torch.stack(losses), search.best().active

    torch.manual_seed(1)
    losses, best = run(3)
    torch.manual_seed(2)
    again, best_again = run(3)
    assert torch.equal(losses, again)
    assert best == best_again
    assert not torch.equal(losses, run(4)[0])


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_state_resumes_bit_for_bit(name, steps):
    options = TOYS.get(name, Toy()).options
    search = build(name, space("darts"), 1, **options)
    for number in range(steps):
        advance(search, loss_fn, number)
    twin = build(name, space("darts"), 99, **options)
    twin.load_state_dict(stored(search.state_dict()))
    assert same(stored(twin.state_dict()), stored(search.state_dict()))
    for number in range(6):
        assert all(map(same_gates, twin.proposals(), search.proposals()))
        assert torch.equal(*(advance(one, loss_fn, steps + number) for one in (twin, search)))
        assert torch.equal(twin.scores(), search.scores())
        assert twin.report() == search.report()
    assert same_gates(twin.best(), search.best())
    assert same(stored(twin.state_dict()), stored(search.state_dict()))


def test_a_saved_state_does_not_change_afterwards(name):
    search = build(name, space("darts"), 1)
    advance(search, loss_fn, 0)
    state = search.state_dict()
    before = stored(state)
    for number in range(5):
        advance(search, loss_fn, 1 + number)
    assert same(stored(state), before)
    assert not same(stored(search.state_dict()), before)


def test_a_state_of_another_space_is_refused(name):
    state = build(name, SMALL, 1).state_dict()
    with pytest.raises(ValueError, match="another search space"):
        build(name, space("darts"), 1).load_state_dict(state)


@pytest.mark.parametrize("name", STEERED)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_best_option_of_every_row_is_found(name, seed):
    toy = TOYS.get(name, Toy())
    search = strategy(name, SMALL, seed=seed, **toy.options)
    for _ in range(toy.steps):
        search.step(ToyLoss())
    assert search.best().active == BEST
    assert torch.equal(search.scores().argmax(1), torch.tensor(BEST))


@pytest.mark.parametrize("name", STEERED)
def test_none_is_chosen_where_the_space_allows_it(name):
    allowing = dataclasses.replace(SMALL, name="allowing", none_allowed=True)
    toy, gain = TOYS.get(name, Toy()), torch.full((4, 4), -0.5)
    gain[:, 0] = 1.0
    search = strategy(name, allowing, seed=1, **toy.options)
    for _ in range(toy.steps):
        search.step(Unrolled(lambda gates: -(gates.weight * gain.to(gates.weight)).sum()))
    assert search.best().active == (0, 0, 0, 0)


def test_unknown_option_lists_the_known_ones(name):
    with pytest.raises(
        ValueError, match=f"strategy '{name}' takes the options .*edges_per_node.*, got colour"
    ):
        build(name, space("darts"), 1, colour="red")


def test_unknown_strategy_lists_the_known_ones():
    with pytest.raises(ValueError, match=f"one of {', '.join(NAMES)}, got 'darwin'"):
        strategy("darwin", space("darts"))


def test_a_name_can_be_registered_once_only():
    with pytest.raises(ValueError, match="'nasp', which is taken"):
        strategies.register_strategy("nasp", strategies.RandomStrategy)


def test_a_space_says_how_many_edges_a_node_keeps(name):
    one = CellSpace("one-edge", ("skip_connect", "conv_1x1"), ("skip_connect",), nodes=3, edges_per_node=1)
    active, bounds = build(name, one, 1).best().active, space_for(name, one).node_offsets
    kept = [sum(option >= 0 for option in active[low:high]) for low, high in pairwise(bounds)]
    assert set(kept) == {1}
