# SPDX-License-Identifier: MIT
"""What a language model asks of the engine, beside validation: state, lengths, rates, a metric of a mean."""

import dataclasses
import math

import pytest
import torch
from engine_helpers import assert_same_run, history_file, timeless
from reading_task import LENGTHS, RETRAIN, SEARCH, Characters, Reader, Readers
from test_collectives import both

from nasp_ext import retrain, search
from nasp_ext.engine import search_state
from nasp_ext.engine.evaluation import evaluate
from nasp_ext.engine.measures import Totals
from nasp_ext.engine.progress import Progress
from nasp_ext.engine.statistics import task_statistics
from nasp_ext.engine.training import WeightStep, rate_of
from nasp_ext.strategies import strategy
from nasp_ext.strategies.base import option_types
from nasp_ext.tasks import Metric, Outcome

CPU = torch.device("cpu")


def searched(name="nasp", task=None, config=SEARCH, **options):
    lr = {"lr": 0.05} if name in ("nasp", "darts", "darts-2nd") else {}
    seed = {"seed": 1} if "seed" in option_types(name) else {}
    found = strategy(name, Readers(), **lr, **seed)
    return search(Readers(), found, Characters() if task is None else task, config, **options)


class Watched(Characters):
    """Notes what each batch started from, and is cut at the n-th."""

    def __init__(self, cut=0, **options):
        super().__init__(**options)
        self.cut, self.seen = cut, []

    def run(self, network, batch, gates=None, state=None):
        self.seen.append((torch.is_grad_enabled(), network.training, state))
        if len(self.seen) == self.cut:
            raise KeyboardInterrupt
        return super().run(network, batch, gates, state)


