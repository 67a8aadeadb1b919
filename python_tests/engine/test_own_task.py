# SPDX-License-Identifier: MIT
"""A task that the package has never heard of, that of docs/tasks.md, through everything a run does."""

import dataclasses
import json
import re
import sys
import types
from pathlib import Path

import pytest
import torch

from nasp_ext import RetrainConfig, SearchConfig, retrain, search, strategy
from nasp_ext.engine.architecture import architecture_maps
from nasp_ext.engine.checkpoint import load_checkpoint, save_checkpoint
from nasp_ext.plots import heatmaps_svg, history_svg
from nasp_ext.tasks import Metric, Outcome

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"
CONFIG = SearchConfig(channels=4, epochs=3, batch=16, lr=0.1, seed=2, device="cpu", threads=1, test_every=2)


@pytest.fixture(scope="module")
def own():
    """The classes of the page's example."""
    module = types.ModuleType("own_task")
    sys.modules[module.__name__] = module  # where dataclasses look up their names
    exec(re.search(r"```python\n(.*?)```", PAGE.read_text(), re.S)[1], vars(module))
    return module


def run(own, name="nasp", task=None, config=CONFIG, **options):
    space = own.Filters()
    found = strategy(name, space, seed=1, **({"lr": 0.05} if name == "nasp" else {}))
    return search(space, found, own.Smoothing() if task is None else task, config, **options)


def timeless(lines):
    measured = ("seconds", "search_seconds", "start_memory", "peak_memory")
    return [{key: value for key, value in line.items() if key not in measured} for line in lines]


class Interrupted:
    """A task that is cut at its n-th batch."""

    def __init__(self, task, at) -> None:
        self.task, self.left = task, at

    def __call__(self, *given):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return type(self.task).run(self.task, *given)


@pytest.mark.parametrize("name", ["nasp", "asng", "random"])
def test_it_is_searched_cut_resumed_and_drawn(own, tmp_path, name, capsys):
    whole = run(own, name)
    cut = own.Smoothing()
    cut.run = Interrupted(own.Smoothing(), 40)
    with pytest.raises(KeyboardInterrupt):
        run(own, name, cut, out=tmp_path)
    done = len((tmp_path / "history.jsonl").read_text().splitlines())
    assert 0 < done < 3
    resumed = run(own, name, out=tmp_path, resume=True, progress=True)
    assert timeless(resumed.history) == timeless(whole.history)
    weights = whole.network.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in resumed.network.state_dict().items())
    assert json.loads((tmp_path / "genotype.json").read_text()) == {"filters": [*resumed.genotype.filters]}
    assert "What was found" in (tmp_path / "filters.svg").read_text()
    assert tmp_path / "filters.svg" in resumed.files
    assert "mae" in history_svg(resumed.history).lower()
    maps = heatmaps_svg(architecture_maps(own.Filters(), resumed.history), "Filters")
    assert maps.count('class="mark"') == 2 * 3
    printed = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"epoch 3/3  loss [\d.]+  train \d\.\d{4}  validation \d\.\d{4}  entropy [\d.]+  wide filters [012]  "
        r"[\d.]+ s",
        printed,
    )


def test_its_metrics_are_the_fields_of_its_history(own):
    lines = run(own).history
    parts = ("train", "steer", "val")
    wanted = [f"{part}_{name}" for part in parts for name in ("loss", "mae")]
    assert [key for key in lines[0] if key.endswith(("_loss", "_mae"))] == [*wanted, "mixture_mae"]
    assert lines[0]["mixture_mae"] is None
    assert "skip_connections" not in lines[0]
    assert lines[0]["wide_filters"] in (0, 1, 2)
    assert [("test_mae" in line, "test_loss" in line) for line in lines] == [
        (False, False),
        (True, True),
        (False, False),
    ]
    dense = run(own, "darts").history
    assert all(line["mixture_mae"] > 0 for line in dense)


def test_what_it_found_is_retrained_cut_and_resumed(own, tmp_path):
    config = RetrainConfig(channels=4, epochs=3, batch=16, lr=0.1, device="cpu", threads=1)
    found = own.Found(("wide", "narrow"))
    whole = retrain(found, own.Smoothing(), config)
    cut = own.Smoothing()
    cut.run = Interrupted(own.Smoothing(), 20)  # of 8 batches of training and 4 of testing in an epoch
    with pytest.raises(KeyboardInterrupt):
        retrain(found, cut, config, out=tmp_path)
    resumed = retrain(found, own.Smoothing(), config, out=tmp_path, resume=True)
    assert timeless(resumed.history) == timeless(whole.history)
    assert resumed.test == {"loss": resumed.test_loss, "mae": resumed.test_mae}
    assert resumed.test_mae == whole.history[-1]["test_mae"]
    with pytest.raises(AttributeError, match="'test_accuracy'"):
        _ = resumed.test_accuracy
    with pytest.raises(ValueError, match="checkpoint of this genotype"):
        retrain(own.Found(("wide", "wide")), own.Smoothing(), config, out=tmp_path, resume=True)


