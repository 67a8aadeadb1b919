# SPDX-License-Identifier: MIT
"""Options, samples and losses of other types: one sentence, before anything changes."""

import numpy as np
import pytest
import torch

from nasp_ext.optim import ASNG


def make(**options):
    return ASNG(**{"categories": [3, 2], "generator": torch.Generator().manual_seed(0), **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"categories": None}, "categories to be a list"),
        ({"categories": "ab"}, "categories to be a list"),
        ({"lam": 2.5}, "lam, the samples per step, to be a whole number >= 2, got 2.5"),
        ({"lam": "2"}, "lam.* whole number"),
        ({"lam": None}, "lam.* whole number"),
        ({"runs": 1.5}, "runs to be None or a whole number >= 1, got 1.5"),
        ({"runs": True}, "runs.* whole number"),
        ({"alpha": "large"}, "alpha to be a number > 1, got 'large'"),
        ({"alpha": None}, "alpha to be a number"),
        ({"delta0": "x"}, "delta0 to be a number > 0"),
        ({"delta0": None}, "delta0 to be a number > 0"),
        ({"generator": 3}, "generator to be a CPU torch.Generator or None, got 3"),
        ({"integers": 3}, "integers as"),
        ({"integers": [3]}, "integers as"),
        ({"integers": [("a", "b")]}, "integers as"),
        ({"reals": [(0, "x")]}, "reals as"),
    ],
)
def test_option_of_another_type_is_refused(options, message):
    with pytest.raises(TypeError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("samples", "losses", "message"),
    [
        (None, [1.0, 2.0], "samples to be a tensor or list of numbers, got None"),
        ("ab", [1.0, 2.0], "samples to be a tensor or list"),
        ([[0, 1], [1, 0]], None, "losses to be a tensor or list of numbers, got None"),
        ([[0, 1], [1, 0]], "ab", "losses to be a tensor or list"),
        ([[0, 1], [1, 0]], [10**400, 1], "losses to be a tensor or list"),
        ([[0, 1], [1, 0]], torch.tensor([1j, 0]), "losses to be a dense tensor of real numbers"),
        ([[0, 1], [1, 0]], torch.ones(2, device="meta"), "losses to be a dense tensor"),
        (torch.ones(2, 2, device="meta"), [1.0, 2.0], "samples to be a dense tensor"),
        (torch.eye(2).to_sparse(), [1.0, 2.0], "samples to be a dense tensor"),
    ],
)
def test_samples_and_losses_of_another_type_are_refused(samples, losses, message):
    search = make()
    before = search.theta
    with pytest.raises(TypeError, match=message):
        search.tell(samples, losses)
    assert torch.equal(search.theta, before)
    assert search.report()["tells"] == 0


@pytest.mark.parametrize("form", [lambda t: t.tolist(), lambda t: t.numpy(), lambda t: t.double()])
@pytest.mark.parametrize("losses", [[1.0, 2.0], (1, 2), np.array([1.0, 2.0]), [False, True]])
def test_samples_and_losses_are_taken_in_any_form(form, losses):
    search, twin = make(), make()
    samples = search.ask()
    twin.tell(twin.ask(), torch.tensor([1.0, 2.0]))
    search.tell(form(samples), losses)
    assert torch.equal(search.theta, twin.theta)


@pytest.mark.parametrize(
    ("runs", "error", "message"),
    [
        ([0, 1], TypeError, "runs to be a tensor"),
        (None, TypeError, "runs to be a tensor"),
        (torch.tensor(1), TypeError, "runs to be a tensor"),
        (torch.tensor([0.5]), TypeError, "runs to be a tensor"),
        (torch.tensor([5]), ValueError, r"runs in 0\.\.2, got \[5\]"),
        (torch.tensor([-1]), ValueError, r"runs in 0\.\.2, got \[-1\]"),
        (torch.tensor([True]), ValueError, r"runs of shape \(3,\), got \(1,\)"),
    ],
)
def test_runs_that_are_none_are_refused(runs, error, message):
    search = make(runs=3)
    search.ask()
    with pytest.raises(error, match=message):
        search.keep(runs)
    assert search.theta.shape == (3, 2, 3)
    assert search.asked().shape == (3, 2, 2)
