# SPDX-License-Identifier: MIT
"""A run that was cut goes on with the bits of one that was not; what cannot be resumed says why."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from engine_helpers import (
    CONFIG,
    TINY,
    CutTask,
    assert_same_run,
    history_file,
    logits_as_evaluated,
    run,
    space_of,
    strategy_of,
    tiny_data,
)

from nasp_ext.engine import derive_run, search
from nasp_ext.engine.checkpoint import write_atomic
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.genotypes import genotype_from_json
from nasp_ext.strategies import names, strategy
from nasp_ext.tasks.images.task import ClassificationTask

# Losses per epoch: 3 batches, each with one steering and one training loss, then 4 of validation.
MIDDLE_OF_THIRD_EPOCH = 2 * 10 + 3


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("at", [2, MIDDLE_OF_THIRD_EPOCH])
def test_ctrl_c_loses_the_current_epoch_at_most(tmp_path, whole_run, at):
    with pytest.raises(KeyboardInterrupt):
        run(task=CutTask(tiny_data(), at, interrupt), out=tmp_path)
    assert len(history_file(tmp_path)) == at // 10
    assert_same_run(tmp_path, whole_run, run(out=tmp_path, resume=True))


@pytest.mark.parametrize("name", [name for name in names() if name != "nasp"])
def test_every_strategy_resumes_bit_for_bit_and_derives(tmp_path, name):
    whole, losses = run(name, task=CutTask(tiny_data(), -1, interrupt)), CutTask(tiny_data(), -1, interrupt)
    run(name, config=dataclasses.replace(CONFIG, epochs=2), task=losses)
    with pytest.raises(KeyboardInterrupt):  # in the third epoch, however many losses an epoch takes
        run(name, task=CutTask(tiny_data(), losses.calls + 2, interrupt), out=tmp_path)
    assert len(history_file(tmp_path)) == 2
    resumed = run(name, out=tmp_path, resume=True)
    assert_same_run(tmp_path, whole, resumed)
    found, data = strategy_of(name, 99), ClassificationTask(tiny_data())
    derived = derive_run(space_of(name), found, data, CONFIG, tmp_path)
    assert derived.genotype == resumed.genotype
    assert genotype_from_json((tmp_path / "genotype.json").read_text()) == resumed.genotype
    x = torch.rand(3, 1, 8, 8)
    expected = logits_as_evaluated(resumed, x)
    torch.testing.assert_close(derived.network.eval()(x), expected, rtol=1e-4, atol=1e-5)


def test_warm_up_resumes_bit_for_bit(tmp_path):
    config = dataclasses.replace(CONFIG, warmup_epochs=3)
    whole = run(config=config)
    with pytest.raises(KeyboardInterrupt):
        # An epoch takes three losses, three for statistics and four of validation: cut in the second.
        run(task=CutTask(tiny_data(), 12, interrupt), config=config, out=tmp_path)
    assert len(history_file(tmp_path)) == 1
    assert_same_run(tmp_path, whole, run(config=config, out=tmp_path, resume=True))


def test_kill_9_loses_the_current_epoch_at_most(tmp_path, whole_run):
    code = (
        "import os, signal; from engine_helpers import *\n"
        "cut = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"run(task=CutTask(tiny_data(), {MIDDLE_OF_THIRD_EPOCH}, cut), out={str(tmp_path)!r})"
    )
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1])])
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(history_file(tmp_path)) == 2
    resumed = run(out=tmp_path, resume=True)
    assert_same_run(tmp_path, whole_run, resumed)
    assert resumed.genotype == whole_run.genotype


@pytest.mark.parametrize("change", ["lost", "doubled", "half"])
def test_history_is_made_equal_to_the_checkpoint(tmp_path, whole_run, change):
    with pytest.raises(KeyboardInterrupt):
        run(task=CutTask(tiny_data(), MIDDLE_OF_THIRD_EPOCH, interrupt), out=tmp_path)
    file = tmp_path / "history.jsonl"
    first, second = file.read_text().splitlines(keepends=True)
    file.write_text({"lost": first, "doubled": first + second + second, "half": first + second[:20]}[change])
    assert_same_run(tmp_path, whole_run, run(out=tmp_path, resume=True))


def test_resuming_a_finished_run_changes_nothing(tmp_path, whole_run):
    run(out=tmp_path)
    assert_same_run(tmp_path, whole_run, run(out=tmp_path, resume=True))


def test_resuming_an_empty_folder_starts(tmp_path, whole_run):
    assert_same_run(tmp_path, whole_run, run(out=tmp_path, resume=True))


def test_another_run_in_the_folder_is_refused_and_kept(tmp_path, whole_run):
    run(out=tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"found config\.json.*another run.*--resume or --overwrite"):
        run(out=tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert_same_run(tmp_path, whole_run, run(out=tmp_path, overwrite=True))


def test_other_options_are_refused_and_named(tmp_path):
    run(out=tmp_path)
    with pytest.raises(ValueError, match=r"found another \(seed 3 → 4\)"):
        run(out=tmp_path, resume=True, config=dataclasses.replace(CONFIG, seed=4))


def test_a_checkpoint_of_another_space_is_refused(tmp_path):
    run(out=tmp_path)
    other = CellSpace("other", TINY.normal[1:], TINY.reduce, nodes=1)
    task = CutTask(tiny_data(), 1, interrupt)  # refused before the first loss
    message = "expected the checkpoint of a search in space 'other', found space 'tiny'"
    with pytest.raises(ValueError, match=message):
        search(other, strategy("nasp", other, seed=1), task, CONFIG, out=tmp_path, resume=True)


def test_a_checkpoint_of_another_strategy_is_refused(tmp_path):
    run(out=tmp_path)
    with pytest.raises(
        ValueError, match="expected a checkpoint of RandomStrategy, found one of NASPStrategy"
    ):
        run("random", out=tmp_path, resume=True)


def test_a_checkpoint_with_other_partial_channels_is_refused(tmp_path):
    run(out=tmp_path)
    assert "partial_channels" not in torch.load(tmp_path / "checkpoint.pt", weights_only=True)["space"]
    other = TINY.with_partial_channels(2)
    with pytest.raises(ValueError, match="in space 'tiny-pc2', found space 'tiny'"):
        search(
            other,
            strategy("nasp", other, seed=1),
            CutTask(tiny_data(), 1, interrupt),
            CONFIG,
            out=tmp_path,
            resume=True,
        )


@pytest.mark.parametrize("keep", [0, 10, 3000, -100])
def test_a_truncated_checkpoint_is_one_clear_error(tmp_path, keep):
    run(out=tmp_path)
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(
        ValueError, match=r"checkpoint\.pt: expected a checkpoint, found a file that is damaged"
    ):
        run(out=tmp_path, resume=True)


def test_a_foreign_file_is_no_checkpoint(tmp_path):
    run(out=tmp_path)
    torch.save({"weights": torch.zeros(3)}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="expected a nasp_ext checkpoint of format 2, found None"):
        run(out=tmp_path, resume=True)


def test_a_checkpoint_that_would_execute_code_is_refused(tmp_path):
    run(out=tmp_path)
    torch.save({"format": 1, "kind": "search", "evil": Path("x")}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="damaged"):
        run(out=tmp_path, resume=True)


def test_an_output_folder_that_is_a_file_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("x")
    task = CutTask(tiny_data(), 1, interrupt)
    with pytest.raises(ValueError, match="expected a folder to write to"):
        run(task=task, out=tmp_path / "file" / "run")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    file = tmp_path / "checkpoint.pt"
    write_atomic(file, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_resume_without_a_folder_and_resume_with_overwrite_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected out, the folder"):
        run(resume=True)
    with pytest.raises(ValueError, match="resume or overwrite, got both"):
        run(out=tmp_path, resume=True, overwrite=True)


def test_a_batch_larger_than_half_of_the_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch of at most 25 images, half of the 50"):
        run(config=dataclasses.replace(CONFIG, batch=26), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
