# SPDX-License-Identifier: MIT
"""Run.open: what a folder of a run says, of this version and of the one that had its settings in one list."""

import json

import pytest
import torch
from engine_helpers import CONFIG, run, timeless

import nasp_ext
from nasp_ext import RetrainConfig, Run, SearchConfig
from nasp_ext.cli import main
from nasp_ext.engine.checkpoint import save_checkpoint
from nasp_ext.engine.settings import RetrainRun, SearchRun

# config.json of a search with version 0.1.0 before settings had groups, but for its sizes.
FORMER = {
    "cells": 3,
    "channels": 2,
    "epochs": 2,
    "batch": 8,
    "seed": 0,
    "lr": 0.1,
    "lr_min": 0.001,
    "momentum": 0.9,
    "weight_decay": 0.0003,
    "clip": 5.0,
    "device": "cpu",
    "threads": 1,
    "fused": True,
    "warmup_epochs": 0,
    "bn_batches": 8,
    "data": "digits",
    "data_dir": None,
    "limit": 40,
    "space": "nas-bench-201",
    "partial_channels": None,
    "strategy": "pa",
    "preset": "paper",
    "arch_lr": 0.1,
    "eta": 0.0,
    "edges_per_node": "all",
    "strategy_options": ["init=0.25"],
}
WORDS = ["search", "--space", "nas-bench-201", "--strategy", "pa", "--preset", "paper", "--arch-lr", "0.1"]
WORDS += ["--edges-per-node", "all", "--strategy-options", "init=0.25", "--limit", "40", "--cells", "3"]
WORDS += ["--channels", "2", "--epochs", "2", "--batch", "8", "--device", "cpu"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "search"
    assert main([*WORDS, "--out", str(folder)]) == 0
    return folder


def test_a_search_is_opened(searched):
    found = Run.open(searched)
    assert (found.kind, found.folder) == ("search", searched)
    assert (found.settings.space.name, found.settings.strategy.name) == ("nas-bench-201", "pa")
    assert (found.settings.task.name, found.settings.task.options.limit) == ("images", 40)
    assert [line["epoch"] for line in found.history] == [1, 2]
    assert found.genotype.to_json() == (searched / "genotype.json").read_text().strip()
    assert found.checkpoint["history"] == found.history


def test_settings_are_stored_in_groups(searched):
    stored = json.loads((searched / "config.json").read_text())
    assert list(stored) == ["kind", "task", "space", "strategy", "training"]
    assert stored["task"] == {"name": "images", "data": "digits", "data_dir": None, "limit": 40}
    assert stored["space"] == {"name": "nas-bench-201", "partial_channels": None, "reductions": []}
    options = {"preset": "paper", "lr": 0.1, "edges_per_node": None, "init": 0.25}
    assert stored["strategy"].items() >= {"name": "pa", **options}.items()
    assert stored["training"]["epochs"] == 2


def test_a_run_that_was_called_from_python_is_opened(tmp_path):
    whole = run(config=CONFIG, out=tmp_path)
    found = nasp_ext.Run.open(str(tmp_path))
    assert type(found.settings) is SearchConfig
    assert found.settings == CONFIG
    assert timeless(found.history) == timeless(whole.history)
    with pytest.raises(ValueError, match="expected the run of a command, found that of a call from Python"):
        found.settings_as(SearchRun)


def test_what_is_not_there_yet_is_told(tmp_path):
    (tmp_path / "config.json").write_text(CONFIG.to_json())
    found = Run.open(tmp_path)
    assert found.history == []
    with pytest.raises(ValueError, match="expected the genotype of a finished search"):
        _ = found.genotype
    with pytest.raises(ValueError, match=r"checkpoint\.pt: expected a checkpoint, found no such file"):
        _ = found.checkpoint


def test_a_folder_without_a_run_is_one_error(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere", "x" * 5000):
        assert not Run.is_in(folder)
        with pytest.raises(
            ValueError, match=r"expected the folder of a search or a retraining, found no conf"
        ):
            Run.open(folder)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "expected a configuration as JSON"),
        ('{"kind": "dance", "training": {}}', "kind to be one of search, retrain, got 'dance'"),
        ('{"kind": ["search"], "training": {}}', "kind to be one of"),
        ('{"kind": "search", "training": 3}', "expected training to be a JSON object, got 3"),
        ('{"kind": "search", "colour": {}}', "expected the groups kind, training, got colour"),
        ('{"kind": "search", "task": {"name": "words"}}', "one of images, language, got 'words'"),
        ('{"kind": "search", "task": {"name": ["images"]}}', "name of a task, one of images"),
        ('{"task": {"name": "images"}, "cells": 3}', "name of a task, one of images"),
        ('{"kind": "search", "task": {"colour": 1}}', "of task 'images', got colour"),
        ('{"kind": "search", "task": {}, "space": {"colour": 1}}', "of the space, got colour"),
        ('{"kind": "search", "task": {}, "strategy": {"colour": 1}}', "'nasp' has no option colour"),
        ('{"kind": "search", "task": {}, "strategy": {"eta": "much"}}', "eta of strategy 'nasp' to be float"),
        ('{"kind": "retrain", "task": {}, "training": {"colour": 1}}', "of the training, got colour"),
        ('{"epochs": 0}', "expected epochs to be >= 1"),
    ],
)
def test_damaged_settings_are_one_error_that_names_the_file(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        Run.open(tmp_path)
    assert str(error.value).startswith(str(tmp_path / "config.json"))


@pytest.mark.parametrize("group", ["task", "space", "strategy", "training"])
def test_a_group_that_is_left_out_has_its_defaults_wherever_it_is_read(searched, tmp_path, group):
    stored = json.loads((searched / "config.json").read_text())
    del stored[group]
    file = tmp_path / "config.json"
    file.write_text(json.dumps(stored))
    assert Run.open(tmp_path).settings == SearchRun.from_file(file)


def test_settings_of_the_former_version_are_read(searched, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(FORMER))
    found = Run.open(tmp_path)
    assert (found.kind, found.settings) == ("search", Run.open(searched).settings)


@pytest.mark.parametrize("name", ["random", "asng", "darts"])
def test_fields_that_a_strategy_never_had_are_dropped_from_former_settings(name):
    shared = {"preset": "official", "arch_lr": 0.003, "eta": 0.0, "edges_per_node": "preset"}
    found = SearchRun.from_json(json.dumps({**FORMER, **shared, "strategy": name, "strategy_options": []}))
    assert not {"preset", "eta"} & set(found.strategy.options)
    assert found.strategy.options.get("lr") == (0.003 if name == "darts" else None)


def test_settings_of_a_former_retraining_are_read(tmp_path):
    flat = RetrainRun(genotype="DARTS_V2", cells=3).flat()
    del flat["task"]
    (tmp_path / "config.json").write_text(json.dumps(flat))
    found = Run.open(tmp_path)
    assert (found.kind, found.settings) == ("retrain", RetrainRun(genotype="DARTS_V2", cells=3))
    (tmp_path / "config.json").write_text(json.dumps({"epochs": 3, "drop_path": 0.1}))
    assert Run.open(tmp_path).settings == RetrainConfig(epochs=3, drop_path=0.1)


def as_former(folder, out):
    """A copy of a run after its first epoch, as the former version would have left it."""
    out.mkdir()
    assert main([*WORDS[:-6], "--epochs", "2", "--batch", "8", "--device", "cpu", "--out", str(out)]) == 0
    (out / "config.json").write_text(json.dumps(FORMER))
    content = torch.load(folder / "checkpoint.pt", weights_only=True)
    content["config"] = {**FORMER, "strategy_options": ("init=0.25",)}
    del content["format"]
    save_checkpoint(out / "checkpoint.pt", content)


def test_a_run_of_the_former_version_resumes_and_is_derived(capsys, searched, tmp_path):
    out = tmp_path / "former"
    as_former(searched, out)
    before = Run.open(out).history
    assert main(["derive", "--run", str(out)]) == 0
    assert main(["plot", "--genotype", str(out), "--out", str(tmp_path / "plots")]) == 0
    capsys.readouterr()
    assert main(["search", "--resume", "--out", str(out), "--arch-lr", "0.2"]) == 2
    assert "arch_lr 0.1 → 0.2" in capsys.readouterr().err
    assert main(["search", "--resume", "--out", str(out)]) == 0
    assert timeless(Run.open(out).history) == timeless(before)
    assert Run.open(out).checkpoint["config"]["strategy_options"] == ("init=0.25",)  # nothing was left to do


def test_the_checkpoint_of_another_strategy_names_the_strategy_alone():
    mine = SearchRun.from_flat({"strategy": "random"})
    assert mine.differences(FORMER).count("strategy") == 1
    assert "preset" not in mine.differences(FORMER)
    assert "strategy 'pa' → 'random'" in mine.differences(FORMER)
