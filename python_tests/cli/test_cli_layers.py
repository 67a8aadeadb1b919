# SPDX-License-Identifier: MIT
"""Searches in which every layer has its own cell, on the command line."""

import re

import pytest
from cli_calls import RETRAIN, SEARCH, call, error_of

from nasp_ext.cli import main
from nasp_ext.engine.run import Run
from nasp_ext.families.genotypes import genotype_from_json
from nasp_ext.families.layered.genotype import LayeredGenotype

WITHOUT_CELLS = [word for word in RETRAIN if word not in ("--cells", "3")]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layers") / "search"
    assert main([*SEARCH, "--strategy", "asm", "--out", str(folder)]) == 0
    return folder


def test_every_layer_keeps_all_its_edges(searched):
    genotype = genotype_from_json((searched / "genotype.json").read_text())
    assert isinstance(genotype, LayeredGenotype)
    assert genotype.layer_nodes == ((2,), (2,), (2,))


def test_edges_per_node_is_an_option(capsys, tmp_path):
    argv = [*SEARCH, "--strategy", "asm", "--edges-per-node", "1", "--out", tmp_path]
    assert call(capsys, *argv)[0] == 0
    assert genotype_from_json((tmp_path / "genotype.json").read_text()).layer_nodes == ((1,), (1,), (1,))


def test_places_of_the_reductions_are_an_option_that_a_genotype_keeps(capsys, searched, tmp_path):
    argv = [*SEARCH, "--strategy", "asm", "--reductions", "0", "2", "--out", tmp_path]
    assert call(capsys, *argv)[0] == 0
    assert genotype_from_json((tmp_path / "genotype.json").read_text()).reductions == (0, 2)
    assert genotype_from_json((searched / "genotype.json").read_text()).reductions is None
    assert call(capsys, *argv, "--resume")[0] == 0
    assert "another (reductions (0, 2) → (1, 2))" in error_of(
        capsys, *argv[:-4], "1", "2", "--resume", "--out", tmp_path
    )
    counted = [call(capsys, "count", "--genotype", at, "--size", "8")[1] for at in (tmp_path, searched)]
    shapes = [re.findall(r"^cells.\d Cell +([\d,]+)", out, re.M) for out in counted]
    assert shapes[0] != shapes[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategy", "asm", "--reductions", "0", "3"], r"two places in order, from 0, below cells=3"),
        (["--strategy", "asm", "--reductions", "1"], "two places in order"),
        (["--reductions", "0", "2"], "each layer a cell of its own.*got strategy 'nasp'"),
    ],
)
def test_places_that_cannot_be_are_refused(capsys, tmp_path, options, message):
    assert re.search(message, error_of(capsys, *SEARCH, *options, "--out", tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_search_says_what_the_mixture_reaches(capsys, searched):
    out = call(capsys, "search", "--resume", "--out", searched)[1]
    assert re.search(r"^validation accuracy of the supernet: [\d.]+% \(mixture [\d.]+%\)$", out, re.M)


def test_derive_and_plot_write_a_drawing_per_layer(capsys, searched, tmp_path):
    status, out, _ = call(capsys, "derive", "--run", searched, "--out", tmp_path / "derived")
    assert status == 0
    assert (searched / "genotype.json").read_text() == (tmp_path / "derived" / "genotype.json").read_text()
    assert call(capsys, "plot", "--genotype", searched, "--out", tmp_path / "plots")[0] == 0
    for folder in ("derived", "plots"):
        assert len(list((tmp_path / folder).glob("cell_0[123].svg"))) == 3
    assert (tmp_path / "plots" / "attention.svg").read_text() == (searched / "attention.svg").read_text()
    assert "03 1→2" in (tmp_path / "plots" / "architecture.svg").read_text()
    assert "genotype: " in out


def test_a_retraining_has_as_many_cells_as_the_genotype_has_layers(capsys, searched, tmp_path):
    argv = [*WITHOUT_CELLS, "--genotype", searched, "--out", tmp_path / "retrain"]
    assert call(capsys, *argv)[0] == 0
    assert Run.open(tmp_path / "retrain").settings.cells == 3
    error = error_of(capsys, *argv[:-1], tmp_path / "other", "--cells", "4")
    assert "expected cells=3, as each layer has its own, got 4" in error
    assert not (tmp_path / "other").exists()


def test_count_takes_the_number_of_cells_from_the_genotype(capsys, searched):
    argv = ["count", "--genotype", searched, "--channels", "4", "--size", "8"]
    status, out, _ = call(capsys, *argv)
    assert status == 0
    assert re.findall(r"^cells\.(\d+) Cell ", out, re.M) == ["0", "1", "2"]
    assert call(capsys, *argv, "--cells", "3")[1] == out
    error = error_of(capsys, *argv, "--cells", "20")
    assert error.endswith("expected cells=3, as each layer has its own, got 20\n")


def test_a_space_without_reductions_has_no_layers(capsys, tmp_path):
    error = error_of(
        capsys, *SEARCH, "--strategy", "asm", "--space", "nas-bench-201", "--out", tmp_path / "run"
    )
    assert "expected a space with reduction cells, got 'nas-bench-201'" in error
