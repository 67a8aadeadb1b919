# SPDX-License-Identifier: MIT
"""Two options of a search: how it does on the test part over the epochs, and cutout."""

import dataclasses
import re

import pytest
import torch
from engine_helpers import CONFIG, run, space_of, strategy_of, timeless, tiny_data

from nasp_ext.engine import derive_run
from nasp_ext.engine.checkpoint import load_checkpoint, save_checkpoint
from nasp_ext.tasks.images.task import ClassificationTask


@pytest.mark.parametrize("name", ["nasp", "darts", "asm"])
def test_the_test_curve_changes_nothing_else(name):
    plain = timeless(run(name).history)
    tested = timeless(run(name, config=dataclasses.replace(CONFIG, test_every=2)).history)
    assert [sorted({*one} - {*other}) for one, other in zip(tested, plain, strict=True)] == [
        [],
        ["test_accuracy", "test_loss"],
    ] * 2
    for one in tested:
        for key in ("test_accuracy", "test_loss"):
            one.pop(key, None)
    assert tested == plain


@pytest.mark.parametrize("name", ["nasp", "darts"])
def test_its_last_point_is_what_is_derived(tmp_path, name):
    config = dataclasses.replace(CONFIG, test_every=1)
    lines = run(name, config=config, out=tmp_path).history
    task = ClassificationTask(tiny_data())
    derived = derive_run(space_of(name), strategy_of(name, 0), task, config, tmp_path)
    assert derived.test_accuracy == lines[-1]["test_accuracy"]
    assert derived.test["loss"] == pytest.approx(lines[-1]["test_loss"], rel=1e-4)


def test_a_checkpoint_of_before_there_was_a_curve_is_resumed(tmp_path):
    config = dataclasses.replace(CONFIG, epochs=2)
    whole = run(config=config, out=tmp_path)
    stored = load_checkpoint(tmp_path / "checkpoint.pt", "search")
    del stored["config"]["test_every"], stored["config"]["cutout"]
    save_checkpoint(tmp_path / "checkpoint.pt", stored)
    assert run(config=config, out=tmp_path, resume=True).history == whole.history


def test_the_curve_is_printed(capsys):
    run(config=dataclasses.replace(CONFIG, epochs=1, test_every=1), progress=True)
    assert re.search(r"train [\d.]+%  validation [\d.]+%  test [\d.]+%  entropy", capsys.readouterr().out)


def test_cutout_blanks_a_square_of_what_trains_and_steers():
    task = ClassificationTask(tiny_data())
    config = dataclasses.replace(CONFIG, cutout=3)
    found = task.search_batches(config, torch.device("cpu"))
    assert (found.train.cutout, found.steer.cutout, found.validate.cutout) == (3, 3, 0)
    assert timeless(run(config=config).history) != timeless(run().history)


@pytest.mark.parametrize("name", ["test_every", "cutout"])
def test_negative_numbers_are_refused(name):
    with pytest.raises(ValueError, match=f"expected {name} to be >= 0, got -1"):
        dataclasses.replace(CONFIG, **{name: -1})
