# SPDX-License-Identifier: MIT
"""A task that is no image task through the commands: search, derive, retrain, plot, count, compare."""

import json
import math
import re

import pytest
import torch
from cli_calls import SEARCH, call, error_of
from reading_task import Characters, ReaderFamily, Readers, ReadingSettings, reading

from nasp_ext.arch import family
from nasp_ext.arch.registry import _SPACES, register_space
from nasp_ext.cli import COMMANDS, main
from nasp_ext.commands import compare as comparing
from nasp_ext.commands.parsing import parse
from nasp_ext.engine.run import Run
from nasp_ext.engine.settings import RetrainRun, SearchRun, TaskSettings
from nasp_ext.tasks.registry import _KINDS, register_task

TASK = ["--task", "reading", "--device", "cpu", "--threads", "1"]


@pytest.fixture(scope="module", autouse=True)
def registered():
    register_task("reading", ReadingSettings, reading)
    register_space(Readers())
    family.register_family(ReaderFamily())
    yield
    del _KINDS["reading"], _SPACES["readers"], family._FAMILIES["reader"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reading") / "search"
    assert main(["search", *TASK, "--data", "second", "--seed", "3", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_search_starts_from_what_its_task_suggests(searched):
    run = Run.open(searched)
    settings = run.settings
    assert (settings.space.name, settings.epochs, settings.lr) == ("readers", 2, 1.0)
    assert settings.strategy.options["lr"] == 0.05
    assert settings.task == TaskSettings("reading", ReadingSettings("second", units=3))
    assert [line["val_perplexity"] for line in run.history] == pytest.approx(
        [math.exp(line["val_loss"]) for line in run.history], rel=1e-6
    )


def test_words_come_on_top_of_what_a_task_suggests_of_itself():
    start = COMMANDS["search"].start
    for words, units in ((["--units", "9"], 9), ([], 3)):
        argv = [*TASK, *words]
        assert parse(start(argv), "search", argv).run.task.options.units == units


def test_derive_plot_and_count_take_its_run(capsys, searched, here):
    status, out, _ = call(capsys, "derive", "--run", searched, "--out", here / "derived")
    assert status == 0
    assert re.search(r"^test perplexity with the weights of the search: \d+\.\d{3}$", out, re.M)
    status, out, _ = call(capsys, "plot", "--genotype", searched, "--out", here / "plots")
    assert status == 0
    assert {file.name for file in (here / "plots").iterdir()} == {
        *("reader.svg", "history.svg", "architecture.svg")
    }
    assert "Perplexity" in (here / "plots" / "history.svg").read_text()
    assert "of a network of images to count, got one of kind 'reader'" in error_of(
        capsys, "count", "--genotype", searched
    )


def test_a_space_or_genotype_of_another_task_is_one_line(capsys, searched, here):
    argv = ["retrain", "--task", "images", "--limit", "40", "--genotype", searched]
    assert "genotype of a network of images, got one of kind 'reader'" in error_of(capsys, *argv)
    argv = ["search", "--task", "images", "--limit", "40", "--space", "readers", "--batch", "8"]
    assert "a space of networks of images, got 'readers'" in error_of(capsys, *argv)
    assert not (here / "runs").exists()


@pytest.mark.parametrize("file", ["", "genotype.json"])
def test_a_retraining_takes_the_task_of_the_search_that_found_its_genotype(capsys, searched, here, file):
    status, out, err = call(capsys, "retrain", "--genotype", searched / file, *TASK[2:])
    assert (status, err) == (0, "")
    run = Run.open(here / "runs" / "retrain")
    assert run.settings.task == TaskSettings("reading", ReadingSettings("second", units=7))
    assert (run.settings.epochs, run.settings.average_after) == (3, 1)
    last = run.history[-1]
    lines = out.splitlines()
    assert lines[-1] == f"test perplexity: {last['test_perplexity']:.3f}"
    assert lines[-2] == f"best epoch: {last['best_epoch']}, of the least validation loss"
    assert re.match(r"epoch 1/3  loss \S+  train \S+  validation \S+  best epoch 1  \S+ s$", lines[0])


def test_a_cell_is_carried_over_to_another_text_in_one_command(capsys, searched, here):
    argv = ["retrain", "--genotype", searched, "--task", "reading", "--data", "first", *TASK[2:]]
    assert call(capsys, *argv)[0] == 0
    run = Run.open(here / "runs" / "retrain")
    assert run.settings.task == TaskSettings("reading", ReadingSettings("first", units=5))
    assert run.genotype == Run.open(searched).genotype


def test_another_task_than_that_of_the_search_starts_from_its_own_settings(searched):
    start = COMMANDS["retrain"].start
    assert start(["--genotype", str(searched), "--task", "images"]).run.task == TaskSettings()
    assert start(["--genotype", "DARTS_V2"]).run.task == TaskSettings()
    found = start(["--genotype", str(searched), "--units", "9"]).run.task
    assert found.options.data == "second"


def test_the_search_in_the_usual_folder_says_what_its_task_is(capsys, searched, here):
    (here / "runs").mkdir()
    (here / "runs" / "search").symlink_to(searched)
    assert COMMANDS["retrain"].start([]).run.task.name == "reading"
    assert call(capsys, "retrain", *TASK[2:])[0] == 0
    assert Run.open(here / "runs" / "retrain").settings.genotype == "runs/search"


def test_a_folder_without_a_run_or_of_a_retraining_leaves_the_usual_task(capsys, searched, here):
    call(capsys, "retrain", "--genotype", searched, *TASK[2:])
    for folder in (here, here / "runs" / "retrain"):
        assert COMMANDS["retrain"].start(["--genotype", str(folder)]).run.task == TaskSettings()


def test_settings_may_bring_the_genotype_and_the_run_is_repeated_from_its_file(capsys, here):
    argv = ["retrain", *TASK, "--cell", "plain"]
    assert call(capsys, *argv)[0] == 0
    folder = here / "runs" / "retrain"
    stored = json.loads((folder / "config.json").read_text())
    assert stored["genotype"] is None
    assert stored["task"]["cell"] == "plain"
    assert json.loads((folder / "genotype.json").read_text())["activations"] == ["tanh", "tanh"]
    again = ["retrain", "--config-file", folder / "config.json", "--out", here / "again"]
    assert call(capsys, *again)[0] == 0
    assert (here / "again" / "config.json").read_text() == (folder / "config.json").read_text()
    one, two = (torch.load(f / "checkpoint.pt")["best"]["network"] for f in (folder, here / "again"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert call(capsys, "retrain", "--resume")[0] == 0


def test_a_cell_of_the_words_takes_the_place_of_the_genotype_of_a_file(capsys, searched, here):
    assert call(capsys, "retrain", "--genotype", searched, *TASK[2:], "--out", here / "one")[0] == 0
    argv = [
        "retrain",
        "--config-file",
        here / "one" / "config.json",
        "--cell",
        "plain",
        "--out",
        here / "two",
    ]
    assert call(capsys, *argv)[0] == 0
    assert Run.open(here / "two").settings.genotype is None
    assert Run.open(here / "two").genotype.activations == ("tanh", "tanh")


def test_a_genotype_beside_settings_that_bring_one_is_refused(capsys, searched, here):
    argv = ["retrain", *TASK, "--cell", "plain", "--genotype", searched]
    message = error_of(capsys, *argv)
    assert "expected no genotype beside the settings of task 'reading'" in message
    assert not (here / "runs").exists()
    message = error_of(capsys, "search", *TASK, "--cell", "plain")
    assert "leave open what a search is to find" in message
    with pytest.raises(ValueError, match="expected no genotype beside"):
        RetrainRun(genotype="runs/search", task=TaskSettings("reading", ReadingSettings(cell="plain")))
    assert RetrainRun().genotype == "runs/search"


def test_what_means_nothing_to_a_task_is_no_flag_and_cannot_be_set(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["retrain", *TASK, "--help"])
    shown = capsys.readouterr().out
    assert "--units" in shown
    assert not [name for name in Characters.without if f"--{name.replace('_', '-')}" in shown]
    for word in ("--drop-path", "--drop_path", "--drop-path=0.1"):
        message = error_of(capsys, "retrain", *TASK, word, "0.1")
        assert f"task 'reading' has no setting drop_path, got {word}" in message
    assert "no setting cells" in error_of(capsys, "compare", *TASK, "--cells", "3")
    config = json.loads(SearchRun(task=TaskSettings("reading")).to_json())
    config["training"]["cells"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    message = error_of(capsys, "search", "--config-file", tmp_path / "config.json")
    assert "expected cells to be 8, its default, for task 'reading', to which it means nothing" in message
    assert "--cells" in error_of(capsys, *SEARCH, "--cells", "many")  # images have it


def test_a_cut_retraining_is_resumed_from_the_command_line(capsys, searched, here):
    argv = ["retrain", "--genotype", searched, *TASK[2:], "--rollbacks", "1"]
    assert call(capsys, *argv)[0] == 0
    folder = here / "runs" / "retrain"
    before = (folder / "history.jsonl").read_text()
    status, out, err = call(capsys, *argv, "--resume")
    assert (status, err) == (0, "")
    assert (folder / "history.jsonl").read_text() == before
    assert out.splitlines()[-1].startswith("test perplexity: ")
    assert "rollbacks 1 → 2" in error_of(capsys, *argv, "--resume", "--rollbacks", "2")
    assert "units 7 → 8" in error_of(capsys, *argv, "--resume", "--units", "8")


def test_suggestions_that_are_no_flags_are_refused(capsys, monkeypatch):
    for wrong in ("unit", "strategy", "genotype", "task"):
        monkeypatch.setattr(ReadingSettings, "suggested", lambda settings, kind, wrong=wrong: {wrong: 1})
        for command in ("search", "retrain", "compare"):
            assert f"own, got '{wrong}'" in error_of(capsys, command, *TASK)


def test_a_task_and_its_settings_agree_what_means_nothing(capsys, monkeypatch, searched):
    monkeypatch.setattr(ReadingSettings, "without", ("cells",))
    assert "expected ReadingSettings.without to be that of Characters" in error_of(
        capsys, "retrain", "--genotype", searched
    )


def test_compare_searches_and_retrains_it(capsys, here, monkeypatch):
    def search(run, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "search.json").write_text(run.to_json())
        words = ["--config-file", str(folder / "search.json"), "--resume", "--out", str(folder)]
        assert main(["search", *words]) == 0
        yield "epoch 2/2"

    monkeypatch.setattr(comparing, "search_in_a_process_of_its_own", search)
    argv = ["compare", *TASK, "--strategies", "nasp,random", "--retrain", "2"]
    status, out, err = call(capsys, *argv)
    assert (status, err) == (0, "")
    table = out[out.index("strategy  runs") :].splitlines()
    assert re.match(r"strategy +runs +validation perplexity +test perplexity, inherited +test perp", table[0])
    row = dict(zip(re.split(r"  +", table[0].strip()), re.split(r"  +", table[1].strip()), strict=True))
    run = Run.open(here / "runs" / "compare" / "nasp-seed-0")
    assert run.settings.strategy.options["lr"] == 0.05
    assert (run.settings.cells, run.settings.task.options.units) == (SearchRun.cells, 3)
    assert row["validation perplexity"] == f"{run.history[-1]['val_perplexity']:.2f}"
    retrained = Run.open(here / "runs" / "compare" / "nasp-seed-0" / "retrain-2").history[-1]
    assert retrained["lr"] == pytest.approx(0.75)  # halfway from 1 to the 0.5 that the search has
    assert row["test perplexity, retrained"] == f"{retrained['test_perplexity']:.2f}"
    drawing = (here / "runs" / "compare" / "compare.svg").read_text()
    assert "first, 2 epochs" in drawing
    assert "Validation perplexity, derived cells" in drawing
    assert "%" not in re.sub(r"<style.*?</style>|\w+=\"[^\"]*\"", "", drawing, flags=re.S)