@pytest.mark.parametrize("name", ["nasp", "darts", "darts-2nd", "gdas", "asng", "random", "pa"])
@pytest.mark.parametrize("warmup", [0, 1])
def test_a_search_of_sequences_is_cut_and_resumed_bit_for_bit(tmp_path, name, warmup):
    config = dataclasses.replace(SEARCH, warmup_epochs=warmup)
    counted = Watched()
    whole = searched(name, counted, config)
    with pytest.raises(KeyboardInterrupt):
        searched(name, Watched(cut=2 * len(counted.seen) // 3), config, out=tmp_path)
    assert 0 < len(history_file(tmp_path)) < SEARCH.epochs
    assert_same_run(tmp_path, whole, searched(name, None, config, out=tmp_path, resume=True))


def test_evaluations_and_statistics_start_from_no_state_and_leave_those_of_the_training_alone():
    task = Watched()
    searched("darts", task, dataclasses.replace(SEARCH, epochs=2, bn_batches=3))
    kinds = [(grad, training) for grad, training, _ in task.seen]
    starts = [(grad, training) for grad, training, state in task.seen if state is None]
    steps = len(LENGTHS)
    trained, statistics, evaluated = (True, True), (False, True), (False, False)
    assert kinds.count(trained) == 2 * 2 * steps  # of two epochs: steering and training
    assert kinds.count(statistics) == 2 * 2 * (3 + 1)  # of gates and mixture; the first batch twice
    assert kinds.count(evaluated) == 2 * 2 * steps
    assert starts.count(trained) == 2  # the first batch of either part
    assert starts.count(statistics) == starts.count(evaluated) == 2 * 2


def test_means_count_every_character_of_segments_of_any_length():
    task = Characters(units=3)
    network = task.derived(Reader(), RETRAIN).double()
    whole = torch.cat([batch[0] for batch in task.test_batches(RETRAIN, CPU).epoch()])
    following = torch.cat([batch[1] for batch in task.test_batches(RETRAIN, CPU).epoch()])
    with torch.no_grad():
        one = task.run(network.eval(), (whole, following, False))
    found = evaluate(network, task, task.test_batches(RETRAIN, CPU))
    assert found["loss"] == pytest.approx(float(one.loss), rel=1e-12)
    assert found["perplexity"] == pytest.approx(math.exp(one.loss), rel=1e-12)


def test_statistics_are_those_of_the_first_batches_in_their_order(monkeypatch):
    task = Watched()
    network = task.supernet(Readers(), SEARCH)
    gates = strategy("nasp", Readers(), seed=1).best()
    batches = task.search_batches(SEARCH, CPU).first_batches(SEARCH.seed, 0, 3)
    with task_statistics(task, network, gates, batches):
        assert [state is None for _, _, state in task.seen] == [True, False, False, False]
    network.norm = torch.nn.Identity()  # a network without a norm has none
    with task_statistics(task, network, gates, []):
        pass


class Rated(Characters):
    """Says a rate of its own."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def rate(self, batch):
        return self.value


@pytest.fixture
def rates(monkeypatch):
    """The learning rate of each step of an SGD optimizer."""
    seen, step = [], torch.optim.SGD.step

    def noted(optimizer, *given):
        seen.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *given)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    return seen


def test_the_learning_rate_of_a_step_follows_the_length_of_its_batch(rates):
    config = dataclasses.replace(RETRAIN, epochs=2)
    lines = retrain(Reader(), Characters(), config).history
    lengths = [len(text) for text, *_ in Characters().training_batches(config, CPU).epoch(config.seed, 1)]
    assert sorted(lengths) == sorted(LENGTHS)
    assert rates[len(LENGTHS) :] == [lines[1]["lr"] * length / 4 for length in lengths]
    assert lines[1]["lr"] == pytest.approx(0.75)  # of the epoch


def test_an_epoch_that_is_run_again_has_its_own_learning_rate(rates):
    config = dataclasses.replace(RETRAIN, rollbacks=1, epochs=4)
    lines = retrain(Reader(), Characters(diverges=(3,)), config).history
    assert lines[3]["rollbacks"] == 1
    again = Characters().training_batches(config, CPU).epoch(config.seed, 4)
    assert rates[4 * len(LENGTHS) :] == [lines[3]["lr"] * len(text) / 4 for text, *_ in again]
    assert lines[3]["lr"] < lines[2]["lr"]


def test_a_search_steps_at_the_rate_of_its_training_batches(rates, monkeypatch):
    seen, made = [], search_state.BatchLoss
    monkeypatch.setattr(
        search_state, "BatchLoss", lambda *given, rate, **named: (seen.append(rate), made(*given, **named))[1]
    )
    config = dataclasses.replace(SEARCH, epochs=1)
    searched(config=config)
    batches = Characters().search_batches(config, CPU).train.epoch(config.seed, 0)
    expected = [len(text) / 4 for text, *_ in batches]
    assert rates == [config.lr * rate for rate in expected]
    assert seen == expected  # of the virtual step of DARTS


def test_a_rate_of_nothing_leaves_the_weights():
    result = retrain(Reader(), Rated(0), dataclasses.replace(RETRAIN, epochs=1))
    torch.manual_seed(RETRAIN.seed)
    fresh = Characters().derived(Reader(), RETRAIN).state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in result.network.state_dict().items())


def test_a_step_at_a_rate_is_one_of_a_learning_rate_that_is_put_back():
    config = dataclasses.replace(RETRAIN, lr=0.5, momentum=0.5, weight_decay=0.0, clip=1e9)
    parameter = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    step = WeightStep([parameter], config)
    step((parameter * torch.tensor([1.0, -4.0])).sum(), 0.25)
    assert parameter.tolist() == [1 - 0.125, 2 + 0.5]
    assert step.optimizer.param_groups[0]["lr"] == 0.5
    step((parameter * torch.tensor([2.0, 0.0])).sum(), 2.0)  # the momentum is half of (1, -4)
    assert parameter.tolist() == [0.875 - 2.5, 2.5 + 2]


@pytest.mark.parametrize(
    ("rate", "error", "message"),
    [
        (math.nan, ValueError, "Rated.rate to give a finite number >= 0, got nan"),
        (math.inf, ValueError, "finite number >= 0, got inf"),
        (-0.5, ValueError, "finite number >= 0, got -0.5"),
        ("1", TypeError, "Rated.rate to give a number, got str"),
        (True, TypeError, "a number, got bool"),
        (torch.ones(()), TypeError, "a number, got Tensor"),
    ],
)
def test_a_rate_that_cannot_be_is_refused(rate, error, message):
    with pytest.raises(error, match=message):
        retrain(Reader(), Rated(rate), RETRAIN)
    with pytest.raises(error, match=message):
        searched(task=Rated(rate))


def test_processes_step_at_the_mean_of_their_rates():
    assert both(lambda collective: rate_of(Rated(1.0 + collective.rank), None, CPU, collective)) == [1.5, 1.5]


PERPLEXITY = Characters.metrics[0]


def test_a_metric_of_a_mean_is_shown_compared_and_hashed():
    again = Metric("perplexity", ".2f", higher_is_better=False, low=1, of_mean=math.exp)
    assert again == PERPLEXITY
    assert len({PERPLEXITY, again, Metric("perplexity")}) == 2
    totals = Totals([PERPLEXITY])
    for mean, count in ((1.0, 1), (3.0, 3)):
        totals.add(Outcome(torch.tensor(mean), {"perplexity": torch.tensor(mean * count)}, count))
    assert totals.means()["perplexity"] == pytest.approx(math.exp(2.5))
    assert PERPLEXITY.text(PERPLEXITY.value(2.5)) == "perplexity 12.18"


@pytest.mark.parametrize("of_mean", [math.exp, lambda mean: float("inf")])
def test_a_metric_too_large_for_a_number_is_a_run_that_has_diverged(of_mean):
    totals = Totals([Metric("perplexity", of_mean=of_mean)])
    totals.add(Outcome(torch.tensor(800.0), {"perplexity": torch.tensor(800.0)}))
    with pytest.raises(FloatingPointError, match=r"finite perplexity, .* mean of 800: the run has diverged"):
        totals.means()


def test_what_becomes_of_a_mean_is_checked():
    totals = Totals([Metric("odds", of_mean=lambda mean: 1 / mean - 3, low=0)])
    totals.add(Outcome(torch.tensor(1.0), {"odds": torch.tensor(0.5)}))
    with pytest.raises(ValueError, match="mean of odds to be a finite number >= 0, found -1"):
        totals.means()
    totals = Totals([Metric("order", of_mean=math.log)])
    totals.add(Outcome(torch.tensor(1.0), {"order": torch.tensor(-0.5)}))
    with pytest.raises(ValueError, match=r"of_mean of metric 'order' to take -0\.5: "):
        totals.means()
    with pytest.raises(TypeError, match="of_mean of metric 'order' to be a function, got 3"):
        Metric("order", of_mean=3)


@pytest.mark.parametrize("name", ["cutout", "cells", "drop_path"])
def test_settings_that_mean_nothing_to_a_task_are_refused_before_any_work(name, tmp_path):
    value = {"cutout": 4, "cells": 5, "drop_path": 0.5}[name]
    task = Watched(cut=1)
    if name != "drop_path":  # a search has none
        with pytest.raises(
            ValueError, match=rf"expected {name} to be \d, its default, for Watched, .* {value}$"
        ):
            searched(task=task, config=dataclasses.replace(SEARCH, **{name: value}), out=tmp_path / "run")
    with pytest.raises(
        ValueError, match=rf"expected {name} to be [\d.]+, its default, for Watched, .*{value}$"
    ):
        retrain(Reader(), task, dataclasses.replace(RETRAIN, **{name: value}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert task.seen == []


@pytest.mark.parametrize("without", [("cellz",), "cells", None, (3,)])
def test_settings_of_no_run_cannot_mean_nothing(without):
    task = Characters()
    task.without = without
    with pytest.raises(ValueError, match=r"Characters\.without to be a tuple of names of settings, got "):
        retrain(Reader(), task, RETRAIN)


def test_a_bar_that_reads_a_loss_that_is_no_number_waits_for_the_end_of_the_epoch(monkeypatch, capsys):
    """Else it would depend on the time of reading how far an epoch got, and with it what a rollback gives."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("nasp_ext.engine.progress._SECONDS_BETWEEN_READS", 0)
    config = dataclasses.replace(RETRAIN, rollbacks=1)
    seen = Watched(diverges=(2,))
    shown = retrain(Reader(), seen, config, progress=True)
    silent = retrain(Reader(), Characters(diverges=(2,)), config)
    assert timeless(shown.history) == timeless(silent.history)
    assert shown.history[-1]["rollbacks"] == 1
    totals = Totals([PERPLEXITY])
    totals.add(Outcome(torch.tensor(math.nan), {"perplexity": torch.tensor(0.0)}))
    with Progress("run", [PERPLEXITY], 2) as bar, pytest.raises(FloatingPointError):
        bar.advance(totals)
    with Progress("run", [PERPLEXITY], 2, patient=True) as bar:
        bar.advance(totals)
    assert "the loss is no number" in capsys.readouterr().err
