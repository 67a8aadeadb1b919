# SPDX-License-Identifier: MIT
"""Which state a batch starts from, and which one it leaves."""

import pytest
import torch

from nasp_ext.engine.stream import Stream, check_state
from nasp_ext.tasks import Outcome


class Counting:
    """A task whose state is the sum of the batches so far, with a graph."""

    def __init__(self) -> None:
        self.weight, self.given = torch.ones((), requires_grad=True), []

    def run(self, network, batch, gates=None, state=None):
        self.given.append(None if state is None else state[0].item())
        value = self.weight * batch + (0 if state is None else state[0])
        return Outcome(value, {}, 1, [value, None, 3])


@pytest.fixture
def stream():
    return Stream(Counting(), None)


def test_the_first_run_of_a_batch_leaves_the_state(stream):
    stream.run(5)
    stream.run(7)
    stream.advance()
    value, nothing, number = stream.state
    assert (value.item(), nothing, number) == (5, None, 3)
    assert not value.requires_grad


def test_a_run_that_is_not_kept_leaves_none(stream):
    stream.run(5, keep=False)
    assert stream.state_after() is None
    stream.run(7)
    stream.run(9, keep=False)
    stream.advance()
    assert stream.state[0].item() == 7


def test_all_runs_of_a_batch_start_from_one_state(stream):
    for batch in (1, 2):
        for _ in range(3):
            stream.run(batch)
        stream.advance()
    assert stream._task.given == [None] * 3 + [1] * 3


def test_a_batch_that_did_not_run_changes_nothing(stream):
    stream.run(5)
    stream.advance()
    stream.advance()
    assert stream.state[0].item() == 5


def test_it_goes_on_from_a_stored_state(stream):
    stream.run(5)
    again = Stream(Counting(), None)
    again.restore(stream.state_after(), torch.device("cpu"))
    assert again.run(1).loss.item() == 6


@pytest.mark.parametrize("found", ["text", torch.tensor([torch.inf]), {"a": [float("nan")]}])
def test_a_stored_state_is_finite_numbers(found):
    check_state({"train": [torch.ones(2), None, 1], "steer": None}, "streams")
    with pytest.raises(ValueError, match="expected streams to hold finite tensors and numbers"):
        check_state({"train": found}, "streams")
