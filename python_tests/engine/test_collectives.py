# SPDX-License-Identifier: MIT
"""Two processes of one run, played by two threads: what they share makes them one."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from engine_helpers import CONFIG, TINY, strategy_of, tiny_data

from nasp_ext.arch.gates import Gates
from nasp_ext.engine.collectives import LOCAL, Collective
from nasp_ext.engine.evaluation import evaluate
from nasp_ext.engine.measures import Totals
from nasp_ext.engine.progress import Progress
from nasp_ext.engine.search_state import SearchState
from nasp_ext.engine.steering import BatchLoss
from nasp_ext.families.networks import supernet
from nasp_ext.tasks import Metric, Outcome
from nasp_ext.tasks.images.task import ClassificationTask

CPU = torch.device("cpu")


class Meeting:
    """Where the threads leave their tensors for each other."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier, self.left = size, threading.Barrier(size, timeout=20), [None] * size

    def exchange(self, rank, tensors):
        self.left[rank] = [tensor.detach().clone() for tensor in tensors]
        self.barrier.wait()
        found = list(self.left)
        self.barrier.wait()
        return found


class Threads:
    """A ``Collective`` between threads."""

    def __init__(self, meeting, rank) -> None:
        self._meeting, self.rank, self.size = meeting, rank, meeting.size

    def mean_(self, tensors):
        every = self._meeting.exchange(self.rank, tensors)
        with torch.no_grad():
            for tensor, *values in zip(tensors, *every, strict=True):
                tensor.copy_(sum(values) / self.size)

    def broadcast_(self, tensors):
        every = self._meeting.exchange(self.rank, tensors)
        with torch.no_grad():
            for tensor, value in zip(tensors, every[0], strict=True):
                tensor.copy_(value)


def both(work):
    """The results of ``work(collective)`` in two threads."""
    meeting = Meeting(2)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda rank: work(Threads(meeting, rank)), range(2)))


def test_one_process_is_a_collective_that_changes_nothing():
    held = torch.rand(3)
    before = held.clone()
    LOCAL.mean_([held])
    LOCAL.broadcast_([held])
    assert isinstance(LOCAL, Collective)
    assert torch.equal(held, before)
    assert (LOCAL.rank, LOCAL.size) == (0, 1)


def test_means_weigh_every_example_of_all_processes_alike():
    def work(collective):
        totals = Totals([Metric("hits")], collective)
        count = 1 + 2 * collective.rank  # one example in the first process, three in the second
        totals.add(Outcome(torch.tensor(1.0 + collective.rank), {"hits": torch.tensor(float(count))}, count))
        return totals.means()

    assert both(work) == [{"loss": (1 + 3 * 2) / 4, "hits": 1.0}] * 2


def test_both_evaluate_what_one_would():
    torch.manual_seed(0)
    network = supernet(TINY, 2, 3, 2, in_channels=1)
    gates = Gates(torch.eye(4)[[3, 1, 2, 3]], (3, 1, 2, 3), unit=True)
    task = ClassificationTask(tiny_data())
    network.eval()  # so that neither thread changes the mode of the other

    def work(collective):
        part = task.test_batches(CONFIG, CPU, (collective.rank, collective.size))
        return evaluate(network, task, part, gates, collective=collective)

    whole = evaluate(network, task, task.test_batches(CONFIG, CPU), gates)
    for found in both(work):
        assert found == pytest.approx(whole)


def test_a_steering_loss_and_its_gradient_are_means():
    weight = torch.rand(2, 3, generator=torch.Generator().manual_seed(1))

    def work(collective):
        factor = 1.0 + 2 * collective.rank
        loss = BatchLoss(None, None, lambda gates: factor * gates.weight.square().sum(), None, collective)
        with torch.no_grad():
            value = loss(Gates(weight))
        return value, *loss.gradient(Gates(weight))

    for value, loss, gradient in both(work):
        torch.testing.assert_close(value, 2 * weight.square().sum())
        torch.testing.assert_close(loss, value)
        torch.testing.assert_close(gradient, 2 * 2 * weight)
        assert not loss.requires_grad


def test_two_processes_have_one_network_and_one_architecture():
    config = dataclasses.replace(CONFIG, epochs=2, test_every=1)

    def work(collective):
        torch.manual_seed(collective.rank)  # other weights to start from, until they are shared
        task = ClassificationTask(tiny_data())
        strategy = strategy_of("nasp", 5, lr=0.05)
        state = SearchState(TINY, strategy, task, config, CPU, collective)
        batches = task.search_batches(config, CPU, (collective.rank, collective.size))
        with Progress("search", task.metrics, 1, shown=False) as shown:
            line = state.run_epoch(batches, shown)
        return line, dict(state.network.named_parameters()), strategy.scores()

    (line, weights, scores), (other, others, others_scores) = both(work)
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    assert torch.equal(scores, others_scores)
    assert not torch.equal(scores, strategy_of("nasp", 5).scores())
    for name in ("train_loss", "train_accuracy", "steer_loss", "test_loss", "genotype"):
        assert line[name] == other[name]
