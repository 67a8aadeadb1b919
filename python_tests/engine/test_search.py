# SPDX-License-Identifier: MIT
"""What a search does, writes and shows."""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from engine_helpers import CONFIG, TINY, history_file, run, tiny_data

from nasp_ext import strategies
from nasp_ext.config import SearchConfig
from nasp_ext.engine.record import entropy, peak_memory, skip_connections
from nasp_ext.families.cells.genotype import Genotype
from nasp_ext.tasks.images.task import ClassificationTask

FILES = {
    "config.json",
    "history.jsonl",
    "checkpoint.pt",
    "genotype.json",
    "cell_normal.svg",
    "cell_reduce.svg",
}


@pytest.mark.parametrize("name", strategies.names())
def test_every_strategy_searches_and_lowers_the_loss(name):
    result = run(name, config=dataclasses.replace(CONFIG, epochs=12))
    assert min(line["train_loss"] for line in result.history) < 0.6  # two classes: chance is ln 2 = 0.69
    pairs = [pair for cell in result.genotype.cells for pair in result.genotype.pairs(cell)]
    assert {primitive for primitive, _ in pairs} <= set(TINY.normal[1:])


def test_the_folder_holds_all_files_and_they_agree(tmp_path):
    folder = tmp_path / "new" / "run"
    result = run(out=folder)
    assert {file.name for file in folder.iterdir()} == FILES
    assert {file.name for file in result.files} == FILES
    assert Genotype.from_json((folder / "genotype.json").read_text()) == result.genotype
    assert SearchConfig.from_file(folder / "config.json") == CONFIG
    lines = history_file(folder)
    assert lines == list(result.history)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert Genotype.from_json(lines[-1]["genotype"]) == result.genotype
    expected = {"train_loss", "train_accuracy", "val_accuracy", "entropy", "skip_connections", "seconds"}
    assert expected <= set(lines[0])
    assert [line["iterations"] for line in lines] == [3, 6, 9, 12]
    assert all(line["search_seconds"] <= line["seconds"] for line in lines)
    assert lines[-1]["active"] == list(result.gates.active)
    scores = torch.tensor(lines[-1]["scores"])
    assert scores.shape == (TINY.rows, TINY.options)
    assert entropy(scores) == pytest.approx(lines[-1]["entropy"], abs=1e-4)
    assert (folder / "cell_normal.svg").read_text().lstrip().startswith("<")


def test_the_checkpoint_loads_without_executing_anything(tmp_path):
    run(out=tmp_path)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert content["kind"] == "search"
    assert content["space"]["name"] == "tiny"


def test_the_same_seed_gives_the_same_bits_and_another_one_others(whole_run):
    again, other = run(), run(config=dataclasses.replace(CONFIG, seed=4))
    first = next(iter(whole_run.network.state_dict()))
    assert torch.equal(again.network.state_dict()[first], whole_run.network.state_dict()[first])
    assert not torch.equal(other.network.state_dict()[first], whole_run.network.state_dict()[first])


