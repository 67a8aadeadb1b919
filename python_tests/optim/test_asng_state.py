# SPDX-License-Identifier: MIT
"""ASNG between steps: state, what it refuses, and its shapes."""

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
    with pytest.raises(ValueError, match="expected the state of SNG, found one of ASNG"):
        SNG([3, 2]).load_state_dict(state)
    with pytest.raises(ValueError, match="other variables"):
        ASNG([3, 2, 2]).load_state_dict(state)
    with pytest.raises(ValueError, match="other variables"):
        ASNG([3, 2], [(0, 4)]).load_state_dict(state)
    with pytest.raises(ValueError, match=r"as torch\.float32, found torch\.float64"):
        ASNG([3, 2], dtype=torch.float32).load_state_dict(state)


def test_only_several_runs_can_be_thinned_out():
    with pytest.raises(ValueError, match="several runs"):
        ASNG([3, 2]).keep(torch.tensor([0]))
    with pytest.raises(ValueError, match="one run or more"):
        ASNG([3, 2], runs=2).keep(torch.tensor([False, False]))
