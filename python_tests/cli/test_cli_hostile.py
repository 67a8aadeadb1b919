# SPDX-License-Identifier: MIT
"""Every option of every command with values that nobody should give: one line, status 2, no file.

A value may be a good one for some option; then the command gets as far as its work, which is left out here.
"""

import os
import signal
import subprocess
import sys

import pytest
import torch
from cli_calls import SIZES, SPACE, call

from nasp_ext.commands import derive, plot, retrain, search
from nasp_ext.commands.compare import Compare
from nasp_ext.commands.count import Count
from nasp_ext.commands.flags import flags_of
from nasp_ext.commands.lookup import Lookup
from nasp_ext.engine.settings import SearchRun
from nasp_ext.reproduce import EXPERIMENTS

LONG, NESTED = "9" * 5000, "[" * 3000
VALUES = (
    *("", "x", "-1", "0", "nan", "inf", "1e400", "99999999999999999999", "1.5", "1e300"),
    *(LONG, "é\u2028\n€", NESTED, "None", "[1]", "{}"),
)
ARCH = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|"
COMMANDS = {
    "search": (search.Search, ["search", "--space", SPACE, "--epochs", "2", *SIZES]),
    "retrain": (retrain.Retrain, ["retrain", "--epochs", "1", *SIZES, "--genotype", "DARTS_V2"]),
    "derive": (derive.Derive, ["derive"]),
    "plot": (plot.Plot, ["plot", "--genotype", "DARTS_V2"]),
    "count": (Count, ["count", "--genotype", ARCH, "--cells", "3", "--channels", "2", "--size", "8"]),
    "lookup": (Lookup, ["lookup"]),
    "compare": (
        Compare,
        ["compare", "--space", SPACE, "--epochs", "1", *SIZES[:-2], "--strategies", "random"],
    ),
    **{f"reproduce {name}": (kind, ["reproduce", name]) for name, kind in EXPERIMENTS.items()},
}


# Of groups that commands share: what search and retrain answer, compare and the experiments do too.
GROUPS = {flag.name for flag in flags_of(SearchRun(), without=("strategy",))}


class Worked(Exception):
    """The command began its work: it took its options."""


@pytest.fixture
def lazy(monkeypatch, tmp_path):
    """Commands stop where their work begins."""

    def begin(*_, **__):
        raise Worked

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nasp_ext.engine.search_state.SearchState.run_epoch", begin)
    monkeypatch.setattr(sys.modules["nasp_ext.engine.retrain_state"].RetrainState, "run_epoch", begin)
    monkeypatch.setattr("nasp_ext.commands.plot.write_drawings", begin)
    monkeypatch.setattr("nasp_ext.commands.count.layer_costs", begin)
    monkeypatch.setattr("nasp_ext.commands.compare.search_in_a_process_of_its_own", begin)
    monkeypatch.setattr("nasp_ext.reproduce.asng_toy.iterations_to_target", begin)
    monkeypatch.setattr("nasp_ext.reproduce.asng_nasbench201.AsngNasbench201.search", begin)


def options():
    for name, (kind, _) in COMMANDS.items():
        for flag in flags_of(kind()):
            if name in ("search", "retrain") or flag.name not in GROUPS:
                yield name, flag.name


@pytest.mark.parametrize("command, option", list(options()))
def test_no_value_of_an_option_is_more_than_one_line(capsys, lazy, tmp_path, command, option):
    kind, argv = COMMANDS[command]
    (switch,) = [flag.type is bool for flag in flags_of(kind()) if flag.name == option]
    for value in VALUES:
        words = [*argv, f"--{option.replace('_', '-')}{'' if switch else '='}{'' if switch else value}"]
        try:
            status, _, err = call(capsys, *words)
        except Worked:
            capsys.readouterr()
            for folder, _, files in os.walk(tmp_path):
                for file in files:
                    os.unlink(os.path.join(folder, file))
            continue
        assert status == 2, (value, err)
        assert err.startswith("nasp-ext: error: "), value
        assert err.count("\n") == 1, value
        assert "Traceback" not in err
        assert len(err) < 1500, value
        assert not [file for _, _, files in os.walk(tmp_path) for file in files], value


@pytest.mark.parametrize(
    "words",
    [
        ["--eta", "1e300"],
        ["--lr", "inf"],
        ["--arch-lr", "1e10"],
        ["--strategy", "darts", "--strategy-options", "betas=[0.5]"],
        ["--strategy", "darts", "--strategy-options", "betas=[0.5, NaN]"],
        ["--strategy", "darts", "--strategy-options", 'betas=[0.5, "x"]'],
        ["--strategy", "darts", "--strategy-options", f"betas={NESTED}"],
        ["--strategy-options", "init=NaN"],
        ["--strategy-options", "init=1e400"],
        ["--strategy", "asng", "--strategy-options", "lam=1000000"],
        ["--strategy", "asng", "--strategy-options", f"lam={LONG}"],
        ["--strategy", "gdas", "--strategy-options", "tau=Infinity"],
        ["--device", "meta"],
        ["--device", "cpu:3"],
        ["--device", "cuda:99"],
        ["--threads", "1000000"],
        ["--data-dir", "/nowhere"],
    ],
)
def test_a_refused_search_leaves_no_folder(capsys, lazy, tmp_path, words):
    status, out, err = call(capsys, *COMMANDS["search"][1], *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words, message",
    [
        (["retrain", "--cutout", "99999999999999999999"], "expected cutout to be <= 16,384"),
        (
            ["retrain", "--genotype", "DARTS_V2", "--cutout", "9"],
            "cutout <= 8, the side of the images",
        ),
        (["count", "--genotype", "DARTS_V2", "--cells", "1000000"], "expected cells to be <= 1,000"),
        (["count", "--genotype", "DARTS_V2", "--channels", "9" * 30], "expected channels to be <= 16,384"),
    ],
)
def test_too_large_a_number_is_told_its_bound(capsys, lazy, words, message):
    status, _, err = call(capsys, *words)
    assert status == 2
    assert message in err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
    ],
)
def test_memory_that_runs_out_is_one_line(capsys, monkeypatch, tmp_path, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr("nasp_ext.engine.search_state.SearchState.run_epoch", full)
    status, _, err = call(capsys, *COMMANDS["search"][1], "--out", tmp_path / "run")
    assert (status, err.count("\n")) == (2, 1)
    assert "out of memory: take a smaller network" in err


def test_another_runtime_error_is_not_hidden(capsys, monkeypatch, tmp_path):
    def broken(*_, **__):
        raise RuntimeError("a fault of the program")

    monkeypatch.setattr("nasp_ext.engine.search_state.SearchState.run_epoch", broken)
    with pytest.raises(RuntimeError, match="a fault of the program"):
        call(capsys, *COMMANDS["search"][1], "--out", tmp_path / "run")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("redirection", [">&-", "> /dev/full"])
def test_a_standard_output_that_cannot_be_written_is_one_line(redirection):
    command = f"{sys.executable} -m nasp_ext info {redirection}"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("nasp-ext: error: ")


def test_ctrl_c_during_the_imports_is_one_line(tmp_path):
    interrupted = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    (tmp_path / "numpy.py").write_text(interrupted)  # the signal may take a moment
    command = [sys.executable, "-m", "nasp_ext", "info"]
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "")
    assert done.stderr == "nasp-ext: interrupted\n"
