# SPDX-License-Identifier: MIT
"""nasp-ext compare: the table by hand, children that are not started twice, a cut that goes on."""

import dataclasses
import json
import re
from xml.etree import ElementTree

import pytest
import torch
from cli_calls import SIZES, SPACE, call

from nasp_ext.cli import main
from nasp_ext.commands import child, results
from nasp_ext.commands import compare as command
from nasp_ext.commands.results import Result, curves_svg, rows_of, to_json
from nasp_ext.engine.run import Run
from nasp_ext.engine.settings import SearchRun
from nasp_ext.engine.strategy_list import StrategyList
from nasp_ext.tasks.images.task import ClassificationTask

(ACCURACY,) = ClassificationTask.metrics
BASE = {
    "validation": 0.5,
    "test": 0.4,
    "retrained": None,
    "parameters": 1000,
    "search_seconds": 3.0,
    "peak_memory": 300 * 2**20,
    "start_memory": 200 * 2**20,
    "curve": ((5, 1.0, 0.3, None), (10, 3.0, 0.5, 0.6)),
}
HEAD = ["strategy", "runs", "validation %", "test %, inherited"]
TAIL = ["parameters", "search s", "peak MiB", "above start MiB"]


def result(strategy, seed, **values):
    return Result(**{**BASE, "strategy": strategy, "seed": seed, **values})


def small_run(**options):
    sizes = {"cells": 3, "channels": 2, "epochs": 1, "batch": 8, "limit": 40, "threads": 1}
    return SearchRun.from_flat({**sizes, **options})


def compared(capsys, out, *argv):
    return call(capsys, "compare", "--space", SPACE, "--epochs", "2", *SIZES, "--out", out, *argv)


@pytest.fixture
def inside(monkeypatch):
    """Searches in this process, which knows the small space; gives the runs that were started."""
    started = []

    def search(run, folder):
        started.append(folder.name)
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "search.json"
        config.write_text(run.to_json())
        assert main(["search", "--config-file", str(config), "--resume", "--out", str(folder)]) == 0
        yield "epoch 2/2"

    monkeypatch.setattr(command, "search_in_a_process_of_its_own", search)
    return started


def test_the_table_holds_means_and_deviations():
    slow, better = result("darts", 0, search_seconds=30.0), result("nasp", 1, validation=0.6)
    rows = rows_of([result("nasp", 0), slow, better], ACCURACY)
    assert rows[0] == [*HEAD, *TAIL]
    assert rows[1] == ["nasp", "2", "55.00 ± 7.07", "40.00 ± 0.00", "1,000", "3.0", "300", "100"]
    assert rows[2] == ["darts", "1", "50.00", "40.00", "1,000", "30.0", "300", "100"]


def test_columns_without_any_value_are_left_out():
    rows = rows_of([result("nasp", 0, truth=0.943), result("darts", 0, retrained=0.7)], ACCURACY)
    assert rows[0] == [*HEAD, "test %, retrained", "truth %", *TAIL]
    assert [row[4:6] for row in rows[1:]] == [["-", "94.30"], ["70.00", "-"]]


