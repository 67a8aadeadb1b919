# SPDX-License-Identifier: MIT
"""ASNG between steps: state, what it refuses, and its shapes."""

import copy
import io
import math

import pytest
import torch

from nasp_ext.optim import ASNG, SNG, AdamSNG

KINDS = [ASNG, SNG, AdamSNG]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def advance(search, steps: int) -> None:
    for _ in range(steps):
        samples = search.ask()
        search.tell(samples, samples.double().pow(2).sum(-1))


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("runs", [None, 3])
def test_the_state_resumes_bit_for_bit_also_between_ask_and_tell(kind, runs):
    search = kind([3, 5, 1], [(1, 6)], 3, reals=[(0, 1)], runs=runs, generator=generator())
    advance(search, 7)
    samples = search.ask()
    state = through_a_file(search.state_dict())
    twin = kind([3, 5, 1], [(1, 6)], 3, reals=[(0, 1)], runs=runs, generator=generator(9))
    twin.load_state_dict(state)
    for one in (search, twin):
        one.tell(samples, samples.sum(-1))
        advance(one, 7)
    mine, other = search.state_dict(), twin.state_dict()
    assert all(torch.equal(value, other["tensors"][name]) for name, value in mine["tensors"].items())
    assert torch.equal(search.ask(), twin.ask())
    assert torch.equal(search.mle(), twin.mle())


def test_a_saved_state_does_not_change_afterwards():
    search = ASNG([3, 5], [(1, 6)], generator=generator())
    advance(search, 3)
    state = search.state_dict()
    saved = through_a_file(state)
    advance(search, 3)
    assert all(torch.equal(value, saved["tensors"][name]) for name, value in state["tensors"].items())


def test_a_seed_gives_the_same_run_and_no_generator_follows_the_global_one():
    def end(gen):
        search = ASNG([4] * 5, generator=gen)
        advance(search, 20)
        return search.theta

    assert torch.equal(end(generator(1)), end(generator(1)))
    assert not torch.equal(end(generator(1)), end(generator(2)))
    torch.manual_seed(5)
    one = end(None)
    torch.manual_seed(5)
    assert torch.equal(one, end(None))
    assert not torch.equal(one, end(None))


def test_shapes_and_types_of_samples():
    assert ASNG([3, 2], lam=5, generator=generator()).ask().shape == (5, 2)
    assert ASNG([3, 2], lam=5, generator=generator()).ask().dtype == torch.int64
    assert ASNG([3, 2], [(0, 9)], generator=generator()).mle().dtype == torch.int64
    mixed = ASNG([3], [(0, 9)], 4, reals=[(0, 1)], runs=6, dtype=torch.float32, generator=generator())
    assert mixed.ask().shape == (6, 4, 3)
    assert mixed.ask().dtype == torch.float32
    assert mixed.theta.shape == (6, 1, 3)
    assert mixed.mean.shape == mixed.sigma.shape == (6, 2)
    assert mixed.mle().shape == (6, 3)
    assert mixed.delta.shape == (6,)
    numbers = ASNG([], [(0, 9)], generator=generator())
    assert numbers.theta.shape == (0, 0)
    assert numbers.convergence == 1
    advance(numbers, 3)
    assert ASNG([3, 2, 1], generator=generator()).theta.tolist() == [[1 / 3] * 3, [0.5, 0.5, 0], [1, 0, 0]]


def test_what_is_handed_out_is_not_the_state_itself():
    search = ASNG([3, 2], [(0, 9)], generator=generator())
    search.theta.zero_(), search.mean.zero_(), search.delta.zero_(), search.ask().zero_()
    assert search.theta[0, 0] == 1 / 3
    assert search.mean == 4.5
    assert search.delta == 1


