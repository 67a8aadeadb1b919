# SPDX-License-Identifier: MIT
"""Strategies and their options on the command line."""

import json
import re

import pytest
import torch
from cli_calls import SEARCH, call, error_of

from nasp_ext.cli import main
from nasp_ext.engine.run import Run
from nasp_ext.strategies import names


def test_options_of_a_strategy_reach_it(capsys, tmp_path):
    argv = [*SEARCH, "--strategy", "pa", "--preset", "paper", "--arch-lr", "0.0", "--out", tmp_path]
    assert call(capsys, *argv, "--strategy-options", "init=0.25")[0] == 0
    stored = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert stored["strategy"]["a"].unique().tolist() == [0.0, 0.25]
    assert stored["config"]["init"] == 0.25
    assert Run.open(tmp_path).settings.strategy.options["init"] == 0.25
    assert call(capsys, "search", "--resume", "--out", tmp_path)[0] == 0
    assert call(capsys, "derive", "--run", tmp_path)[0] == 0
    assert "init 0.25 → 0.5" in error_of(
        capsys, "search", "--resume", "--out", tmp_path, "--strategy-options", "init=0.5"
    )


@pytest.mark.parametrize("name", [name for name in names() if name not in ("nasp", "random")])
def test_every_strategy_is_searched_with_by_name(capsys, tmp_path, name):
    status, out, err = call(capsys, *SEARCH, "--channels", "4", "--strategy", name, "--out", tmp_path)
    assert (status, err) == (0, "")
    assert f"genotype: {(tmp_path / 'genotype.json').read_text().strip()}" in out


def test_the_temperature_of_gdas_falls_over_the_epochs_of_the_run(capsys, tmp_path):
    assert call(capsys, *SEARCH, "--strategy", "gdas", "--out", tmp_path)[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    # Two epochs of 2 steps, the temperature going from 10 to 0.1 in the fourth; noted after 2 and 4 of them.
    assert [line["strategy"]["tau"] for line in lines] == pytest.approx([3.4, 0.1])


def test_the_temperature_of_gdas_rests_in_the_warm_up_and_falls_to_its_end_after_it(capsys, tmp_path):
    argv = [*SEARCH, "--epochs", "4", "--warmup-epochs", "2", "--strategy", "gdas", "--out", tmp_path]
    assert call(capsys, *argv)[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["strategy"]["tau"] for line in lines] == pytest.approx([10, 10, 3.4, 0.1])


def test_info_and_help_name_every_strategy(capsys):
    info = call(capsys, "info")[1]
    with pytest.raises(SystemExit):
        main(["search", "--help"])
    help_text = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    (listed,) = re.findall(r"Search strategy: ([a-z0-9, -]+)\.", help_text)
    assert sorted(listed.split(", ")) == list(names())
    for name in names():
        assert re.search(rf"^Strategy {name}: ", info, re.M)
    assert "Strategy nasp: preset, lr, betas, " in info


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategy", "darts", "--preset", "paper"], "strategy 'darts' has no option preset"),
        (["--strategy", "darts", "--eta", "1"], "strategy 'darts' has no option eta"),
        (["--strategy-options", "colour=red"], "'nasp' takes the options preset, .* got 'colour=red'"),
        (["--strategy-options", "allow_none"], "as name=value, got 'allow_none'"),
        (["--strategy-options", "allow_none=maybe"], "allow_none of strategy 'nasp' to be bool, got 'maybe'"),
        (["--arch-lr", "0.2", "--strategy-options", "lr=0.1"], "expected arch_lr once, .*lr=0.1"),
        (["--arch-lr", "fast"], "option arch_lr of strategy 'nasp' to be float, finite, got 'fast'"),
        (["--strategy-options", "seed=1"], "takes the options .*got 'seed=1'"),
        (["--strategy", "random", "--strategy-options", "batches=0"], "expected batches >= 1, got 0"),
    ],
)
def test_a_wrong_option_of_a_strategy_is_one_line_and_writes_nothing(capsys, tmp_path, options, message):
    error = error_of(capsys, *SEARCH, "--out", tmp_path / "run", *options)
    assert re.search(message, error), error
    assert not (tmp_path / "run").exists()
