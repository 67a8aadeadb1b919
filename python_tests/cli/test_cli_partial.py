# SPDX-License-Identifier: MIT
"""Searches in which a part of the channels goes through the options, on the command line."""

import json
import re

import pytest
import torch
from cli_calls import RETRAIN, SEARCH, SPACE, call, error_of

from nasp_ext.cli import main
from nasp_ext.engine import read_genotype
from nasp_ext.engine.build import search_space
from nasp_ext.engine.settings import SearchRun
from nasp_ext.families.networks import derived_network

WIDER = [*SEARCH, "--channels", "4"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("partial") / "search"
    assert main([*WIDER, "--strategy", "pc-darts", "--out", str(folder)]) == 0
    return folder


def stored_space(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)["space"]


def test_pc_darts_takes_a_quarter_of_the_channels(searched):
    assert stored_space(searched)["name"] == f"{SPACE}-pc4"
    lines = [json.loads(line) for line in (searched / "history.jsonl").read_text().splitlines()]
    assert all(1 / 2 <= line["strategy"]["largest_beta"] < 1 for line in lines)
    assert 0 <= lines[-1]["mixture_accuracy"] <= 1
    node = torch.tensor(lines[-1]["scores"])[:2]
    assert node.sum().item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    "strategy, divisor, expected",
    [("darts", "2", f"{SPACE}-pc2"), ("nasp", "4", f"{SPACE}-pc4"), ("pc-darts", "1", SPACE)],
)
def test_partial_channels_are_an_option_of_every_strategy(capsys, tmp_path, strategy, divisor, expected):
    argv = [*WIDER, "--strategy", strategy, "--partial-channels", divisor, "--out", tmp_path]
    assert call(capsys, *argv)[0] == 0
    assert stored_space(tmp_path)["name"] == expected
    assert call(capsys, "search", "--resume", "--out", tmp_path)[0] == 0
    error = error_of(capsys, "search", "--resume", "--out", tmp_path, "--partial-channels", "8")
    assert "expected channels that partial_channels=8 divides, got 4" in error


def test_derive_tests_the_supernet_at_its_architecture(capsys, searched, tmp_path):
    status, out, _ = call(capsys, "derive", "--run", searched, "--out", tmp_path)
    assert status == 0
    assert re.search(r"^test accuracy with the weights of the search: [\d.]+%$", out, re.M)
    genotype = read_genotype(str(searched))
    assert read_genotype(str(tmp_path)) == genotype
    state = torch.load(tmp_path / "derived.pt", weights_only=True)
    settings = {"in_channels": 1, "affine": False, "pool_norm": True}
    net = derived_network(genotype, 4, 3, 10, partial_channels=4, **settings)
    net.load_state_dict(state)
    count = sum(p.numel() for p in net.parameters())
    assert f"parameters: {count:,} (of 1/4 of the channels, as in the search; a retraining has all)\n" in out


def test_a_retraining_takes_all_channels_through(capsys, searched, tmp_path):
    argv = [*RETRAIN, "--channels", "4", "--genotype", searched, "--out", tmp_path]
    status, out, _ = call(capsys, *argv)
    assert status == 0
    whole = derived_network(read_genotype(str(searched)), 4, 3, 10, in_channels=1)
    assert f"parameters: {sum(p.numel() for p in whole.parameters()):,}\n" in out


def test_plot_draws_the_shares(capsys, searched, tmp_path):
    assert call(capsys, "plot", "--genotype", searched, "--out", tmp_path)[0] == 0
    assert "normal 0→2" in (tmp_path / "architecture.svg").read_text()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--strategy", "pc-darts", "--channels", "6"], "channels that partial_channels=4 divides, got 6"),
        (["--partial-channels", "0"], "expected partial_channels to be >= 1 or None, got 0"),
        (["--strategy", "asm", "--partial-channels", "2"], "partial_channels=1 for edges mixed by attention"),
        (
            ["--strategy", "random", "--space", "asng-cnn", "--partial-channels", "2"],
            "space of cells for partial channels, got 'asng-cnn'",
        ),
        (["--strategy", "pc-darts", "--preset", "paper"], "strategy 'pc-darts' has no option preset"),
    ],
)
def test_what_does_not_go_together_is_one_line_and_writes_nothing(capsys, tmp_path, options, message):
    assert message in error_of(capsys, *WIDER, *options, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_space_of_a_run_follows_from_strategy_and_option():
    found = [
        search_space(
            SearchRun.from_flat({"strategy": strategy, "partial_channels": divisor})
        ).partial_channels
        for strategy in ("darts", "pc-darts")
        for divisor in (None, 1, 2)
    ]
    assert found == [1, 1, 2, 4, 1, 2]