def damaged(line, **changes):
    return {**{key: value for key, value in line.items() if key not in changes}, **changes}


@pytest.mark.parametrize(
    "number, changes, message",
    [
        (0, {"val_mae": -1.0}, r"history\[0\]\.val_mae to be a finite number >= 0"),
        (0, {"steer_mae": "x"}, r"history\[0\]\.steer_mae"),
        (0, {"wide_filters": -1}, r"history\[0\]\.wide_filters"),
        (1, {"test_mae": None}, r"history\[1\]\.test_mae"),
        (0, {"test_mae": 0.5, "test_loss": 0.5}, r"test_loss every 2 epochs"),
        (0, {"genotype": {"filters": ["round"]}}, r"history\[0\]\.genotype"),
    ],
)
def test_a_damaged_line_of_its_history_is_refused(own, tmp_path, number, changes, message):
    run(own, config=dataclasses.replace(CONFIG, epochs=2), out=tmp_path)
    state = load_checkpoint(tmp_path / "checkpoint.pt", "search")
    state["history"][number] = damaged(state["history"][number], **changes)
    save_checkpoint(tmp_path / "checkpoint.pt", state)
    with pytest.raises(ValueError, match=rf"checkpoint\.pt: .*{message}"):
        run(own, config=dataclasses.replace(CONFIG, epochs=2), out=tmp_path, resume=True)


def remembering(own):
    """The task, as if it went on from the mean of the batch before."""

    class Remembering(own.Smoothing):
        def __init__(self) -> None:
            super().__init__()
            self.given = []

        def run(self, network, batch, gates=None, state=None):
            self.given.append((torch.is_grad_enabled(), state))
            memory = torch.zeros(()) if state is None else state["memory"]
            mean = network(batch[0], gates).mean()
            found = super().run(network, batch, gates)
            return Outcome(found.loss + 0.1 * memory * mean, found.sums, found.count, {"memory": mean})

    return Remembering()


def test_a_state_goes_from_batch_to_batch_and_over_a_cut(own, tmp_path):
    task = remembering(own)
    whole = run(own, "nasp", task)
    trained = [state for grad, state in task.given if grad]
    assert trained[:2] == [None, None]  # the first steering batch, the first training batch
    assert all(state is not None and not state["memory"].requires_grad for state in trained[2:])
    one, two = trained[2]["memory"], trained[3]["memory"]  # of steering and of training
    assert one != two
    evaluations = [state for grad, state in task.given if not grad]
    assert evaluations[0] is None
    assert sum(state is None for state in evaluations) == 3 + 1  # each validation, and the test
    cut = remembering(own)
    cut.run = Interrupted(remembering(own), 20)  # the second of 8 + 4 + …
    with pytest.raises(KeyboardInterrupt):
        run(own, "nasp", cut, out=tmp_path)
    stored = load_checkpoint(tmp_path / "checkpoint.pt", "search")
    assert {*stored["streams"]} == {"train", "steer"}
    resumed = run(own, "nasp", remembering(own), out=tmp_path, resume=True)
    assert timeless(resumed.history) == timeless(whole.history)
    stored = load_checkpoint(tmp_path / "checkpoint.pt", "search")
    stored["streams"]["train"]["memory"] = torch.tensor(torch.nan)
    save_checkpoint(tmp_path / "checkpoint.pt", stored)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: expected streams to hold finite"):
        run(own, "nasp", remembering(own), out=tmp_path, resume=True)


def test_all_runs_of_a_batch_start_from_one_state(own):
    task = remembering(own)
    run(own, "asng", task, dataclasses.replace(CONFIG, epochs=1))
    seen = [state["memory"] for _, state in task.given if state is not None]
    # Two samples steer, two train, from the state of their own part.
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert seen[0] != seen[2]


def test_metrics_have_to_be_told_apart_and_summed(own):
    class Twice(own.Smoothing):
        metrics = (Metric("mae"), Metric("mae"))

    class Named(own.Smoothing):
        metrics = (Metric("loss"),)

    class Unsummed(own.Smoothing):
        metrics = (Metric("recall"),)

    for task in (Twice(), Named()):
        with pytest.raises(ValueError, match="metrics of different names beside the loss"):
            run(own, task=task)
    with pytest.raises(ValueError, match=r"outcome with sums of recall, got \['mae'\]"):
        run(own, task=Unsummed())


def test_a_task_without_metrics_shows_its_loss(own, capsys):
    class Plain(own.Smoothing):
        metrics = ()

    lines = run(own, "darts", Plain(), progress=True).history
    assert lines[0]["mixture_loss"] > 0
    printed = capsys.readouterr().out.splitlines()[0]
    assert re.search(r"loss [\d.]+  validation loss [\d.]+ \(mixture loss [\d.]+\)  entropy", printed)