def test_the_step_has_a_floor_where_one_is_wanted():
    search = ASNG([5] * 10, delta_max=2.0, generator=generator())
    noise = generator(1)
    for _ in range(200):
        search.tell(search.ask(), torch.rand(2, generator=noise))
    assert search.delta == 0.5
    free = ASNG([5] * 10, generator=generator())
    for _ in range(200):
        free.tell(free.ask(), torch.rand(2, generator=noise))
    assert free.delta < 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"categories": [3, 0]}, "categories to be whole numbers >= 1, got"),
        ({"categories": [1, 1]}, "a variable with two values or more"),
        ({"categories": []}, "a variable with two values or more"),
        ({"lam": 1}, "lam, the samples per step, to be >= 2, got 1"),
        ({"alpha": 1.0}, "alpha > 1, got 1.0"),
        ({"delta0": 0.0}, "delta0 to be a number > 0"),
        ({"delta0": math.nan}, "delta0 to be a number > 0"),
        ({"delta_max": 0.5}, "delta_max >= 1"),
        ({"integers": [(3, 3)]}, "integers as .*got .3, 3."),
        ({"integers": [(0.5, 3)]}, "integers as .*got .0.5, 3."),
        ({"reals": [(0, math.inf)]}, "reals as .*finite"),
        ({"reals": [(0, 1)], "real_sigma_min": 0.0}, "real_sigma_min in"),
        ({"theta_min": 0.4}, "theta_min in .0, 1/m."),
        ({"theta_min": 0.0}, "theta_min in .0, 1/m."),
        ({"runs": 0}, "runs to be None or >= 1"),
        ({"runs": 2, "delta0": torch.ones(3)}, "one for each of 2 runs"),
        ({"dtype": torch.float16}, "dtype to be"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ASNG(**{"categories": [3, 2], **options})


@pytest.mark.parametrize(
    ("samples", "losses", "message"),
    [
        ([[0, 1]], [1.0], "two samples or more"),
        ([[0, 1], [1, 2]], [1.0, 2.0], r"samples\[…, 1\] to be an option in 0..1, got 2"),
        ([[0, 1], [-1, 0]], [1.0, 2.0], r"samples\[…, 0\] to be an option in 0..2, got -1"),
        ([[0.5, 1], [1, 0]], [1.0, 2.0], r"samples\[…, 0\] to be an option in 0..2, got 0.5"),
        ([[0, 1, 0], [1, 0, 0]], [1.0, 2.0], r"samples of shape \(λ, 2\), got \(2, 3\)"),
        ([[0, 1], [1, 0]], [1.0, 2.0, 3.0], r"losses of shape \(2,\), one per sample, got \(3,\)"),
    ],
)
def test_samples_that_are_none_are_refused(samples, losses, message):
    search = ASNG([3, 2], generator=generator())
    before = search.theta
    with pytest.raises(ValueError, match=message):
        search.tell(torch.tensor(samples), losses)
    assert torch.equal(search.theta, before)


def test_a_state_of_something_else_is_refused():
    state = ASNG([3, 2], generator=generator()).state_dict()
    with pytest.raises(ValueError, match="expected the state of SNG, found one of 'ASNG'"):
        SNG([3, 2]).load_state_dict(state)
    with pytest.raises(ValueError, match="other variables"):
        ASNG([3, 2, 2]).load_state_dict(state)
    with pytest.raises(ValueError, match="other variables"):
        ASNG([3, 2], [(0, 4)]).load_state_dict(state)
    with pytest.raises(ValueError, match=r"tensor torch\.float32 .*found torch\.float64"):
        ASNG([3, 2], dtype=torch.float32).load_state_dict(state)


def test_only_several_runs_can_be_thinned_out():
    with pytest.raises(ValueError, match="several runs"):
        ASNG([3, 2]).keep(torch.tensor([0]))
    with pytest.raises(ValueError, match="one run or more"):
        ASNG([3, 2], runs=2).keep(torch.tensor([False, False]))


def places(value, path=()):
    if path:
        yield path
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield from places(value[key], (*path, key))


MISSING = object()


def damages(old):
    """Values that no entry like ``old`` may have."""
    yield from ("damage", torch.zeros(3, dtype=torch.int16), [[1.0]], {"x": 1}, 3, MISSING)
    if not isinstance(old, torch.Tensor):
        return
    yield from (old.to(torch.float16), old[..., :-1], old.to("meta"), None)
    if old.dtype == torch.uint8:  # the generator
        yield torch.zeros_like(old)
        return
    yield old.to_sparse()
    if old.is_floating_point():
        yield from (torch.full_like(old, math.nan), torch.full_like(old, math.inf))
    else:
        yield torch.full_like(old, -1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("runs", [None, 3])
def test_a_damaged_state_is_refused_and_nothing_changes(kind, runs):
    search = kind([3, 5, 1], [(1, 6)], 3, reals=[(0, 1)], runs=runs, generator=generator())
    advance(search, 4)
    search.ask()
    state, twin, count = search.state_dict(), copy.deepcopy(search), 0
    for path in places(state):
        holder = state
        for key in path[:-1]:
            holder = holder[key]
        old = holder[path[-1]]
        for new in damages(old):
            if new is MISSING and isinstance(holder, list):
                continue
            before = copy.copy(holder)
            if new is MISSING:
                del holder[path[-1]]
            else:
                holder[path[-1]] = new
            with pytest.raises(ValueError, match="expected "):
                search.load_state_dict(state)
            if isinstance(holder, dict):
                holder.clear()
                holder.update(before)
            else:
                holder[path[-1]] = old
            count += 1
    assert count > 100
    assert torch.equal(search.asked(), twin.asked())
    for one in (search, twin):
        advance(one, 3)
    assert all(
        torch.equal(a, b) for a, b in zip(search._tensors().values(), twin._tensors().values(), strict=True)
    )


IMPOSSIBLE = {
    "no probabilities": ("theta", 7.0, "theta to hold probabilities that sum to 1"),
    "negative probabilities": ("theta", -1.0, "theta to hold probabilities"),
    "mean beyond its range": ("mean", 7.0, "mean within the ranges"),
    "variance beyond its range": ("variance", 100.0, "variance within the ranges"),
    "no variance": ("variance", 0.0, "variance within the ranges"),
    "no step": ("delta0", 0.0, "delta0 to be > 0"),
    "negative step": ("delta0", -1.0, "delta0 to hold numbers >= 0"),
    "no shrinking": ("Delta", 0.0, "Delta to be > 0"),
    "negative gamma": ("gamma", -1.0, "gamma to hold numbers >= 0"),
    "negative count": ("tells", -1, "tells to hold numbers >= 0"),
    "skipped more than told": ("skipped", 999, "skipped to count some of the tells"),
}


@pytest.mark.parametrize(("name", "value", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_numbers_that_no_search_comes_to_are_refused(name, value, message):
    search = ASNG([3, 5], [(1, 6)], generator=generator())
    advance(search, 2)
    state = search.state_dict()
    state["tensors"][name].fill_(value)
    with pytest.raises(ValueError, match=message):
        search.load_state_dict(state)


def test_negative_second_moment_is_refused_and_a_negative_first_is_not():
    search = AdamSNG([3, 5], generator=generator())
    state = search.state_dict()
    state["tensors"]["first.0"].fill_(-0.5)
    search.load_state_dict(state)
    state["tensors"]["second.0"].fill_(-0.5)
    with pytest.raises(ValueError, match=r"second\.0 to hold numbers >= 0, found -0\.5"):
        search.load_state_dict(state)


def test_draws_of_options_that_do_not_exist_are_refused():
    search = ASNG([3, 5], generator=generator())
    search.ask()
    state = search.state_dict()
    state["asked"][0][0, 0, 0] = 3
    with pytest.raises(ValueError, match=r"asked\[0\] to hold options, found a number beyond them"):
        search.load_state_dict(state)


def test_state_without_samples_is_taken_after_some_were_asked_for():
    fresh, search = (ASNG([3, 5], generator=generator()) for _ in range(2))
    search.ask()
    search.load_state_dict(fresh.state_dict())
    with pytest.raises(RuntimeError, match="no samples yet"):
        search.asked()
    assert torch.equal(search.ask(), fresh.ask())
