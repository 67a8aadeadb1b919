# SPDX-License-Identifier: MIT
"""Whole steps of ASNG, SNG and Adam: against the slow reference, by invariance, on small problems."""

import math

import pytest
import torch
from optim_asng_reference import Reference

import nasp_ext
from nasp_ext.optim import ASNG, SNG, AdamSNG

DOUBLE = torch.float64
KINDS = [ASNG, SNG, AdamSNG]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("lam", [2, 3, 5, 8])
def test_asng_is_algorithm_1(lam):
    sizes = [3, 2, 5, 4, 2]
    search, reference = ASNG(sizes, lam=lam, generator=generator()), Reference(sizes)
    for _ in range(40):
        samples = search.ask()
        losses = (samples - torch.tensor([2, 0, 1, 1, 1])).abs().sum(-1)  # with ties
        search.tell(samples, losses)
        reference.tell(samples.tolist(), losses.tolist())
        for i, row in enumerate(reference.rows):
            torch.testing.assert_close(search.theta[i, : sizes[i]], row, rtol=1e-9, atol=1e-12)
        report = search.report()
        assert report["delta"].item() == pytest.approx(1 / reference.shrink, rel=1e-9)
        assert report["gamma"].item() == pytest.approx(reference.gamma, rel=1e-9)
        assert report["s_squared"].item() == pytest.approx(float(reference.s @ reference.s), rel=1e-8)
    assert report["delta"] != 1


def test_one_step_by_hand():
    # Four variables of two options: θ = ½, F = 4 for the one free number of each row, n_θ = 4.
    search = ASNG([2, 2, 2, 2], delta0=0.1, generator=generator())
    search.tell(torch.tensor([[0, 0, 1, 1], [1, 0, 1, 0]]), [0.0, 1.0])
    # G = (½, 0, 0, -½) in the first options, so ‖G‖_F = √(4·¼ + 4·¼) = √2.
    move = 0.1 * 0.5 / math.sqrt(2)
    expected = [[0.5 + move, 0.5 - move], [0.5, 0.5], [0.5, 0.5], [0.5 - move, 0.5 + move]]
    torch.testing.assert_close(search.theta, torch.tensor(expected, dtype=DOUBLE))
    beta = 0.1 / 2
    fresh = beta * (2 - beta)  # γ, and ‖s‖² too: s had been 0
    assert search.report()["gamma"].item() == pytest.approx(fresh)
    assert search.report()["s_squared"].item() == pytest.approx(fresh)
    assert search.delta.item() == pytest.approx(0.1 / math.exp(beta * (fresh - fresh / 1.5)))


def test_sng_keeps_its_step_and_adam_moves_by_its_rate():
    samples, losses = torch.tensor([[0, 0, 1], [1, 0, 1]]), [0.0, 1.0]
    plain = SNG([2, 2, 2], delta0=0.1, generator=generator())
    adam = AdamSNG([2, 2, 2], delta0=0.1, generator=generator())
    for search in (plain, adam):
        search.tell(samples, losses)
    assert plain.theta[0, 0].item() == pytest.approx(0.5 + 0.1 * 0.5)  # ‖G‖_F = √(4·¼) = 1
    assert plain.delta == 0.1
    assert adam.theta[0, 0].item() == pytest.approx(0.5 + 0.1)  # the first step of Adam: the rate, signed
    assert adam.theta[1].tolist() == [0.5, 0.5]


