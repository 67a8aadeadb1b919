# SPDX-License-Identifier: MIT
"""Mistakes in a task or a space of one's own: one error each, before a checkpoint that none could resume."""

import dataclasses
import math
import re
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from nasp_ext import RetrainConfig, SearchConfig, register_space, retrain, search, strategy
from nasp_ext.tasks import Metric, Outcome, SearchData

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"
CONFIG = SearchConfig(channels=4, epochs=1, batch=16, lr=0.1, device="cpu", threads=1)


@pytest.fixture(scope="module")
def own():
    """The classes of the page's example."""
    module = types.ModuleType("own_task_mistakes")
    sys.modules[module.__name__] = module  # where dataclasses look up their names
    exec(re.search(r"```python\n(.*?)```", PAGE.read_text(), re.S)[1], vars(module))
    return module


def searched(own, task, space=None, name="nasp", **options):
    space = own.Filters() if space is None else space
    return search(space, strategy(name, space), task, dataclasses.replace(CONFIG, **options))


def changed(own, change):
    """The task with outcomes changed."""

    class Changed(own.Smoothing):
        def run(self, network, batch, gates=None, state=None):
            return change(super().run(network, batch, gates, state))

    return Changed()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count of an outcome >= 1, got 0"),
        ({"count": 16.0}, "count of an outcome to be a whole number, got float"),
        ({"sums": {"mae": 3.0}}, r"sums\['mae'\] of an outcome to be a tensor \(\), got float"),
        ({"sums": {"mae": torch.ones(16)}}, r"sums\['mae'\] of an outcome to be a tensor \(\), got \(16,\)"),
        ({"sums": None}, "expected sums by the names of metrics, got NoneType"),
        ({"loss": 1.0}, r"loss of an outcome to be a tensor \(\), got float"),
        ({"loss": torch.ones(1)}, r"loss of an outcome to be a tensor \(\), got \(1,\)"),
        ({"loss": torch.ones(())}, "whose loss has a graph"),
        ({"auxiliary": 1.0}, r"auxiliary of an outcome to be a tensor \(\), got float"),
        ({"sums": {"mae": torch.tensor(math.nan)}}, "mean of mae to be a finite number >= 0, found nan"),
        ({"sums": {"mae": torch.tensor(-1.0)}}, "mean of mae to be a finite number >= 0, found -"),
        ({"state": {1}}, "state of an outcome to be None, a tensor or a number, .* got set"),
        ({"state": [object()]}, "state of an outcome .* got object"),
    ],
)
def test_an_outcome_that_cannot_be_is_one_error_in_search_and_retraining(own, change, message):
    task = changed(own, lambda outcome: dataclasses.replace(outcome, **change))
    with pytest.raises((ValueError, TypeError), match=message):
        searched(own, task)
    config = RetrainConfig(channels=4, epochs=1, batch=16, device="cpu", threads=1)
    with pytest.raises((ValueError, TypeError), match=message):
        retrain(own.Found(("wide", "narrow")), task, config)


def test_what_is_no_outcome_is_told(own):
    with pytest.raises(TypeError, match=r"Changed.run to give an Outcome, got Tensor"):
        searched(own, changed(own, lambda outcome: outcome.loss))


def test_a_state_that_is_not_finite_never_gets_into_a_checkpoint(own, tmp_path):
    task = changed(own, lambda found: dataclasses.replace(found, state=torch.tensor(math.nan)))
    with pytest.raises(ValueError, match="streams to hold finite tensors"):
        search(own.Filters(), strategy("nasp", own.Filters()), task, CONFIG, out=tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mae", "q"), "format of metric 'mae'"),
        ((3,), "name of a metric in lower case"),
        (("mae", ".3f", True, 2, 1), "low <= high of metric 'mae'"),
    ],
)
def test_a_metric_that_cannot_be_printed_or_stored_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Metric(*arguments)


def test_metrics_are_metrics(own):
    class Named(own.Smoothing):
        metrics = ("mae",)

    with pytest.raises(TypeError, match="metrics to be a tuple of Metric"):
        searched(own, Named())


