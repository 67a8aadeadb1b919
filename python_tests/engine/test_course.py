# SPDX-License-Identifier: MIT
"""The mean of the weights against that of ASGD, and what the epochs of a validated retraining decide."""

import dataclasses

import pytest
import torch
from reading_task import LENGTHS, RETRAIN

from nasp_ext.engine.averaging import WeightAverage
from nasp_ext.engine.validation import Course, course_of

STEPS = len(LENGTHS)


def test_the_mean_is_that_of_asgd_from_its_second_step_on():
    """ASGD with t0 = 0 forgets its first step: it averages from the second, so it starts a step earlier.

    It keeps the factors of its mean in float32.
    """
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 8, 3, generator=generator), torch.randn(30, 8, 1, generator=generator)
    one, two = (torch.nn.Linear(3, 1).double() for _ in range(2))
    two.load_state_dict(one.state_dict())
    sgd = torch.optim.SGD(one.parameters(), lr=0.125, weight_decay=0.01)
    asgd = torch.optim.ASGD(two.parameters(), lr=0.125, lambd=0.0, t0=0, weight_decay=0.01)
    average = WeightAverage(one.parameters())
    for step, (inputs, targets) in enumerate(zip(x.double(), y.double(), strict=True)):
        if step == 1:
            average.begin()
        for network, optimizer in ((one, sgd), (two, asgd)):
            optimizer.zero_grad()
            (network(inputs) - targets).square().mean().backward()
            optimizer.step()
        average.add()
    assert average.steps == 29
    last = one.weight.detach().clone()
    with average.evaluated():
        torch.testing.assert_close(one.weight.detach(), asgd.state[two.weight]["ax"], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(one.bias.detach(), asgd.state[two.bias]["ax"], rtol=1e-6, atol=1e-7)
        assert not torch.allclose(one.weight, last)
    assert torch.equal(one.weight, last)
    torch.testing.assert_close(last, two.weight.detach(), rtol=1e-12, atol=1e-14)


def test_the_course_counts_epochs_without_a_better_one():
    course = Course(average_after=2)
    assert course.starts(rolled_back=False) is None
    for loss, averaged, begins in ((3.0, 0, False), (2.0, 0, False), (2.0, 0, False), (2.5, 0, True)):
        course.add(loss, averaged, 0)
        assert course.begins() is begins
    assert (course.best, course.starts(rolled_back=False), course.starts(rolled_back=True)) == (2, 0, None)
    course.add(2.4, 0, 1)  # went back: waits anew
    assert not course.begins()
    course.add(2.3, 0, 1)
    assert course.begins()
    course.add(1.0, 5, 1)
    assert not course.begins()  # goes on
    assert (course.starts(rolled_back=False), course.starts(rolled_back=True)) == (5, 5)
    assert course.line() == {"best_epoch": 7, "averaged": 5, "rollbacks": 1}


LINE = {"val_loss": 1.0, "best_epoch": 1, "averaged": 0, "rollbacks": 0}


@pytest.mark.parametrize(
    ("number", "changes", "message"),
    [
        (0, {"rollbacks": 1}, r"history\[0\]\.rollbacks to be a whole number in \[0, 0\], found 1"),
        (1, {"rollbacks": 3}, r"history\[1\]\.rollbacks to be a whole number in \[0, 2\], found 3"),
        (2, {"rollbacks": 0}, r"history\[2\]\.rollbacks to be a whole number in \[1, 2\], found 0"),
        (1, {"best_epoch": 2}, r"history\[1\]\.best_epoch to be 1, found 2"),
        (1, {"averaged": 4}, r"history\[1\]\.averaged to be 0, found 4"),
        (3, {"averaged": 0}, r"history\[3\]\.averaged to be 4, found 0"),
        (3, {"averaged": 8}, r"history\[3\]\.averaged to be 4, found 8"),
    ],
)
def test_a_history_that_no_run_can_have_is_refused(number, changes, message):
    """The second epoch went back to the first; the fourth averages, for two were no better than the first."""
    config = dataclasses.replace(RETRAIN, average_after=2, rollbacks=2)
    history = [dict(LINE), {**LINE, "rollbacks": 1}, {**LINE, "rollbacks": 1}]
    history.append({**LINE, "rollbacks": 1, "averaged": STEPS})
    assert course_of(history, config, STEPS, "history").averaged == STEPS
    history[number] |= changes
    with pytest.raises(ValueError, match=message):
        course_of(history, config, STEPS, "history")


def test_never_averaging_never_begins():
    course = Course(average_after=0)
    for loss in (1.0, 2.0, 2.0, 2.0):
        course.add(loss, 0, 0)
        assert not course.begins()
