# SPDX-License-Identifier: MIT
"""The command nasp-ext: what it prints and writes, and one line with status 2 for each user error."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
import torch
from cli_calls import RETRAIN, SEARCH, call, error_of

from nasp_ext.cli import main
from nasp_ext.engine.settings import RetrainRun, SearchRun, StrategySettings, TaskSettings
from nasp_ext.families.cells.genotype import Genotype


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "search"
    assert main([*SEARCH, "--out", str(folder)]) == 0
    return folder


def test_search_then_retrain_end_with_the_accuracy(capsys, searched, tmp_path):
    genotype = Genotype.from_json((searched / "genotype.json").read_text())
    status, out, _ = call(capsys, *RETRAIN, "--genotype", searched, "--out", tmp_path / "retrain")
    assert status == 0
    lines = out.splitlines()
    assert lines[-1].startswith("test accuracy: ")
    assert lines[-1].endswith("%")
    assert f"genotype: {genotype.to_json()}" in lines
    for name in ("config.json", "checkpoint.pt", "cell_normal.svg", "cell_reduce.svg"):
        assert f"wrote {tmp_path / 'retrain' / name}" in lines


def test_search_prints_genotype_files_and_accuracy(capsys, tmp_path):
    status, out, err = call(capsys, *SEARCH, "--out", tmp_path / "run", "--strategy", "random")
    assert status == 0
    assert err == ""
    assert out.splitlines()[0].startswith("epoch 1/2  loss ")
    assert f"genotype: {(tmp_path / 'run' / 'genotype.json').read_text().strip()}" in out
    assert "validation accuracy of the supernet: " in out
    assert f"wrote {tmp_path / 'run' / 'cell_normal.svg'}" in out


def test_config_file_reproduces_the_run(capsys, searched, tmp_path):
    file = searched / "config.json"
    assert call(capsys, "search", "--config-file", file, "--out", tmp_path / "again")[0] == 0
    assert (tmp_path / "again" / "config.json").read_text() == file.read_text()
    assert (tmp_path / "again" / "genotype.json").read_text() == (searched / "genotype.json").read_text()
    one, two = (torch.load(f / "checkpoint.pt")["network"] for f in (searched, tmp_path / "again"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_resume_takes_the_options_of_the_run(capsys, searched):
    before = (searched / "config.json").read_text()
    assert call(capsys, "search", "--resume", "--out", searched)[0] == 0
    assert (searched / "config.json").read_text() == before


def test_derive_leaves_the_global_generator_and_threads_alone(capsys, searched):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    call(capsys, "derive", "--run", searched)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)


def test_derive_prints_the_genotype_and_writes_the_weights(capsys, searched, tmp_path):
    status, out, _ = call(capsys, "derive", "--run", searched, "--out", tmp_path)
    assert status == 0
    assert f"genotype: {(searched / 'genotype.json').read_text().strip()}" in out
    assert "test accuracy with the weights of the search: " in out
    assert "classifier.weight" in torch.load(tmp_path / "derived.pt", weights_only=True)
    assert (tmp_path / "genotype.json").read_text() == (searched / "genotype.json").read_text()


@pytest.mark.parametrize("source", ["DARTS_V2", "folder", "file"])
def test_plot_draws_a_named_or_stored_genotype(capsys, searched, tmp_path, source):
    where = {"folder": searched, "file": searched / "genotype.json"}.get(source, source)
    assert call(capsys, "plot", "--genotype", where, "--out", tmp_path / "new")[0] == 0
    written = sorted(file.name for file in (tmp_path / "new").iterdir())
    cells = ["cell_normal.svg", "cell_reduce.svg"]
    assert written == (["architecture.svg", *cells, "history.svg"] if source == "folder" else cells)


def test_plot_names_the_damaged_line_of_a_history(capsys, searched, tmp_path):
    (tmp_path / "genotype.json").write_text((searched / "genotype.json").read_text())
    (tmp_path / "config.json").write_text((searched / "config.json").read_text())
    (tmp_path / "history.jsonl").write_text('{"epoch": 1, "train_loss": 2.0}\n{"epoch": 2, "tra')
    message = error_of(capsys, "plot", "--genotype", tmp_path, "--out", tmp_path / "new")
    assert "history.jsonl: expected a JSON object in line 2" in message
    assert not (tmp_path / "new").exists()


def test_info_tells_versions_and_why_a_part_is_missing(capsys):
    status, out, _ = call(capsys, "info")
    assert status == 0
    assert f"PyTorch {torch.__version__}" in out
    assert "CUDA" in out


@pytest.mark.parametrize("strategy", ["nasp", "pa", "pa-lazy"])
def test_eta_counts_parameters_and_prefers_cheap_options(capsys, tmp_path, strategy):
    argv = [*SEARCH, "--strategy", strategy, "--preset", "paper", "--arch-lr", "0.5", "--out", tmp_path]
    assert call(capsys, *argv, "--eta", "100")[0] == 0
    genotype = Genotype.from_json((tmp_path / "genotype.json").read_text())
    assert "conv_1x1" not in {name for name, _ in (*genotype.normal, *genotype.reduce)}


def test_edges_per_node_all_keeps_every_edge(capsys, tmp_path):
    assert call(capsys, *SEARCH, "--edges-per-node", "1", "--out", tmp_path / "one")[0] == 0
    genotype = Genotype.from_json((tmp_path / "one" / "genotype.json").read_text())
    assert (len(genotype.normal), genotype.normal_nodes) == (1, (1,))
    assert call(capsys, *SEARCH, "--edges-per-node", "all", "--out", tmp_path / "all")[0] == 0
    assert len(Genotype.from_json((tmp_path / "all" / "genotype.json").read_text()).normal) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--space", "mars"], "one of .*darts.*got 'mars'"),
        (["--strategy", "darwin"], "one of .*darts, .*nasp, .*random, got 'darwin'"),
        (["--preset", "fast"], "expected preset to be one of .*'fast'"),
        (["--strategy", "random", "--eta", "0.1"], "strategy 'random' has no option eta"),
        (["--batch", "21"], "batch of at most 20 images, half of the 40"),
        (["--batch", "0"], "expected batch to be >= 1"),
        (["--epochs", "many"], "--epochs"),
        (["--epoch", "3", "--nonsense", "4"], "--nonsense"),
        (["--limit", "0"], "limit >= 1"),
        (["--data", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--data", "cifar10", "--data-dir", "/nowhere"], "cifar10: no data files.*/nowhere.*to get them"),
        (["--device", "tpu9"], "expected device"),
        (["--warmup-epochs", "2"], r"expected warmup_epochs to be in \[0, epochs\)"),
        (["--seed", str(2**63)], "expected seed to be"),
        (["--edges-per-node", "some"], "expected edges_per_node"),
        (["--config-file", "/nowhere.json"], "/nowhere.json: expected a readable configuration file"),
        (["--resume", "--overwrite"], "resume or overwrite, got both"),
    ],
)
def test_a_wrong_option_of_search_is_one_line_and_writes_nothing(capsys, tmp_path, options, message):
    error = error_of(capsys, *SEARCH, "--out", tmp_path / "run", *options)
    assert re.search(message, error), error
    assert not (tmp_path / "run").exists()


def test_an_empty_data_set_is_one_line(capsys, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    assert "found none of them" in error_of(capsys, *SEARCH, "--data", data, "--out", tmp_path / "run")


def test_another_run_in_the_folder_is_one_line(capsys, searched):
    assert "--resume or --overwrite" in error_of(capsys, *SEARCH, "--out", searched)


def test_an_unwritable_folder_is_one_line(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "expected a folder to write to" in error_of(capsys, *SEARCH, "--out", tmp_path / "file" / "run")
    assert "expected a folder to write to" in error_of(capsys, *SEARCH, "--out", "/proc/run")


def test_other_options_at_resuming_are_one_line(capsys, searched):
    error = error_of(capsys, "search", "--resume", "--out", searched, "--space", "darts")
    assert "space 'tiny-cli' → 'darts'" in error


def test_a_truncated_checkpoint_is_one_line(capsys, searched, tmp_path):
    (tmp_path / "config.json").write_text((searched / "config.json").read_text())
    (tmp_path / "checkpoint.pt").write_bytes((searched / "checkpoint.pt").read_bytes()[:2000])
    assert "damaged" in error_of(capsys, "search", "--resume", "--out", tmp_path)
    assert "damaged" in error_of(capsys, "derive", "--run", tmp_path)


def test_a_missing_or_bad_genotype_is_one_line(capsys, tmp_path):
    assert "found no file" in error_of(capsys, *RETRAIN, "--genotype", tmp_path, "--out", tmp_path / "run")
    (tmp_path / "bad.json").write_text("{")
    assert "bad.json" in error_of(capsys, "plot", "--genotype", tmp_path / "bad.json")
    (tmp_path / "foreign.json").write_text(
        json.dumps({"normal": [["warp", 0]], "reduce": [], "normal_concat": [2], "reduce_concat": [0]})
    )
    assert "foreign.json" in error_of(capsys, "plot", "--genotype", tmp_path / "foreign.json")


def test_a_search_that_does_not_exist_is_one_line(capsys, tmp_path):
    assert "config.json" in error_of(capsys, "derive", "--run", tmp_path)


def test_an_unknown_command_is_one_line(capsys):
    assert re.search("one of info, search, .*reproduce, got 'fly'", error_of(capsys, "fly"))


def test_help_lists_commands_and_options(capsys):
    status, out, _ = call(capsys, "--help")
    assert status == 0
    assert all(name in out for name in ("info", "search", "derive", "retrain", "plot", "reproduce"))
    with pytest.raises(SystemExit) as stop:
        main(["search", "--help"])
    assert stop.value.code == 0
    assert "--edges-per-node" in capsys.readouterr().out


def test_ctrl_c_says_how_to_go_on(capsys, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("nasp_ext.engine.training.WeightStep.__call__", interrupted)
    status, _, err = call(capsys, *SEARCH, "--out", tmp_path)
    assert status == 130
    assert err.endswith("same command with --resume\n")


def test_configurations_survive_json_and_refuse_what_they_do_not_know():
    asng = StrategySettings("asng", {"lam": 4})
    limited = RetrainRun(task=TaskSettings.of("images", {"limit": 7}))
    for run in (SearchRun(threads=3), SearchRun(strategy=asng), limited):
        assert type(run).from_json(run.to_json()) == run
    with pytest.raises(ValueError, match=r"expected the fields .*got colour"):
        SearchRun.from_json('{"colour": 1}')
    with pytest.raises(ValueError, match="expected epochs to be int, got True"):
        SearchRun.from_json('{"epochs": true}')
    with pytest.raises(ValueError, match=r"expected strategy_options to be tuple\[str, \.\.\.\], got \[1\]"):
        SearchRun.from_json('{"strategy_options": [1]}')
    with pytest.raises(ValueError, match="JSON"):
        SearchRun.from_json("{")


@pytest.mark.parametrize("argv", [["info"], ["--help"], ["search", "--help"]])
def test_reader_that_closes_the_pipe_ends_the_command_quietly(argv):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "nasp_ext", *argv]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 128 + signal.SIGPIPE
