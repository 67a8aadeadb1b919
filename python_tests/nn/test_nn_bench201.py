# SPDX-License-Identifier: MIT
"""NAS-Bench-201: the published network to the parameter, its cells as text, what a search may choose."""

import json

import pytest
import torch

from nasp_ext.arch.gates import PRUNED, Gates
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.genotype import Genotype
from nasp_ext.families.cells.published import GENOTYPES
from nasp_ext.families.cells.residual import ResidualBlock
from nasp_ext.families.derivation import derive, genotype_of
from nasp_ext.families.networks import derived_network, supernet

BENCH = space("nas-bench-201")
CONV = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
EXAMPLE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
SKIP = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"


def gates_of(options, dtype=torch.float32) -> Gates:
    """A one-hot row for each option; PRUNED gives a row of zeros."""
    weight = torch.zeros(6, 5, dtype=dtype)
    for row, option in enumerate(options):
        if option != PRUNED:
            weight[row, option] = 1
    return Gates(weight, tuple(options), unit=True)


def parameters(arch, classes=10):
    net = derived_network(Genotype.from_arch(arch), channels=16, cells=17, classes=classes)
    return sum(p.numel() for p in net.parameters())


def by_hand(per_edge, edges, classes):
    """Stem, three stages of five cells, two residual blocks, BN, classifier; per_edge: C -> parameters."""
    stem = 3 * 16 * 9 + 2 * 16
    cells = sum(5 * edges * per_edge(c) for c in (16, 32, 64))
    # Two 3x3 convolutions with BN, and the 1x1 convolution of the shortcut.
    blocks = sum(c // 2 * c * 9 + c * c * 9 + 4 * c + c // 2 * c for c in (32, 64))
    return stem + cells + blocks + 2 * 64 + 65 * classes


# Dong & Yang 2020 give the largest network 1.5 M and the smallest 0.073 M parameters.
@pytest.mark.parametrize(
    "arch, classes, count, edges",
    [
        *((CONV, 10, 1_531_546, 6), (CONV, 100, 1_537_396, 6), (EXAMPLE, 10, 802_426, 3)),
        *((SKIP, 10, 73_306, 0), (SKIP, 120, 80_456, 0)),
    ],
)
def test_networks_have_their_published_size(arch, classes, count, edges):
    assert parameters(arch, classes) == count == by_hand(lambda c: 9 * c * c + 2 * c, edges, classes)


def test_a_1x1_convolution_counts_its_square():
    arch = SKIP.replace("skip_connect~2", "nor_conv_1x1~2")
    assert parameters(arch) == by_hand(lambda c: c * c + 2 * c, 1, 10)


def test_the_stages_are_as_published():
    net = derived_network(Genotype.from_arch(EXAMPLE), channels=16, cells=17)
    blocks = [number for number, cell in enumerate(net.cells) if isinstance(cell, ResidualBlock)]
    assert blocks == [5, 11]
    sizes = []
    for cell in net.cells:
        cell.register_forward_hook(lambda _, inputs, out: sizes.append(tuple(out.shape[1:])))
    net(torch.randn(1, 3, 32, 32))
    expected = 5 * [(16, 32, 32)] + 6 * [(32, 16, 16)] + 6 * [(64, 8, 8)]
    assert sizes == expected


def test_a_cell_computes_what_its_text_says():
    net = derived_network(Genotype.from_arch(EXAMPLE), channels=2, cells=3).double()
    (cell,) = net.cell_list()
    x = torch.randn(3, 2, 6, 5, dtype=torch.float64)
    conv0, conv1, pool, _, conv2, _ = cell._ops
    first = conv0(x)
    second = conv1(x) + pool(first)
    torch.testing.assert_close(cell(x, x, None), x + conv2(first) + second)
    inner = x[:, :, 1:-1, 1:-1]
    window = sum(x[:, :, i : i + 4, j : j + 3] for i in range(3) for j in range(3)) / 9
    torch.testing.assert_close(pool(x)[:, :, 1:-1, 1:-1], window)
    assert inner.shape == window.shape
    corner = (x[:, :, 0, 0] + x[:, :, 0, 1] + x[:, :, 1, 0] + x[:, :, 1, 1]) / 4  # padding is not counted
    torch.testing.assert_close(pool(x)[:, :, 0, 0], corner)


def test_a_residual_block_adds_the_shortcut():
    block = ResidualBlock(2, 4).double()
    x = torch.randn(3, 2, 8, 6, dtype=torch.float64)
    mean = (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4
    torch.testing.assert_close(block(x, x), block.body(x) + block.shortcut[1](mean))


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 4)])
def test_images_of_any_size_are_taken(size):
    net = supernet(BENCH, 2, 8, 3).eval()
    assert net(torch.randn(2, 3, *size), gates_of((3, 2, 1, 0, 4, 3))).shape == (2, 3)


