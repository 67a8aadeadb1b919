# SPDX-License-Identifier: MIT
"""Fused networks and cells against the plain modules: all that a user can see, in float64."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from nn_drawn import random_gates
from nn_fused import compared, images, shuffled

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.genotype import Genotype
from nasp_ext.families.cells.published import GENOTYPES
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.nn import fusion_reasons

SPACES = {name: space(name) for name in ("darts", "nasp", "nas-bench-201")}
SIZES = st.sampled_from([(8, 8), (7, 9), (5, 12), (6, 6)])
# Without Phase.shrink: a failing network is small enough as it is.
NETWORKS = settings(max_examples=24, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])


@NETWORKS
@given(
    name=st.sampled_from(list(SPACES)),
    seed=st.integers(0, 999),
    edges=st.sampled_from([None, 2, 1]),
    unit=st.booleans(),
    mixed=st.sampled_from([0.0, 0.3, 1.0]),
    affine=st.booleans(),
    pool_norm=st.booleans(),
    update=st.booleans(),
    training=st.sampled_from([True, True, False]),
    size=SIZES,
    batch=st.sampled_from([1, 3]),
    gates_wanted=st.booleans(),
    drop=st.sampled_from([0.0, 0.0, 0.4]),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_supernet_is_that_of_plain_modules(
    name,
    seed,
    edges,
    unit,
    mixed,
    affine,
    pool_norm,
    update,
    training,
    size,
    batch,
    gates_wanted,
    drop,
    layout,
):
    assume(not (drop and edges == 1))  # nodes that are zero in all images: ReLUs and pools at their kinks
    # Of a node that none reads, plain modules leave the statistics of unselected options as they are.
    assume(name != "nas-bench-201" or edges is None)
    options = {"affine": affine, "pool_norm": pool_norm, "update_unselected_stats": update}
    options["stem_multiplier"] = SPACES[name].inputs
    net = shuffled(supernet(SPACES[name], 2, 3, 4, **options), seed)
    net.drop_path_prob = drop
    gates = random_gates(
        SPACES[name],
        torch.Generator().manual_seed(seed),
        edges=edges,
        value=None if unit else "random",
        mixed=mixed,
    )
    x = images(batch, 3, *size, seed=seed).to(memory_format=layout).requires_grad_()
    compared(
        net,
        lambda net, x, weight: net.train(training)(x, Gates(weight, gates.active, gates.unit)),
        [x, gates.weight.requires_grad_(gates_wanted)],
    )


ARCH = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|"
DERIVED = GENOTYPES | {"one input": Genotype.from_arch(ARCH)}


@settings(NETWORKS, max_examples=8)
@given(
    name=st.sampled_from(sorted(DERIVED)),
    seed=st.integers(0, 999),
    affine=st.booleans(),
    pool_norm=st.booleans(),
    training=st.booleans(),
    size=SIZES,
    drop=st.sampled_from([0.0, 0.4]),
    weighted=st.booleans(),
)
def test_derived_network_is_that_of_plain_modules(
    name, seed, affine, pool_norm, training, size, drop, weighted
):
    genotype = DERIVED[name]
    coefficients = (None, None)
    if weighted:
        coefficients = tuple(torch.rand(len(getattr(genotype, cell))) for cell in genotype.cells)
    options = {"affine": affine, "pool_norm": pool_norm, "coefficients": coefficients}
    net = shuffled(derived_network(genotype, 3, 3, 4, drop_path=drop, **options), seed)
    compared(net, lambda net, x: net.train(training)(x), [images(2, 3, *size).requires_grad_()])


@pytest.mark.parametrize("name", list(SPACES))
def test_every_cell_and_the_stem_of_a_supernet_run_fused(name, fused_runs):
    net = supernet(SPACES[name], 2, 3, 4)
    gates = random_gates(SPACES[name], torch.Generator().manual_seed(0), dtype=torch.float32)
    net(torch.randn(2, 3, 8, 8), gates)
    reductions = 2 * ["cell" if SPACES[name].reduce else "chains"]
    assert fused_runs == ["network", "cell", *reductions]
    assert fusion_reasons(net) == {}


def small_cell(reduction=False, shrunk=False, name="darts", **options):
    """A cell of two channels per node, behind inputs of six."""
    net = supernet(SPACES[name], 2, 3, 4, **options)
    cells = [cell for cell in net.cells if cell.reduction == reduction]
    return shuffled(cells[-1])


def cell_inputs(cell, batch=2, size=6):
    widths = []
    for module in (cell.preprocess0, cell.preprocess1):
        widths.append(next(p for p in module.parameters() if p.dim() == 4).shape[1])
    twice = 2 if hasattr(cell.preprocess0, "conv_1") else 1
    return [
        images(batch, widths[0], twice * size, twice * size, seed=1).requires_grad_(),
        images(batch, widths[1], size, size, seed=2).requires_grad_(),
    ]


def on(active, unit=True):
    """(cell, s0, s1, weight) -> the output of the cell at an architecture."""

    def call(cell, s0, s1, weight):
        return cell(s0, s1, Gates(weight, active, unit).choices(), gates=weight)

    return call


def one_hot(active, value=1.0):
    weight = torch.zeros(28, 8, dtype=torch.float64)
    for row, option in enumerate(active):
        if option >= 0:
            weight[row, option] = value
    return weight.requires_grad_()


PRUNED_NODES = {
    "nothing": (-1,) * 28,
    "the first node": (-1,) * 2 + (4,) * 26,
    "the last node": (4,) * 9 + (-1,) * 5 + (6,) * 9 + (-1,) * 5,
    "none everywhere": (0,) * 28,
    "none beside others": (0, 4, 1, 0, 7, 2) + (-1,) * 8 + (0, 3, 5, 0) + (-1,) * 10,
}


@pytest.mark.parametrize("reduction", [False, True])
@pytest.mark.parametrize("case", PRUNED_NODES)
def test_cell_with_pruned_nodes_is_that_of_plain_modules(case, reduction, fused_runs):
    active, cell = PRUNED_NODES[case], small_cell(reduction)
    compared(cell, on(active), [*cell_inputs(cell), one_hot(active)])
    assert fused_runs == ["cell"]


@pytest.mark.parametrize("value", [0.0, 0.25, -2.0])
def test_gates_of_any_weight_have_the_gradients_of_plain_modules(value):
    active, cell = (4, 1, 3, 6, 2) * 5 + (5, 7, -1), small_cell()
    found = compared(cell, on(active, unit=False), [*cell_inputs(cell), one_hot(active, value)])
    assert found["gradient of input 2"].isfinite().all()


UPSTREAM = {
    "expanded": lambda out: torch.ones((), dtype=out.dtype).expand(out.shape),
    "transposed": lambda out: images(*out.shape).transpose(2, 3),
    "sliced": lambda out: images(*out.shape[:3], 2 * out.shape[3])[..., ::2],
    "NCHW": lambda out: images(*out.shape).contiguous(),
}


@pytest.mark.parametrize("case", UPSTREAM)
def test_gradient_of_any_layout_is_taken(case):
    active, cell = (4, 1, 3, 6, 2) * 5 + (5, 7, -1), small_cell()
    compared(cell, on(active), [*cell_inputs(cell), one_hot(active)], UPSTREAM[case])


@pytest.mark.parametrize("layout", ["NCHW", "channels_last", "sliced", "transposed", "expanded"])
def test_inputs_of_any_layout_are_taken(layout):
    active, cell = (4, 1, 3, 6, 2) * 5 + (5, 7, -1), small_cell(True)

    def laid_out(x):
        x = x.detach()
        found = {
            "NCHW": x.contiguous(),
            "channels_last": x.contiguous(memory_format=torch.channels_last),
            "sliced": torch.cat((x, x), 1)[:, : x.shape[1]],
            "transposed": x.transpose(2, 3),
            "expanded": x[:1].expand(x.shape),
        }
        return found[layout].requires_grad_()

    compared(cell, on(active), [*(laid_out(x) for x in cell_inputs(cell)), one_hot(active)])


def test_frozen_weights_and_inputs_get_no_gradient_and_change_no_other():
    active, cell = (4, 1, 3, 6, 2) * 5 + (5, 7, -1), small_cell()
    for number, parameter in enumerate(cell.parameters()):
        parameter.requires_grad_(number % 3 > 0)
    s0, s1 = cell_inputs(cell)
    compared(cell, on(active), [s0.requires_grad_(False), s1, one_hot(active)])
    compared(cell.requires_grad_(False), on(active), [s0, s1, one_hot(active)])


@pytest.mark.parametrize("training", [True, False])
def test_frozen_batch_norms_beside_training_ones_are_those_of_plain_modules(training):
    active, cell = (4, 1, 3, 6, 2) * 5 + (5, 7, -1), small_cell(affine=True).train(training)
    for number, module in enumerate(m for m in cell.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        if number % 2:
            module.train(not training)
        if number % 5 == 0:
            module.track_running_stats = False
        module.momentum, module.eps = 0.3, 1e-2
    compared(cell, on(active), [*cell_inputs(cell), one_hot(active)])


def test_single_values_in_training_are_refused_as_plain_modules_refuse_them():
    cell = small_cell()
    for active in ((4,) * 28, (3,) * 28):  # the second one runs BatchNorms in the backward alone
        weight = one_hot(active)
        inputs = cell_inputs(cell, batch=1, size=1)
        with pytest.raises(ValueError, match="more than 1 value per channel when training"):
            on(active)(cell, *inputs, weight).sum().backward()


def test_edges_run_one_by_one_where_coefficients_stand_beside_gates(fused_runs):
    active, cell = (4, 1, 3, 6, 2) * 5 + (5, 7, -1), small_cell()
    cell.coefficients = torch.rand(14, dtype=torch.float64)
    compared(cell, on(active, False), [*cell_inputs(cell), one_hot(active, 0.5)])
    assert set(fused_runs) == {"mixed_op"}


def test_output_that_holds_an_input_or_a_node_twice_runs_plain(fused_runs):
    edges = (("skip_connect", 0), ("sep_conv_3x3", 1))
    genotype = Genotype(edges, (2,), edges, (2,))
    cell = shuffled(derived_network(genotype, 2, 3).cells[0])
    for concat, runs in (((2,), ["cell"]), ((1, 2), []), ((2, 2), [])):
        fused_runs.clear()
        changed = copy.deepcopy(cell)
        changed.layout = replace(cell.layout, concat=concat)
        compared(changed, lambda cell, s0, s1: cell(s0, s1, None), cell_inputs(cell))
        assert fused_runs == runs
