# SPDX-License-Identifier: MIT
"""Cells whose nodes choose what they read (the CNN space of ASNG-NAS): choices, networks, derivation."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_fused import compared, images, shuffled
from test_nn_fused_cells import NETWORKS, SIZES

from nasp_ext.arch.gates import MIXED, PRUNED, Gates
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.genotype import Genotype
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.derivation import derive, genotype_of
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.families.topology.space import WiredSpace
from nasp_ext.nn import fusion_reasons, plain_modules

ASNG = space("asng-cnn")
SMALL = WiredSpace(
    "small-wired", ("skip_connect", "sep_conv_3x3", "avg_pool_3x3"), ("max_pool_3x3",), nodes=3
)
SKIP, SEP3, SEP5, AVG, MAX = range(5)

# (source, source, operation, operation) of each node; sources 0 and 1 are the cells before.
CHAIN = ((0, 1, SEP3, AVG), (2, 0, SEP5, SKIP), (3, 2, MAX, SEP3), (4, 1, SEP3, MAX), (5, 3, AVG, SKIP))
WIDE = ((0, 1, SEP3, SEP3), (0, 0, SKIP, AVG), (1, 0, SEP5, MAX), (1, 1, SEP3, SEP5), (0, 1, AVG, SKIP))
TWICE = ((0, 0, SEP3, SEP3), (2, 2, SEP5, SEP5), (0, 1, SEP3, SKIP), (3, 3, SKIP, SKIP), (2, 2, MAX, AVG))
CELLS = {"chain": CHAIN, "all loose": WIDE, "twice the same": TWICE}
LOOSE = {"chain": (4,), "all loose": (0, 1, 2, 3, 4), "twice the same": (2, 3, 4)}


def gates_of(normal, reduce, found=ASNG, dtype=torch.float64) -> Gates:
    active = [option for cell in (normal, reduce) for node in cell for option in node]
    weight = torch.zeros(found.rows, found.options, dtype=dtype)
    weight[range(len(active)), active] = 1
    return Gates(weight, tuple(active), unit=True)


def drawn(seed, found=ASNG, dtype=torch.float64) -> Gates:
    generator = torch.Generator().manual_seed(seed)
    active = torch.multinomial(found.mask().double(), 1, generator=generator)[:, 0].tolist()
    rows = [active[i : i + 2 * found.slots] for i in range(0, found.rows, 2 * found.slots)]
    return gates_of(rows[: found.nodes], rows[found.nodes :], found, dtype)


def test_the_space_has_the_variables_of_the_paper():
    sizes = [len(ASNG.choices(row)) for row in range(ASNG.rows)]
    assert len(sizes) == 40
    # Akimoto et al., section 5.2: node b of 5 chooses twice of 2 + b states and twice of 5 operations.
    assert sizes == 2 * [size for b in range(5) for size in (2 + b, 2 + b, 5, 5)]
    assert sum(size - 1 for size in sizes) == 2 * (2 * (1 + 2 + 3 + 4 + 5) + 2 * 5 * 4) == 140
    assert ASNG.mask().sum(1).tolist() == sizes
    assert ASNG.selectable().equal(ASNG.mask())
    assert ASNG.node_offsets == tuple(range(0, 41, 4))
    assert ASNG.edges_per_node is None


def test_rows_name_the_states_and_the_operations():
    assert ASNG.choices(0) == ASNG.choices(1) == ("input 0", "input 1")
    assert ASNG.choices(17) == ("input 0", "input 1", "node 0", "node 1", "node 2", "node 3")
    assert ASNG.choices(2) == ("skip_connect", "sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3")
    assert SMALL.choices(2), SMALL.choices(14) == (SMALL.normal, SMALL.reduce)
    with pytest.raises(ValueError, match=r"0\.\.39, got 40"):
        ASNG.choices(40)


@pytest.mark.parametrize("case", CELLS)
def test_terms_and_loose_ends_are_those_of_the_choices(case):
    active = gates_of(CHAIN, CELLS[case]).active
    terms = ASNG.terms(active, True)
    expected = [(b, node[s], node[2 + s]) for b, node in enumerate(CELLS[case]) for s in range(2)]
    assert terms == expected
    assert ASNG.loose_ends(terms) == LOOSE[case]
    assert ASNG.loose_ends(ASNG.terms(active, False)) == (4,)


@pytest.mark.parametrize("change", [{"normal": ()}, {"reduce": ("a", "a")}, {"nodes": 0}, {"slots": 0}])
def test_invalid_space_is_refused(change):
    with pytest.raises(ValueError, match="expected"):
        WiredSpace(**{"name": "x", "normal": ("skip_connect",), "reduce": ("skip_connect",)} | change)


def test_a_cell_computes_what_its_choices_say():
    net = supernet(ASNG, 2, 3, 3).double().eval()
    cell = net.cells[0]
    s0, s1 = images(2, 6, 5, 4, seed=1), images(2, 6, 5, 4, seed=2)
    number = {pair: i for i, pair in enumerate(cell.layout.pairs)}

    def op(node, source, option, x):
        return cell._ops[number[node, source]][option](x)

    x = [cell.preprocess0(s0), cell.preprocess1(s1)]
    x.append(2 * op(0, 0, SEP3, x[0]))
    x.append(2 * op(1, 2, SEP5, x[2]))
    x.append(op(2, 0, SEP3, x[0]) + x[1])
    x.append(2 * x[3])
    x.append(op(4, 2, MAX, x[2]) + op(4, 2, AVG, x[2]))
    weight = cell.post.op[1].weight[:, 2 * 2 :]  # of the nodes 2, 3, 4
    expected = cell.post.op[2](torch.nn.functional.conv2d(torch.cat(x[4:], 1).relu(), weight))
    torch.testing.assert_close(cell(s0, s1, gates_of(TWICE, CHAIN).choices()), expected)


def test_every_part_of_the_networks_runs_fused(fused_runs):
    net, gates = supernet(ASNG, 2, 3, 3), drawn(0, dtype=torch.float32)
    net(torch.randn(2, 3, 8, 8), gates)
    assert fused_runs == ["network", *3 * ["wired", "chains"]]
    assert fusion_reasons(net) == {}
    derived = derive(net, gates)
    fused_runs.clear()
    derived(torch.randn(2, 3, 8, 8))
    assert fused_runs == ["network", *3 * ["cell", "chains"]]
    assert fusion_reasons(derived) == {}


@settings(NETWORKS, max_examples=7)
@given(
    seed=st.integers(0, 999),
    small=st.booleans(),
    affine=st.booleans(),
    pool_norm=st.booleans(),
    training=st.sampled_from([True, True, False]),
    size=SIZES,
    batch=st.sampled_from([1, 3]),
    drop=st.sampled_from([0.0, 0.4]),
)
def test_supernet_is_that_of_plain_modules(seed, small, affine, pool_norm, training, size, batch, drop):
    found = SMALL if small else ASNG
    net = shuffled(supernet(found, 2, 3, 4, affine=affine, pool_norm=pool_norm), seed)
    net.drop_path_prob = drop
    gates = drawn(seed, found)
    compared(net, lambda net, x: net.train(training)(x, gates), [images(batch, 3, *size).requires_grad_()])


@pytest.mark.parametrize("case", CELLS)
@pytest.mark.parametrize("drop", [0.0, 0.4])
def test_cells_of_every_shape_are_those_of_plain_modules(case, drop):
    gates = gates_of(CELLS[case], CELLS[case])
    net = shuffled(supernet(ASNG, 2, 3, 4))
    net.drop_path_prob = drop
    x = images(3, 3, 8, 8).requires_grad_()
    compared(net, lambda net, x: net(x, gates), [x])
    derived = shuffled(derive(net, gates))
    derived.drop_path_prob = drop
    compared(derived, lambda net, x: net(x), [x])


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("case", [*CELLS, *range(4)])
def test_derived_network_gives_the_logits_and_statistics_of_the_supernet(case, plain):
    gates = gates_of(CELLS[case], CELLS[case]) if case in CELLS else drawn(case)
    net = shuffled(supernet(ASNG, 2, 5, 3))
    derived = derive(net, gates, inherit_weights=True)
    x = images(3, 3, 8, 8)
    with plain_modules(plain):
        for training in (True, False, True):
            expected = net.train(training)(x, gates)
            torch.testing.assert_close(derived.train(training)(x), expected, rtol=1e-10, atol=1e-10)
    again = derive(net, gates, inherit_weights=True).state_dict()
    for name, value in derived.state_dict().items():
        torch.testing.assert_close(value, again[name], rtol=1e-10, atol=1e-10)


def test_only_chosen_operations_and_loose_ends_learn():
    net, gates = supernet(ASNG, 2, 3, 3).double(), gates_of(CHAIN, CHAIN)
    net(images(3, 3, 8, 8), gates).square().sum().backward()
    cell = net.cells[0]
    chosen = {
        f"_ops.{cell.layout.pairs.index((b, n[s]))}.{n[2 + s]}." for b, n in enumerate(CHAIN) for s in (0, 1)
    }
    learnt = {name for name, p in cell._ops.named_parameters(prefix="_ops") if p.grad is not None}
    assert learnt
    assert all(any(name.startswith(part) for part in chosen) for name in learnt)
    used, loose = cell.post.op[1].weight.grad.split([8, 2], 1)
    assert not used.any()
    assert loose.any()


def test_genotype_has_two_edges_per_node_and_the_loose_ends():
    genotype = genotype_of(ASNG, gates_of(TWICE, CHAIN))
    assert genotype.cell_edges("normal")[:4] == (
        *((0, "sep_conv_3x3", 0), (0, "sep_conv_3x3", 0), (1, "sep_conv_5x5", 2), (1, "sep_conv_5x5", 2)),
    )
    assert (genotype.normal_concat, genotype.reduce_concat) == ((4, 5, 6), (6,))
    assert genotype.projected
    assert Genotype.from_json(genotype.to_json()) == genotype


def test_derived_network_has_the_parameters_of_its_operations():
    c = 4
    net = derived_network(genotype_of(ASNG, gates_of(TWICE, CHAIN)), c, 1, 10)  # one cell, a reduction
    c2 = 2 * c
    sep = {k: 2 * (k * k * c2 + c2 * c2 + 2 * c2) for k in (3, 5)}
    skip = c2 * c2 + 2 * c2  # stride 2 from an input
    expected = 3 * 12 * 9 + 2 * 12  # stem
    expected += 2 * (12 * c2 + 2 * c2)  # preprocessing
    expected += 3 * sep[3] + sep[5] + skip  # the chain; its other identity is at stride 1
    expected += c2 * c2 + 2 * c2 + 10 * c2 + 10  # one loose end, classifier
    assert sum(p.numel() for p in net.parameters()) == expected


def test_an_operation_chosen_twice_is_one_module():
    net = derived_network(genotype_of(ASNG, gates_of(TWICE, TWICE)), 4, 3)
    assert [edge.times for edge in net.cells[0].layout.edges] == [2, 2, 1, 1, 2, 1, 1]
    pairs = net.genotype.normal
    twin = Genotype(pairs, (4, 5, 6), pairs, (4, 5, 6))
    assert [edge.times for edge in derived_network(twin, 4, 3).cells[0].layout.edges] == 10 * [1]


@pytest.mark.parametrize("change", ["convolution", "operation", "dtype", "weights"])
def test_a_network_that_has_run_follows_changes(change):
    net, gates = shuffled(supernet(ASNG, 2, 3, 3)), gates_of(CHAIN, CHAIN)
    x = images(2, 3, 8, 8)
    before = net(x, gates)
    if change == "convolution":
        net.cells[0].post.op[1] = torch.nn.Conv2d(10, 2, 1, bias=False).double()
    elif change == "operation":
        net.cells[0]._ops[0][SEP3] = torch.nn.Identity()
    elif change == "dtype":
        net, x, gates = net.float(), x.float(), gates_of(CHAIN, CHAIN, dtype=torch.float32)
    else:
        net.load_state_dict({name: 2 * value for name, value in net.state_dict().items()})
    after, copied = net(x, gates), copy.deepcopy(net)(x, gates)
    with plain_modules():
        expected = net(x, gates)
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if change == "dtype" else {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(after, expected, **tolerance)
    torch.testing.assert_close(copied, expected, **tolerance)
    assert change == "dtype" or not torch.allclose(after, before)


ROWS = gates_of(CHAIN, CHAIN)


@pytest.mark.parametrize(
    "gates, message",
    [
        (Gates(ROWS.weight), "row 0 is dense"),
        (Gates(ROWS.weight, (MIXED, *ROWS.active[1:])), "row 0 is dense|weights than 1"),
        (Gates(ROWS.weight, ROWS.active), "other weights than 1"),
        (Gates(ROWS.weight.clone().requires_grad_(), ROWS.active, True), "without a gradient"),
        (
            Gates(ROWS.weight, (0, PRUNED, *ROWS.active[2:]), True),
            r"'input 1'\) in row 1 of space 'asng-cnn', got number -1",
        ),
        (Gates(torch.zeros(28, 8), (0,) * 28, True), r"\(40, 6\), got \(28, 8\)"),
    ],
)
def test_gates_that_are_no_wiring_are_refused(gates, message):
    with pytest.raises(ValueError, match=message):
        supernet(ASNG, 2, 3, 3).double()(images(2, 3, 8, 8), gates)


def test_options_that_a_short_row_lacks_are_refused():
    short = gates_of(((2, 0, SKIP, SKIP), *CHAIN[1:]), CHAIN)
    with pytest.raises(ValueError, match=r"\('input 0', 'input 1'\) in row 0, got number 2"):
        genotype_of(ASNG, short)
    with pytest.raises(ValueError, match=r"\('input 0', 'input 1'\) in row 0 of .*got number 2"):
        supernet(ASNG, 2, 3, 3).double()(images(2, 3, 8, 8), short)


def test_costs_of_options_need_a_choice_per_edge():
    with pytest.raises(ValueError, match="choice per edge to count the costs, got one of space 'asng-cnn'"):
        supernet(ASNG, 2, 3).option_costs()


def test_spaces_of_other_kinds_are_refused():
    class Other(CellSpace.__base__):
        rows, node_offsets = 1, (0, 1)

        def choices(self, row):
            return ("a",)

    with pytest.raises(TypeError, match=r"of a family, one of cells, layered, .*topology, got Other"):
        supernet(Other("other"), 2, 3)
    with pytest.raises(TypeError, match=r"of a family, one of cells, layered, .*topology, got Other"):
        genotype_of(Other("other"), Gates(torch.zeros(1, 1), (0,)))
