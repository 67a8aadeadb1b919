# SPDX-License-Identifier: MIT
"""Every layer its own cell: the space, its networks with and without attention, its genotype."""

import json
from itertools import pairwise

import pytest
import torch
from nn_drawn import random_gates

from nasp_ext.arch.gates import MIXED, PRUNED, Gates
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.genotype import Genotype
from nasp_ext.families.cells.network import reduction_cells
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.derivation import derive, genotype_of
from nasp_ext.families.genotypes import genotype_from_json, write_drawings
from nasp_ext.families.layered.genotype import LayeredGenotype
from nasp_ext.families.layered.space import LayeredSpace
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.nn import AttentionOp, MixedOp, recorded_attention

DARTS, NASP = space("darts"), space("nasp")
SMALL = CellSpace("small", ("none", "skip_connect", "conv_1x1"), ("skip_connect", "max_pool_3x3"), nodes=2)
LAYERS = LayeredSpace.of(SMALL, 4, attention=True)


def net_of(cells: LayeredSpace, **options):
    return supernet(cells, 2, cells.cells, 4, in_channels=1, **options).double()


def images(batch=3):
    return torch.randn(batch, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def mixed(cells: LayeredSpace) -> Gates:
    return Gates(cells.mask().double())


def test_rows_are_the_edges_of_all_layers():
    cells = LayeredSpace.of(DARTS, 15)
    assert (cells.name, cells.rows, cells.options, cells.edges_per_node) == ("darts-x15", 210, 8, 2)
    assert cells.cell_rows[3] == range(42, 56)
    assert [cells.edge(row) for row in (42, 55, 209)] == [(0, 0), (3, 4), (3, 4)]
    assert cells.node_offsets == (*(14 * n + b for n in range(15) for b in (0, 2, 5, 9)), 210)


def test_layers_at_a_third_and_two_thirds_hold_the_options_of_reductions():
    cells = LayeredSpace.of(NASP, 6)
    assert [n for n, rows in enumerate(cells.cell_rows) if cells.is_reduction(rows[0])] == [2, 4]
    assert cells.choices(27) == NASP.normal
    assert cells.choices(28) == cells.choices(41) == NASP.reduce
    lengths = [sum(row) for row in cells.mask().tolist()]
    assert lengths == [*[8] * 28, *[5] * 14, *[8] * 14, *[5] * 14, *[8] * 14]


def test_only_what_the_cell_allows_is_selectable():
    assert LAYERS.selectable()[0].tolist() == [False, True, True]
    reduction = LAYERS.cell_rows[reduction_cells(4)[0]][0]
    assert LAYERS.selectable()[reduction].tolist() == [True, True, False]
    short = LayeredSpace.of(NASP, 1)  # one layer, a reduction: no row has eight options
    assert short.selectable().shape == short.mask().shape == (14, 5)


@pytest.mark.parametrize("cells", range(1, 21))
def test_the_space_reduces_where_the_network_does(cells):
    layered = LayeredSpace.of(SMALL, cells)
    sizes = supernet(layered, 2, cells).sizes
    assert [sizes.reduces(n) for n in range(cells)] == [
        layered.is_reduction(rows[0]) for rows in layered.cell_rows
    ]


@pytest.mark.parametrize("cell, message", [("nas-bench-201", "reduction cells"), ("darts", "cells >= 1")])
def test_spaces_that_cannot_be_layered_are_refused(cell, message):
    with pytest.raises(ValueError, match=message):
        LayeredSpace.of(space(cell), 0 if cell == "darts" else 3)


def test_a_row_belongs_to_one_layer_alone():
    net = net_of(LAYERS)
    rows = [row for cell in net.cell_list() for row, _ in cell.mixed_edges()]
    assert rows == list(range(LAYERS.rows))


@pytest.mark.parametrize("attention, kind", [(True, AttentionOp), (False, MixedOp)])
def test_the_space_says_what_mixes_its_edges(attention, kind):
    net = net_of(LayeredSpace.of(SMALL, 3, attention=attention))
    assert {type(op) for cell in net.cell_list() for _, op in cell.mixed_edges()} == {kind}


def test_dense_gates_are_mixed_by_attention():
    net = net_of(LAYERS).eval()
    edges = [edge for cell in net.cell_list() for edge in cell.mixed_edges()]
    with recorded_attention(edges) as means, torch.no_grad():
        first = net(images(), mixed(LAYERS))
    attention = means.matrix(LAYERS.rows, LAYERS.options)
    torch.testing.assert_close(attention.sum(1), torch.ones(LAYERS.rows, dtype=torch.float64))
    assert not attention[~LAYERS.mask()].any()
    assert (attention[LAYERS.mask()] != attention[0, 0]).any()
    second = net(images(), Gates(2 * mixed(LAYERS).weight))
    torch.testing.assert_close(first, second)  # the prior counts up to a factor


def test_pruned_later_cells_leave_the_attention_of_earlier_ones():
    net = net_of(LAYERS).eval()
    rows = LAYERS.cell_rows
    active = [MIXED] * rows[2].start + [PRUNED] * (LAYERS.rows - rows[2].start)
    weight = mixed(LAYERS).weight
    found = []
    for gates in (Gates(weight), Gates(weight * (torch.tensor(active) == MIXED)[:, None], tuple(active))):
        with recorded_attention(edge for cell in net.cell_list() for edge in cell.mixed_edges()) as means:
            net(images(), gates)
        found.append(means.matrix(LAYERS.rows, LAYERS.options))
    assert torch.equal(found[0][: rows[2].start], found[1][: rows[2].start])
    assert not found[1][rows[2].start :].any()


@pytest.mark.parametrize("edges, value", [(2, None), (None, None), (1, "random"), (0, None)])
@pytest.mark.parametrize("attention", [True, False])
def test_derived_network_gives_the_logits_of_the_supernet(attention, edges, value):
    cells = LayeredSpace.of(NASP, 4, attention=attention)
    net = net_of(cells)
    generator = torch.Generator().manual_seed(3)
    gates = random_gates(cells, generator, edges=edges, value=value)
    net(images(), mixed(cells))  # statistics off their defaults
    derived = derive(net, gates, inherit_weights=True)
    assert not any("attention" in name for name in derived.state_dict())
    for training in (True, False, True):
        net.train(training)
        derived.train(training)
        torch.testing.assert_close(derived(images()), net(images(), gates), rtol=1e-10, atol=1e-10)


def test_fresh_network_is_the_one_a_retraining_builds():
    gates = random_gates(LAYERS, torch.Generator().manual_seed(2), edges=None)
    fresh = derive(net_of(LAYERS), gates)
    built = derived_network(genotype_of(LAYERS, gates), 2, 4, 4, in_channels=1)
    assert list(fresh.state_dict()) == list(built.state_dict())
    assert fresh.genotype == built.genotype


def test_genotype_names_the_active_options_layer_by_layer():
    active = [PRUNED] * LAYERS.rows
    active[1], active[5], active[8] = 2, 1, 0  # edges 1 of layer 1; 0 and 3 of layer 2, a reduction
    genotype = genotype_of(LAYERS, Gates(torch.zeros(LAYERS.rows, 3), tuple(active)))
    assert genotype.cells == ("01", "02", "03", "04")
    assert genotype.cell_edges("01") == ((0, "conv_1x1", 1),)
    assert genotype.cell_edges("02") == ((0, "max_pool_3x3", 0), (1, "skip_connect", 1))
    assert genotype.nodes("02") == (1, 1)
    assert genotype.pairs("03") == ()
    assert genotype.output("03") == (2, 3)


def test_layered_genotype_survives_json():
    gates = random_gates(LAYERS, torch.Generator().manual_seed(6), edges=None)
    genotype = genotype_of(LAYERS, gates)
    assert genotype_from_json(genotype.to_json()) == genotype
    assert genotype_from_json(json.loads(genotype.to_json())) == genotype


def test_genotypes_of_two_cells_are_read_as_well():
    edges = (("skip_connect", 0), ("skip_connect", 1))
    genotype = Genotype(edges, (2,), edges, (2,))
    assert genotype_from_json(genotype.to_json()) == genotype


def test_each_layer_has_its_drawing(tmp_path):
    edge = (("conv_1x1", 0),)
    files = write_drawings(LayeredGenotype((edge,) * 11, ((1,),) * 11, (2,)), tmp_path)
    assert [file.name for file in files[:2]] == ["cell_01.svg", "cell_02.svg"]
    assert len(files) == 11
    assert "Cell 11" in files[-1].read_text()


LAYER = [["skip_connect", 0], ["skip_connect", 1]]
GENOTYPE = {"layers": [LAYER, LAYER], "layer_nodes": [[2], [2]], "concat": [2]}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"layers": []}, "at least one"),
        ({"layer_nodes": [[2]]}, "2 layers and counts for 1"),
        ({"layers": [LAYER, [["skip_connect", 2], ["skip_connect", 0]]]}, r"node 0 of layers\[1\] in 0\.\.1"),
        ({"layers": [LAYER, [["skip_connect"]]]}, r"layers\[1\] to be pairs"),
        ({"layers": 3}, "layers to be a list"),
        ({"layer_nodes": [[2], [1]]}, r"count the 2 edges of layers\[1\]"),
        ({"layer_nodes": [[2], 2]}, r"layer_nodes\[1\] to be a list"),
        ({"concat": [3]}, "different nodes"),
        ({"normal": []}, "fields"),
    ],
)
def test_invalid_layered_genotype_is_refused(change, message):
    genotype_from_json(GENOTYPE)
    with pytest.raises(ValueError, match=message):
        genotype_from_json(GENOTYPE | change)


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"layers": []}'])
def test_text_that_is_no_genotype_is_refused(text):
    with pytest.raises(ValueError, match=r"expected a .*genotype"):
        genotype_from_json(text)


def test_another_number_of_cells_is_refused():
    genotype = genotype_from_json(GENOTYPE)
    with pytest.raises(ValueError, match="cells=2, as each layer has its own, got 20"):
        derived_network(genotype)
    with pytest.raises(ValueError, match="cells=4, as each layer has its own, got 8"):
        supernet(LAYERS)


def test_costs_are_those_of_each_layer():
    costs = net_of(LAYERS).option_costs()
    rows = [costs[rows[0]].tolist() for rows in LAYERS.cell_rows]
    # conv_1x1 at C = 2 has 4 weights; layers 2 and 3 reduce, where a skip at stride 2 has C · C weights.
    assert rows == [[0, 0, 4], [16, 0, 0], [64, 0, 0], [0, 0, 64]]


def test_offsets_bound_the_edges_into_each_node():
    for low, high in pairwise(LAYERS.node_offsets):
        assert len({LAYERS.edge(row)[0] for row in range(low, high)}) == 1