def test_a_search_leaves_the_global_generator_and_threads_alone():
    threads = torch.get_num_threads()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    run(config=dataclasses.replace(CONFIG, epochs=1, threads=2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_a_rests_during_warm_up():
    lines = run(config=dataclasses.replace(CONFIG, warmup_epochs=3)).history
    assert lines[0]["genotype"] == lines[2]["genotype"]
    assert lines[0]["entropy"] == lines[2]["entropy"] != lines[3]["entropy"]


@pytest.mark.parametrize("name, mixed", [("nasp", False), ("darts", True), ("asm", True)])
def test_warm_up_trains_the_resting_mixture_of_a_strategy_that_has_one(name, mixed):
    class Watching(ClassificationTask):
        def supernet(self, space, config):
            net = super().supernet(space, config)
            net.register_forward_pre_hook(watch)
            return net

    def watch(net, given):
        if torch.is_grad_enabled():  # a training step, not an evaluation
            seen.append(given[1])

    seen = []
    run(name, Watching(tiny_data()), dataclasses.replace(CONFIG, epochs=3, warmup_epochs=2))
    warm = seen[:6]  # two epochs of three steps
    assert [gates.active is None for gates in warm] == [mixed] * 6
    assert all(torch.equal(gates.weight, warm[0].weight) for gates in warm) == mixed


def test_warm_up_takes_any_seed():
    config = dataclasses.replace(CONFIG, epochs=2, warmup_epochs=1, seed=2**63 - 1)
    assert len(run(config=config).history) == 2


def test_warm_up_evaluates_no_architecture_that_it_does_not_train():
    class Counting(ClassificationTask):
        def loss(self, logits, target):
            seen.append(torch.is_grad_enabled() and logits.requires_grad)
            return super().loss(logits, target)

    seen = []
    config = dataclasses.replace(CONFIG, epochs=2, warmup_epochs=1)
    lines = run(task=Counting(tiny_data()), config=config).history
    steps, batches = 3, 4  # 50 images: 25 train in three batches of 8, 25 validate in four
    unseen = [False] * (steps + batches)  # statistics and losses of what was not trained last
    assert seen == [*[True] * steps, *unseen, *[True] * 2 * steps, *[False] * batches]
    assert lines[0]["steer_loss"] is None
    assert lines[0]["steer_accuracy"] is None
    assert lines[1]["steer_loss"] > 0


def test_train_and_steering_halves_are_disjoint_and_complete():
    batches = ClassificationTask(tiny_data(51)).search_batches(CONFIG, torch.device("cpu"))
    train, validate = set(batches.train.indices.tolist()), set(batches.validate.indices.tolist())
    assert train.isdisjoint(validate)
    assert train | validate == set(range(51))
    assert set(batches.steer.indices.tolist()) <= validate
    assert len(batches.train) == len(batches.steer) == 3


def test_entropy_of_uniform_and_decided_rows():
    assert entropy(torch.full((2, 4), 0.5)) == pytest.approx(1.3862943611)  # ln 4
    assert entropy(torch.eye(3)) == 0
    assert entropy(torch.zeros(1, 2)) == pytest.approx(0.6931471806)  # ln 2: undecided


def test_peak_memory_grows_with_what_is_held_and_is_this_process_only():
    device = torch.device("cpu")
    before = peak_memory(device)
    held = torch.ones(64, 1024, 1024)  # 256 MiB
    after = peak_memory(device)
    assert after >= before
    assert after > held.nbytes
    code = "import torch, nasp_ext.engine.record as r; print(r.peak_memory(torch.device('cpu')))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 2**26 < int(child.stdout) < after - held.nbytes // 2


def test_peak_memory_is_unknown_where_the_system_does_not_say(monkeypatch, tmp_path):
    monkeypatch.setattr("nasp_ext.engine.record._STATUS", tmp_path / "not there")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory(torch.device("cpu")) is None


def test_skip_connections_of_both_cells_are_counted():
    skip, pool = ("skip_connect", 0), ("max_pool_3x3", 1)
    assert skip_connections(Genotype((skip, pool), (2,), (skip, ("skip_connect", 1)), (2,))) == 3


def test_lines_are_printed_and_no_bar_without_a_terminal(capsys):
    run(config=dataclasses.replace(CONFIG, epochs=2), progress=True)
    captured = capsys.readouterr()
    assert [line.split()[1] for line in captured.out.splitlines()] == ["1/2", "2/2"]
    assert captured.err == ""


def test_a_bar_shows_loss_accuracy_and_time_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    run(config=dataclasses.replace(CONFIG, epochs=2), progress=True)
    shown = capsys.readouterr().err
    assert "search" in shown
    assert "loss " in shown
    assert "accuracy " in shown


def test_a_loss_that_is_no_number_ends_the_search(tmp_path):
    with pytest.raises((FloatingPointError, ValueError), match="finite"):
        run(config=dataclasses.replace(CONFIG, lr=1e30, clip=1e30, weight_decay=1e30), out=tmp_path)
    json.loads((tmp_path / "config.json").read_text())


@pytest.mark.cuda
def test_a_search_runs_on_a_gpu(tmp_path):
    result = run(config=dataclasses.replace(CONFIG, device="cuda"), out=tmp_path)
    assert len(result.history) == 4