@pytest.mark.parametrize("options", [(0,) * 6, (3, 0, 0, 3, 0, 0), (PRUNED,) * 6, (1, 3, PRUNED, 0, 4, 2)])
@pytest.mark.parametrize("inherit", [True, False])
def test_cells_with_none_are_derived(options, inherit):
    net = supernet(BENCH, 2, 5, 3).double()
    gates = gates_of(options, torch.float64)
    derived = derive(net, gates, inherit_weights=inherit)
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    if inherit:
        for training in (True, False):
            torch.testing.assert_close(derived.train(training)(x), net.train(training)(x, gates))
    else:
        built = derived_network(genotype_of(BENCH, gates), 2, 5, 3)
        assert list(derived.state_dict()) == list(built.state_dict())


@pytest.mark.parametrize("arch", [CONV, EXAMPLE, SKIP, "|none~0|", "|a~0|+|b~0|none~1|"])
def test_a_cell_survives_text_and_json(arch):
    genotype = Genotype.from_arch(arch)
    assert genotype.to_arch() == arch
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert Genotype.from_json(json.loads(genotype.to_json())).to_arch() == arch


def test_the_text_of_gates_names_the_options_in_the_order_of_the_rows():
    arch = genotype_of(BENCH, gates_of((0, 1, 2, 3, 4, PRUNED))).to_arch()
    assert arch == "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|"


@pytest.mark.parametrize(
    "text",
    [
        *("", "|", "nor_conv_3x3~0", "|skip_connect~1|", "|none~0|+|none~0|", "|none~0|+|none~1|none~0|"),
        *("|none~0|none~1|", "|none~x|", "|none~0|+", "|none~0|+|none~0|none~1|none~2|", " |none~0|"),
    ],
)
def test_text_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match="expected an architecture like"):
        Genotype.from_arch(text)


def test_genotypes_without_such_a_text_say_so():
    with pytest.raises(ValueError, match="expected a cell of one input"):
        GENOTYPES["DARTS_V2"].to_arch()
    twice = Genotype((("none", 0), ("none", 0)), (1,), (), (), inputs=1)
    with pytest.raises(ValueError, match="at most one edge"):
        twice.to_arch()


def test_genotypes_of_two_inputs_are_written_as_before():
    fields = set(json.loads(GENOTYPES["DARTS_V2"].to_json()))
    assert fields == {*("normal", "normal_concat", "normal_nodes", "reduce", "reduce_concat", "reduce_nodes")}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"inputs": 3}, "2 inputs or 1, got inputs=3"),
        ({"inputs": True}, "2 inputs or 1"),
        ({"reduce": [["none", 0]]}, "no reduce cell"),
        ({"normal": [["none", 1]]}, r"sources of node 0 of normal in 0\.\.0"),
        ({"normal_concat": [0]}, "normal_concat"),
        ({"projected": 1}, "projected to be true or false"),
    ],
)
def test_invalid_genotypes_of_one_input_are_refused(change, message):
    cell = {"normal": [["none", 0]], "normal_concat": [1], "normal_nodes": [1], "inputs": 1}
    cell |= {"reduce": [], "reduce_concat": []}
    Genotype.from_json(cell)
    with pytest.raises(ValueError, match=message):
        Genotype.from_json(cell | change)


@pytest.mark.parametrize("cells", [1, 2])
def test_a_network_without_a_place_for_a_cell_is_refused(cells):
    with pytest.raises(ValueError, match=f"expected cells >= 3.*got {cells}"):
        supernet(BENCH, 2, cells)


def test_a_stem_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="stem_multiplier=1"):
        supernet(BENCH, 2, 3, stem_multiplier=3)