@pytest.mark.parametrize(("part", "count"), [("train", 0), ("steer", 0), ("validate", 0), ("steer", 32)])
def test_parts_without_batches_or_of_other_lengths_are_refused(own, part, count):
    class Parted(own.Smoothing):
        def search_batches(self, config, device, shard=(0, 1)):
            parts = super().search_batches(config, device, shard)
            return dataclasses.replace(parts, **{part: own.Signals(count, config.batch, 0, device)})

    with pytest.raises(ValueError, match=f"{part} part"):
        searched(own, Parted())


def test_a_part_that_says_another_length_is_refused(own):
    class Longer(own.Signals):
        def __len__(self):
            return 7

    class Lying(own.Smoothing):
        def search_batches(self, config, device, shard=(0, 1)):
            return SearchData(*(Longer(64, config.batch, part, device) for part in range(3)))

        def training_batches(self, config, device, shard=(0, 1)):
            return Longer(64, config.batch, 0, device)

    with pytest.raises(ValueError, match=r"expected 7 batches.* got "):
        searched(own, Lying(), name="random")
    with pytest.raises(ValueError, match=r"expected 7 batches.* got "):
        retrain(own.Found(("wide",)), Lying(), RetrainConfig(channels=4, epochs=1, batch=16, device="cpu"))


@pytest.mark.parametrize("name", ["nasp", "darts", "darts-2nd", "gdas", "pa"])
def test_a_network_that_does_not_use_its_gates_is_told(own, name):
    class Deaf(own.Smoothing):
        def supernet(self, space, config):
            return own.Filtering([nn.Identity()], config.channels)

        def run(self, network, batch, gates=None, state=None):
            return super().run(network, batch)

    with pytest.raises(ValueError, match="loss that depends on the gates"):
        searched(own, Deaf(), name=name)


@pytest.mark.parametrize(
    "counted", [{"epoch": 5}, {"val_loss": 1}, {"entropy": 1}, {"genotype": 1}, {"wide": 1.5}, None]
)
def test_counts_of_a_genotype_cannot_take_the_place_of_what_a_history_has(own, counted):
    class Counted(own.Found):
        def counts(self):
            return counted

    class Counting(own.Filters):
        def _genotype(self, active):
            return Counted(super()._genotype(active).filters)

    with pytest.raises(ValueError, match=r"counts\(\)"):
        searched(own, own.Smoothing(), Counting())


@pytest.mark.parametrize("name", ["config.json", "checkpoint.pt", "../x.svg", ""])
def test_drawings_cannot_take_the_place_of_other_files(own, tmp_path, name):
    class Drawn(own.Found):
        def drawings(self):
            return {name: "<svg/>"}

    class Drawing(own.Filters):
        def _genotype(self, active):
            return Drawn(super()._genotype(active).filters)

    space = Drawing()
    with pytest.raises(ValueError, match="drawings as text by the names of SVG files"):
        search(space, strategy("nasp", space), own.Smoothing(), CONFIG, out=tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_text().startswith("{")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows": 3}, "node_offsets of space 'filters' to go up from 0 to its 3 rows"),
        ({"node_offsets": (0, 1, 5)}, "node_offsets"),
        ({"node_offsets": ()}, "node_offsets"),
        ({"rows": 0}, "one row or more"),
        ({"choices": lambda space, row: ("a", "a", "b")}, r"choices\(0\) of space 'filters' to be different"),
        ({"choices": lambda space, row: ()}, r"choices\(0\)"),
    ],
)
def test_rows_nodes_and_choices_of_a_space_fit_together(own, wrong, message):
    space = type("Wrong", (own.Filters,), wrong)()
    with pytest.raises(ValueError, match=message):
        strategy("nasp", space)
    with pytest.raises(ValueError, match=message):
        register_space(space)


def test_a_right_outcome_may_hold_all_that_a_state_can(own):
    state = {"memory": [torch.ones(2, requires_grad=True), (None, 3, 0.5, True)]}
    task = changed(own, lambda outcome: dataclasses.replace(outcome, state=state))
    assert searched(own, task).history
    assert Outcome(torch.zeros(()), {"mae": torch.tensor(3)}, 2).count == 2
