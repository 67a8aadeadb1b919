# SPDX-License-Identifier: MIT
"""The parts of ASNG: utilities, Fisher norms, projections; against hand arithmetic and explicit matrices."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_asng_reference import fisher, project

from nasp_ext.optim.categorical import Categoricals
from nasp_ext.optim.gaussian import gaussians
from nasp_ext.optim.ranking import utilities

DOUBLE = torch.float64


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([1.0, 2.0], [1, -1]),
        ([2.0, 1.0], [-1, 1]),
        ([3.0, 1.0, 2.0], [-1, 1, 0]),
        ([4.0, 1.0, 3.0, 2.0], [-1, 1, 0, 0]),
        ([5.0, 4.0, 3.0, 2.0, 1.0], [-0.5, -0.5, 0, 0.5, 0.5]),
        ([1.0, 1.0, 2.0, 3.0], [0.5, 0.5, 0, -1]),
        ([1.0, 1.0, 1.0, 3.0], [1 / 3, 1 / 3, 1 / 3, -1]),
        ([1.0, 1.0, 2.0, 2.0, 2.0], [0.5, 0.5, -1 / 3, -1 / 3, -1 / 3]),
        ([7.0] * 6, [0] * 6),
    ],
)
@pytest.mark.parametrize("shift", [0.0, -100.0, 3.0])
def test_utilities_by_hand_for_any_sign(losses, expected, shift):
    found = utilities(torch.tensor(losses, dtype=DOUBLE) + shift)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=DOUBLE), rtol=1e-15, atol=0)


def test_losses_that_are_no_number_rank_last_and_share_it():
    nan, inf = float("nan"), float("inf")
    assert utilities(torch.tensor([nan, 1.0])).tolist() == [-1, 1]
    assert utilities(torch.tensor([inf, 5.0, nan, -inf])).tolist() == [-0.5, 0, -0.5, 1]
    assert utilities(torch.tensor([nan, inf])).tolist() == [0, 0]


def test_utilities_take_whole_numbers_half_precision_and_slices():
    assert utilities(torch.tensor([[3, 1], [2, 2]])).tolist() == [[-1, 1], [0, 0]]
    assert utilities(torch.tensor([2.0, 1.0], dtype=torch.bfloat16)).tolist() == [-1, 1]
    assert utilities(torch.tensor([[1.0, 5.0], [2.0, 6.0]]).T).tolist() == [[1, -1], [1, -1]]


@settings(max_examples=50, deadline=None)
@given(losses=st.lists(st.integers(-4, 4), min_size=2, max_size=11))
def test_utilities_depend_on_the_order_alone_and_sum_to_zero(losses):
    values = torch.tensor(losses, dtype=DOUBLE)
    found = utilities(values)
    assert torch.equal(found, utilities(values.exp()))
    assert torch.equal(found, utilities(values**3 * 1e-9))
    assert found.sum().abs() < 1e-14
    order = values.argsort()
    assert (found[order].diff() <= 0).all()


def rows_of(family: Categoricals, run: int = 0) -> list[torch.Tensor]:
    return [family.theta[: int(m), run, i] for i, m in enumerate(family.sizes)]


def a_step(family: Categoricals, seed: int) -> torch.Tensor:
    """A random step that, as every natural gradient, sums to 0 in each row."""
    step = torch.randn(family.theta.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
    exists = family.exists[:, None]
    return (step - (step * exists).sum(0) / family.sizes) * exists


def drawn(sizes: list[int], runs: int = 1, seed: int = 0) -> Categoricals:
    """A family at random probabilities inside its domain."""
    family = Categoricals(sizes, runs, DOUBLE)
    family.move_(0.3 * a_step(family, seed), torch.arange(0))
    return family


def test_the_gradient_of_categories_by_hand():
    family = Categoricals([3, 2], 1, DOUBLE)
    weights = torch.tensor([1.0, -1.0], dtype=DOUBLE)[:, None, None]
    gradient = family.gradient(torch.tensor([[[2, 0]], [[0, 0]]]), weights)
    # ½ (e₂ - θ) - ½ (e₀ - θ); the second variable is the same in both samples.
    assert gradient[:, 0].tolist() == [[-0.5, 0], [0, 0], [0.5, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_the_whitened_norm_of_ragged_categories_is_the_fisher_norm(seed):
    sizes = [3, 2, 5, 1, 4]
    family = drawn(sizes, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    raw = family.draw(4, generator)
    gradient = family.gradient(raw, torch.tensor([1.0, -1.0, 0, 0], dtype=DOUBLE)[:, None, None])
    white = family.whiten(gradient)
    for i, theta in enumerate(rows_of(family)):
        free = gradient[: len(theta) - 1, 0, i]
        expected = free @ fisher(theta) @ free if len(theta) > 1 else torch.zeros((), dtype=DOUBLE)
        torch.testing.assert_close(white[:, 0, i].square().sum(), expected, rtol=1e-12, atol=1e-15)
        assert not white[len(theta) - 1 :, 0, i].any()  # m - 1 numbers, the rest is padding


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=7).filter(lambda s: max(s) > 1),
    length=st.sampled_from([1e-3, 0.3, 30.0]),
    seed=st.integers(0, 2**32),
)
def test_the_projection_keeps_rows_in_their_domain(sizes, length, seed):
    family = Categoricals(sizes, 2, DOUBLE)
    family.move_(length * a_step(family, seed), torch.arange(0))
    several = sum(m > 1 for m in sizes)
    for i, m in enumerate(sizes):
        rows = family.theta[:, :, i]
        torch.testing.assert_close(rows.sum(0), torch.ones(2, dtype=DOUBLE), rtol=0, atol=1e-14)
        if m == 1:
            assert (rows[0] == 1).all()
        else:
            counted = several if several * (m - 1) > m else 3
            assert (rows[:m] >= 1 / (counted * (m - 1)) * (1 - 1e-15)).all()
        assert not rows[m:].any()
    inside = family.theta.clone()
    family.move_(torch.zeros_like(inside), torch.arange(0))
    torch.testing.assert_close(family.theta, inside, rtol=0, atol=1e-14)  # idempotent


@pytest.mark.parametrize("seed", range(3))
def test_the_projection_is_the_printed_one(seed):
    sizes = [3, 2, 5, 4]
    family, start = Categoricals(sizes, 1, DOUBLE), Categoricals(sizes, 1, DOUBLE)
    step = a_step(family, seed)
    family.move_(step, torch.arange(0))
    for i, (theta, before) in enumerate(zip(rows_of(family), rows_of(start), strict=True)):
        torch.testing.assert_close(theta, project(before + step[: sizes[i], 0, i], len(sizes)))


def test_few_variables_still_have_room_to_move():
    # 1/(n_c (m - 1)) would be 1 for one variable of two options and ½ for each of two: nothing could move.
    assert Categoricals([2], 1, DOUBLE)._floor[:, 0].tolist() == [[1 / 3], [1 / 3]]
    assert Categoricals([2, 3], 1, DOUBLE)._floor[0, 0].tolist() == [1 / 3, 1 / 4]
    assert Categoricals([3, 3, 1], 1, DOUBLE)._floor[0, 0].tolist() == [1 / 4, 1 / 4, 0]


def test_draws_follow_the_probabilities_and_never_leave_a_row():
    family = drawn([2, 5, 3, 1], runs=2, seed=3)
    raw = family.draw(20_000, torch.Generator().manual_seed(0))
    for run in range(2):
        for i, theta in enumerate(rows_of(family, run)):
            frequency = torch.bincount(raw[:, run, i], minlength=len(theta)) / 20_000
            assert len(frequency) == len(theta)
            torch.testing.assert_close(frequency.double(), theta, rtol=0, atol=0.015)


def test_a_row_that_sums_to_less_than_1_by_rounding_draws_only_its_own_options():
    family = Categoricals([2, 4], 1, torch.float32)
    family.theta.mul_(0.9)  # rounding in large: one draw of ten lies beyond the sum
    raw = family.draw(1000, torch.Generator().manual_seed(0))
    assert raw.amax((0, 1)).tolist() == [1, 3]


def gaussian_fisher_inverse(mean: float, sigma: float) -> torch.Tensor:
    """In (μ, μ² + σ²), as appendix C prints it."""
    return torch.tensor(
        [
            [sigma**2, 2 * mean * sigma**2],
            [2 * mean * sigma**2, 4 * mean**2 * sigma**2 + 2 * sigma**4],
        ],
        dtype=DOUBLE,
    )


@pytest.mark.parametrize("low, high", [(-2, 2), (1, 3), (-7, 1), (64, 256)])
def test_the_norm_of_a_gaussian_is_that_of_the_eigendecomposition(low, high):
    family = gaussians([(low, high)], (), 0.1, 1, DOUBLE)
    mean, sigma = (low + high) / 2, (high - low) / 2
    raw = family.draw(6, torch.Generator().manual_seed(1))
    weights = torch.tensor([0.5, 0.5, 0, 0, -0.5, -0.5], dtype=DOUBLE)[:, None, None]
    statistics = torch.stack([raw, raw**2])[:, :, 0, 0]
    expectation = torch.tensor([mean, mean**2 + sigma**2], dtype=DOUBLE)[:, None]
    gradient = (weights[:, 0, 0] * (statistics - expectation)).mean(1)  # of (μ, μ² + σ²), as printed
    values, vectors = torch.linalg.eigh(gaussian_fisher_inverse(mean, sigma))
    expected = (values**-0.5 * (vectors.T @ gradient)).norm()
    white = family.whiten(family.gradient(raw, weights))
    torch.testing.assert_close(white.norm(), expected, rtol=1e-9, atol=0)


def test_a_gaussian_step_is_taken_in_expectation_parameters():
    family = gaussians([(0, 100)], (), 0.1, 1, DOUBLE)
    family.state = {
        "mean": torch.tensor([[60.0]], dtype=DOUBLE),
        "variance": torch.tensor([[100.0]], dtype=DOUBLE),
    }
    raw = torch.tensor([67.0, 40.0], dtype=DOUBLE)[:, None, None]
    gradient = family.gradient(raw, torch.tensor([1.0, -1.0], dtype=DOUBLE)[:, None, None])
    # G = ½ (T(67) - T(40)) in (μ, μ² + σ²).
    first, second = (67 - 40) / 2, (67**2 - 40**2) / 2
    family.move_(0.1 * gradient, torch.arange(0))
    mean = 60 + 0.1 * first
    assert family.mean.item() == pytest.approx(mean, rel=1e-14)
    assert family.variance.item() == pytest.approx(60**2 + 100 + 0.1 * second - mean**2, rel=1e-12)


def test_a_gaussian_loses_no_digits_far_from_zero():
    near, far = (gaussians([(a - 2, a + 2)], (), 0.1, 1, torch.float32) for a in (0, 4096))
    raw = torch.tensor([1.25, -0.5, 0.75, -2.0])[:, None, None]
    weights = torch.tensor([1.0, 0, 0, -1.0])[:, None, None]
    for family, shift in ((near, 0), (far, 4096)):
        gradient = family.gradient(raw + shift, weights)
        family.move_(0.5 * gradient, torch.arange(0))
    assert torch.equal(near.mean + 4096, far.mean)
    assert torch.equal(near.variance, far.variance)


def test_gaussians_stay_in_their_ranges():
    family = gaussians([(1, 3), (64, 256)], [(-1.0, 1.0)], 0.01, 1, DOUBLE)
    for direction in (1e6, -1e6):
        family.move_(torch.full((2, 1, 3), direction, dtype=DOUBLE), torch.arange(0))
        assert family.mean.tolist() == ([[3, 256, 1]] if direction > 0 else [[1, 64, -1]])
        assert (family.variance.sqrt() >= torch.tensor([0.25, 0.25, 0.02], dtype=DOUBLE)).all()
        assert (family.variance.sqrt() <= torch.tensor([1, 96, 1], dtype=DOUBLE)).all()
    family.move_(torch.tensor([0.0, 1e9], dtype=DOUBLE)[:, None, None].expand(2, 1, 3), torch.arange(0))
    assert family.variance.sqrt().tolist() == [[1, 96, 1]]
    family.move_(torch.tensor([0.0, -1e9], dtype=DOUBLE)[:, None, None].expand(2, 1, 3), torch.arange(0))
    torch.testing.assert_close(family.variance.sqrt()[0], torch.tensor([0.25, 0.25, 0.02], dtype=DOUBLE))


@pytest.mark.parametrize("samples", [2, 3, 7, 8])
def test_draws_of_a_gaussian_come_in_pairs_around_the_mean(samples):
    family = gaussians([(1, 9), (0, 3)], (), 0.1, 3, DOUBLE)
    raw = family.draw(samples, torch.Generator().manual_seed(0))
    assert raw.shape == (samples, 3, 2)
    away, half = raw - family.mean, (samples + 1) // 2
    torch.testing.assert_close(away[:half][: samples - half], -away[half:])
    assert away[:half].unique().numel() == half * 6


def test_whole_variables_show_whole_numbers_inside_their_range():
    family = gaussians([(1, 3)], [(0.0, 1.0)], 0.1, 1, DOUBLE)
    shown = family.shown(torch.tensor([[[-5.0, -5.0]], [[2.4, 0.4]], [[9.0, 9.0]]], dtype=DOUBLE))
    assert shown[:, 0].tolist() == [[1, 0], [2, 0.4], [3, 1]]


def test_the_start_has_the_largest_entropy():
    family = Categoricals([2, 4, 1], 1, DOUBLE)
    assert [row.tolist() for row in rows_of(family)] == [[0.5] * 2, [0.25] * 4, [1]]
    wide = gaussians([(1, 6)], [(-1.0, 3.0)], 0.1, 1, DOUBLE)
    assert wide.mean.tolist() == [[3.5, 1]]
    assert wide.variance.tolist() == [[6.25, 4]]
    assert math.isclose(float(wide.variance.sqrt()[0, 0]), 2.5)
