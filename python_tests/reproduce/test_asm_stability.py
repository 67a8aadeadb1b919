# SPDX-License-Identifier: MIT
"""One edge at a time is replaced, in one cell alone, and the accuracies are those of that network."""

import re
from xml.etree import ElementTree

import pytest
import torch

from nasp_ext.arch.gates import MIXED, Gates
from nasp_ext.arch.registry import register_space
from nasp_ext.cli import main
from nasp_ext.engine import search
from nasp_ext.engine.build import build_strategy, search_space
from nasp_ext.engine.run import Run
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.layered.space import LayeredSpace
from nasp_ext.families.networks import supernet
from nasp_ext.reproduce.asm_stability import AsmStability, in_layers, replaced_edge
from nasp_ext.tasks.images.load import load_data
from nasp_ext.tasks.images.task import ClassificationTask

OPTIONS = ("none", "skip_connect", "conv_1x1")
TINY = register_space(CellSpace("tiny-asm-stability", OPTIONS, OPTIONS, nodes=1))
ONE = register_space(CellSpace("one-option", ("skip_connect",), ("skip_connect",), nodes=1))
SIZES = ["--limit", "80", "--channels", "2", "--epochs", "1", "--batch", "20", "--device", "cpu"]


def reproduce(capsys, *argv) -> tuple[int, str, str]:
    status = main(["reproduce", "asm-stability", *map(str, argv)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def edges_of(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines() if re.match(r"\d\d \d→\d ", line)]


def test_accuracies_are_those_of_the_network_with_one_edge_replaced(capsys, tmp_path):
    argv = ["--space", TINY.name, *SIZES, "--out", tmp_path]
    status, out, err = reproduce(capsys, *argv)
    assert (status, err) == (0, "")
    rows = edges_of(out)
    assert [row[:2] for row in rows] == [[f"0{n}", edge] for n in (1, 2, 3) for edge in ("0→2", "1→2")]
    drawn = ElementTree.parse(tmp_path / "stability.svg")
    assert sum(node.get("class") == "series" for node in drawn.iter()) == 2 * 3 * 2
    assert reproduce(capsys, *argv) == (0, out, "")  # both searches are there already

    config = Run.open(tmp_path / "asm-0").settings
    found, task = search_space(config), ClassificationTask(load_data("digits", limit=80))
    strategy = build_strategy(config, found, task)
    result = search(found, strategy, task, config, out=tmp_path / "asm-0", resume=True)
    network, right = result.network.eval(), []
    for gates in (
        strategy.propose(),
        *(replaced_edge(strategy.propose(), result.gates, r) for r in range(6)),
    ):
        images = task.test_batches(config, torch.device("cpu")).epoch()
        right.append(sum(int((network(x, gates).argmax(1) == y).sum()) for x, y in images) / 80)
    assert [row[3] for row in rows] == [f"{100 * (one - right[0]):+.2f}" for one in right[1:]]
    assert f"{right[0]:.2%}" in out
    names = [found.choices(row)[option] for row, option in enumerate(result.gates.active)]
    assert [row[2] for row in rows] == names


def test_an_edge_with_one_option_changes_nothing(capsys, tmp_path):
    status, out, _ = reproduce(capsys, "--space", ONE.name, *SIZES, "--out", tmp_path)
    assert status == 0
    assert [(row[3], row[5]) for row in edges_of(out)] == [("+0.00", "+0.00")] * 6


def test_only_the_row_is_replaced():
    mixture = Gates(torch.full((3, 2), 0.5))
    best = Gates(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), (1, 0, 1), unit=True)
    gates = replaced_edge(mixture, best, 1)
    assert gates.active == (MIXED, 0, MIXED)
    assert gates.weight.tolist() == [[0.5, 0.5], [1.0, 0.0], [0.5, 0.5]]


def test_shared_cells_have_the_same_logits_with_rows_for_each_layer():
    torch.manual_seed(1)
    net = supernet(TINY, 2, 4, 3, in_channels=1).double().eval()
    mixture = Gates(torch.rand(4, 3, dtype=torch.float64))
    best = Gates(torch.eye(3, dtype=torch.float64)[[1, 2, 2, 1]], (1, 2, 2, 1), unit=True)
    cells = LayeredSpace.of(TINY, 4)
    twin = supernet(cells, 2, 4, 3, in_channels=1).double().eval()
    layered = in_layers(net, twin, cells, (mixture, best))
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    for shared, own in zip((mixture, best), layered, strict=True):
        torch.testing.assert_close(twin(x, own), net(x, shared), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--strategies", "nasp"], "different strategies of asm, darts, darts-2nd"),
        (["--strategies", "asm", "asm"], "different strategies"),
        (["--space", "mars"], "got 'mars'"),
        (["--space", "nas-bench-201", "--strategies", "darts"], "reduction cells"),
        (["--cells", "0"], "expected cells"),
    ],
)
def test_what_cannot_be_compared_is_refused(capsys, tmp_path, options, message):
    status, out, err = reproduce(capsys, *options, "--out", tmp_path / "new")
    assert (status, out) == (2, "")
    assert message in err
    assert not (tmp_path / "new").exists()


def test_a_search_for_each_seed_needs_a_seed():
    with pytest.raises(ValueError, match="different seeds, at least one"):
        AsmStability(seeds=())