def test_curves_are_drawn_against_time_and_iterations():
    drawn = ElementTree.fromstring(
        curves_svg([result("nasp", 0), result("nasp", 1), result("pa", 0)], "All", ACCURACY)
    )
    words = [node.text for node in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("seconds of search") == words.count("iterations") == 2
    lines = [node for node in drawn.iter() if node.get("class") == "series"]
    assert len(lines) == 4 * 3  # panels, runs
    assert len({node.get("stroke") or node.get("fill") for node in lines[:3]}) == 2  # strategies


def test_a_history_becomes_a_result_and_survives_json():
    lines = [
        {
            "iterations": 5 * n,
            "search_seconds": float(n),
            "val_accuracy": 0.1 * n,
            "steer_accuracy": None if n == 1 else 0.3,
            "start_memory": 10 * n,
            "peak_memory": 100 - n,
        }
        for n in (1, 2)
    ]
    others = {
        "strategy": "nasp",
        "seed": 3,
        "test": 0.4,
        "retrained": None,
        "parameters": 9,
    }
    found = Result.from_history(lines, ACCURACY, **others)
    assert found.curve == ((5, 1.0, 0.1, None), (10, 3.0, 0.2, 0.3))
    assert (found.validation, found.search_seconds) == (0.2, 3.0)
    assert (found.start_memory, found.peak_memory) == (10, 99)
    assert Result.from_json(json.loads(json.dumps(to_json(found)))) == found


def test_memory_that_no_run_knows_has_no_column():
    line = {"iterations": 5, "search_seconds": 1.0, "val_accuracy": 0.1, "steer_accuracy": None}
    history = [{**line, "start_memory": None, "peak_memory": None}] * 2
    others = {"strategy": "nasp", "seed": 3, "test": 0.4, "retrained": None}
    found = Result.from_history(history, ACCURACY, parameters=9, **others)
    assert (found.start_memory, found.peak_memory, found.memory_above_start) == (None, None, None)
    assert not [name for name in rows_of([found], ACCURACY)[0] if "MiB" in name]


def test_runs_that_are_there_are_not_run_again(capsys, tmp_path, inside):
    argv = ["--strategies", "nasp,random", "--seeds", "1,2", "--retrain", "1", "--preset", "paper"]
    argv += ["--bn-batches", "1"]
    status, first, err = compared(capsys, tmp_path, *argv)
    assert (status, err) == (0, "")
    assert inside == ["nasp-seed-1", "random-seed-1", "nasp-seed-2", "random-seed-2"]
    table = first[first.index("strategy  runs") :]
    assert re.search(r"^nasp +2 ", table, re.M)
    assert "test %, retrained" in table
    assert json.loads((tmp_path / "nasp-seed-1" / "config.json").read_text())["strategy"]["preset"] == "paper"
    counts = [Run.open(tmp_path / f"{name}-seed-1").history for name in ("nasp", "random")]
    assert [[line["bn_batches"] for line in history] for history in counts] == [[0, 0], [1, 1]]
    assert (tmp_path / "compare.svg").exists()
    assert len(json.loads((tmp_path / "compare.json").read_text())["results"]) == 4
    assert compared(capsys, tmp_path, *argv)[:2] == (0, table)
    assert len(inside) == 4


def test_a_cut_comparison_goes_on(capsys, tmp_path, inside, monkeypatch):
    whole = compared(capsys, tmp_path / "whole", "--strategies", "pa,random")[1]
    derive, calls = command.derive_run, []

    def cut(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return derive(*args)

    monkeypatch.setattr(command, "derive_run", cut)
    status, _, err = compared(capsys, tmp_path / "cut", "--strategies", "pa,random")
    assert status == 130
    assert err.endswith("the same command goes on\n")
    del inside[:]
    status, again, _ = compared(capsys, tmp_path / "cut", "--strategies", "pa,random")
    assert inside == ["random-seed-0"]  # which resumes
    accuracies = re.compile(r"^(pa|random) +1 +\S+ +\S+ +\S+", re.M)
    assert [m[0] for m in accuracies.finditer(again)] == [m[0] for m in accuracies.finditer(whole)]


def test_a_child_searches_and_its_error_is_told(tmp_path):
    run = small_run(strategy="random", lr=0.1)
    lines = list(child.search_in_a_process_of_its_own(run, tmp_path / "run"))
    assert [line.split()[1] for line in lines] == ["1/1"]
    assert (tmp_path / "run" / "genotype.json").exists()
    other = dataclasses.replace(run, lr=0.3)
    with pytest.raises(ValueError, match=r"'random' failed with status 2: .*lr 0\.1 → 0\.3"):
        list(child.search_in_a_process_of_its_own(other, tmp_path / "run"))


def test_a_strategy_brings_its_partial_channels(capsys, tmp_path, inside):
    argv = ["--channels", "4", "--strategies", "nasp,pc-darts", "--retrain", "1"]
    status, out, _ = compared(capsys, tmp_path, *argv)
    assert (status, len(inside)) == (0, 2)
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith(("nasp ", "pc-"))}
    assert len(rows["pc-darts"]) == len(rows["nasp"])
    spaces = [torch.load(tmp_path / folder / "checkpoint.pt")["space"]["name"] for folder in inside]
    assert spaces == [SPACE, f"{SPACE}-pc4"]


def test_a_table_of_trained_architectures_gives_the_truth(tmp_path, inside):
    random = StrategyList(("random",))
    compared = command.Compare(strategies=random, search=small_run(space=SPACE), out=str(tmp_path))
    seen, lines = [], []

    def truth(genotype):
        seen.append(genotype)
        return 0.9437

    compared.run(lines.append, truth)
    compared.run(lines.append, truth)
    assert len(inside) == 1
    assert len(set(seen)) == 1  # of the one epoch, and of the search
    assert sum("94.37" in line for line in lines) == 2
    assert "in the table" in (tmp_path / "compare.svg").read_text()
    (stored,) = json.loads((tmp_path / "compare.json").read_text())["results"]
    assert Result.from_json(stored).truths == (0.9437,)


def test_the_truth_of_each_epoch_is_drawn_as_the_mean_of_the_seeds(monkeypatch):
    panels = []
    monkeypatch.setattr(results, "chart_svg", lambda drawn, *_, **__: panels.extend(drawn) or "")
    known = [result("nasp", 0, truths=(0.5, 0.7)), result("nasp", 1, truths=(0.7, 0.9)), result("pa", 0)]
    curves_svg(known, "All", ACCURACY)
    assert panels[-1].series == {"nasp": [[(5.0, pytest.approx(60)), (10.0, pytest.approx(80))]]}


@pytest.mark.parametrize(
    "options, message",
    [
        (["--strategies", "nasp,darwin"], "one of .*nasp.*, got 'darwin'"),
        (["--strategies", "nasp,nasp"], "expected different strategies"),
        (["--seeds", "1,1"], "expected different seeds"),
        (["--retrain", "-1"], "expected retrain >= 0"),
        (
            ["--strategy-options", "gdas:tau=1"],
            "expected strategy:name=value, .* one of nasp, pa, darts",
        ),
        (["--strategy-options", "nasp:colour=red"], "'nasp' takes the options .*colour"),
        (["--batch", "21"], "batch of at most 20"),
        (["--space", "mars"], "got 'mars'"),
        (["--preset", "fast"], "expected preset"),
    ],
)
def test_a_wrong_option_is_one_line_before_any_search(capsys, tmp_path, options, message):
    status, out, err = compared(capsys, tmp_path / "new", *options)
    assert (status, out) == (2, "")
    assert re.search(message, err), err
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()