def test_adam_follows_its_moments_over_several_steps():
    search = AdamSNG([2, 2, 2], delta0=0.01, betas=(0.8, 0.9), generator=generator())
    first, second, theta = 0.0, 0.0, 0.5
    for t, better in enumerate([0, 0, 1, 0], start=1):
        search.tell(torch.tensor([[0, 0, 1], [1, 0, 1]]), [float(better), 0.5])
        sign = 1 - 2 * better
        g = sign * 0.5 / math.sqrt(0.25 / theta / (1 - theta))  # G = ±½, F = 1 / (θ (1 - θ))
        first, second = 0.8 * first + 0.2 * g, 0.9 * second + 0.1 * g * g
        theta += 0.01 * (first / (1 - 0.8**t)) / (math.sqrt(second / (1 - 0.9**t)) + 1e-8)
        assert search.theta[0, 0].item() == pytest.approx(theta, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transform", [torch.exp, lambda f: -1 / (1 + f), lambda f: 5 * f - 1e6])
def test_any_increasing_transform_of_the_loss_gives_the_same_bits(kind, transform):
    plain = kind([3, 4, 5], [(1, 6)], 4, reals=[(-1, 1)], generator=generator())
    other = kind([3, 4, 5], [(1, 6)], 4, reals=[(-1, 1)], generator=generator())
    for _ in range(30):
        samples = plain.ask()
        assert torch.equal(samples, other.ask())
        losses = samples.sum(-1).round()
        plain.tell(samples, losses)
        other.tell(samples, transform(losses))
    assert torch.equal(plain.theta, other.theta)
    assert torch.equal(plain.mean, other.mean)
    assert torch.equal(plain.sigma, other.sigma)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_losses_or_equal_samples_move_nothing(kind):
    search = kind([3, 2, 4], [(0, 9)], generator=generator())
    for _ in range(5):
        samples = search.ask()
        search.tell(samples, samples.sum(-1))
    before = search.state_dict()["tensors"]
    search.tell(search.ask(), [-1.5, -1.5])
    search.tell(torch.tensor([[1, 1, 1, 4]] * 2), [1.0, 2.0])
    search.tell(search.ask(), [math.nan, math.inf])
    after = search.state_dict()["tensors"]
    assert after.pop("skipped") == before.pop("skipped") + 3
    assert after.pop("tells") == before.pop("tells") + 3
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("lam", [3, 4, 9, 13])
def test_best_and_worst_samples_that_are_identical_move_nothing(kind, dtype, lam):
    search = kind([3, 2, 4], [(0, 9)], lam, reals=[(-1, 1)], generator=generator(), dtype=dtype)
    for _ in range(3):
        samples = search.ask()
        search.tell(samples, samples.sum(-1))
    before = search.state_dict()["tensors"]
    counted = -(-lam // 4)  # as many of the best, and of the worst, have a utility
    samples = search.draw(lam)
    samples[:counted] = samples[-counted:] = samples[0].clone()
    search.tell(samples, torch.arange(lam))
    after = search.state_dict()["tensors"]
    assert after.pop("skipped") == before.pop("skipped") + 1
    assert after.pop("tells") == before.pop("tells") + 1
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("kind", KINDS)
def test_runs_that_advance_together_are_independent(kind):
    steps = torch.tensor([0.5, 0.1, 0.02], dtype=DOUBLE)
    together = kind([3, 4], [(1, 6)], 3, delta0=steps, runs=3, generator=generator())
    alone = [kind([3, 4], [(1, 6)], 3, delta0=float(step), generator=generator()) for step in steps]
    for i in range(20):
        samples = together.ask()
        losses = samples.sum(-1).double()
        losses[1] *= -1
        if i % 4 == 0:
            losses[2] = 0  # this run does not move
        together.tell(samples, losses)
        raw = together._asked
        for run, single in enumerate(alone):
            single._asked = [r[:, run : run + 1] for r in raw]
            single.tell(samples[run], losses[run])
    for run, single in enumerate(alone):
        torch.testing.assert_close(together.theta[run], single.theta, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(together.mean[run], single.mean, rtol=1e-12, atol=1e-14)
        assert torch.equal(together.mle()[run], single.mle())
        for name, value in single.report().items():
            torch.testing.assert_close(together.report()[name][run], value, rtol=1e-12, atol=1e-14)


def test_kept_runs_go_on_as_before():
    steps = torch.tensor([0.5, 0.1, 0.02, 1.0], dtype=DOUBLE)
    every = ASNG([3, 4, 5], delta0=steps, runs=4, generator=generator())
    for _ in range(5):
        samples = every.ask()
        every.tell(samples, samples.sum(-1))
    some = ASNG([3, 4, 5], delta0=steps, runs=4, generator=generator())
    some.load_state_dict(every.state_dict())
    some.keep(torch.tensor([False, True, False, True]))
    for seed in range(5):
        samples = torch.randint(0, 3, (4, 2, 3), generator=generator(seed))
        every.tell(samples, samples.sum(-1))
        some.tell(samples[1::2], samples[1::2].sum(-1))
    assert torch.equal(some.theta, every.theta[1::2])
    assert torch.equal(some.delta, every.delta[1::2])


@pytest.mark.parametrize("delta0", [0.01, 1.0, 30.0])
def test_one_categorical_problem_is_solved_at_any_initial_step(delta0):
    best = torch.tensor([2, 0, 4, 1, 3, 1, 0, 2])
    search = ASNG([3, 2, 5, 4, 4, 2, 3, 3], delta0=delta0, generator=generator(3))
    for _ in range(3000):
        samples = search.ask()
        search.tell(samples, (samples != best).sum(-1))
    assert torch.equal(search.mle(), best)
    assert search.convergence > 0.8


@pytest.mark.parametrize("lam", [2, 4, 5])
def test_a_mixed_problem_is_solved(lam):
    # Which of four curves, and where on it: the best branch is only best near its own whole and real number.
    def loss(samples):
        branch, whole, real = samples.unbind(-1)
        return (branch != 2) + (whole - 40 - 5 * branch).abs() / 30 + (real - 0.25 * branch) ** 2

    search = ASNG([4, 2, 2], [(1, 96)], lam, reals=[(-1.0, 1.0)], generator=generator(1))
    for _ in range(6000 // lam):
        samples = search.ask()
        search.tell(samples, loss(samples[:, [0, 3, 4]]))
    found = search.mle()
    assert found[0] == 2
    assert abs(found[3] - 50) <= 2
    assert abs(found[4] - 0.5) < 0.1


def test_integers_learn_from_the_draw_behind_the_rounded_number():
    search = ASNG([2, 2, 2], [(1, 3)], generator=generator())
    samples = search.ask()
    raw = search._asked[1][:, 0, 0]
    assert not torch.equal(raw, raw.round())
    assert samples.dtype == torch.int64
    search.tell(samples, [0.0, 1.0])
    step = (raw[0] - raw[1]) / 2 * search._delta0[0]  # times 1 / ‖G‖
    moved = search.mean[0] - 2
    assert moved.sign() == step.sign()
    twin = ASNG([2, 2, 2], [(1, 3)], generator=generator())
    twin.tell(samples, [0.0, 1.0])  # not asked for: the whole numbers stand for themselves
    assert twin.mean[0] != search.mean[0]


def test_samples_may_be_drawn_that_no_step_is_about():
    search, plain = (ASNG([3, 2], [(0, 9)], lam=4, generator=generator()) for _ in range(2))
    asked = search.ask()
    assert torch.equal(asked, plain.ask())
    assert search.draw(1).shape == (1, 3)
    drawn = search.draw(5000)
    frequency = torch.bincount(drawn[:, 0], minlength=3) / 5000
    torch.testing.assert_close(frequency.double(), search.theta[0], rtol=0, atol=0.03)
    for one in (search, plain):
        one.tell(asked, asked.sum(-1))  # by the draws behind the rounded numbers, which are still known
    assert torch.equal(search.mean, plain.mean)
    for count, error in ((0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="expected samples to be"):
            search.draw(count)


def test_it_is_exported():
    assert nasp_ext.ASNG is ASNG
