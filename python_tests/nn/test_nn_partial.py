# SPDX-License-Identifier: MIT
"""Partial channels: the equations of PC-DARTS written out, exact gradients, networks and what is derived."""

import copy
import dataclasses
from itertools import pairwise

import pytest
import torch
from nn_drawn import random_gates
from nn_fused import assert_same, compared, images, observed
from torch import nn

from nasp_ext.arch.gates import PRUNED, Gates
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.derivation import derive, genotype_of
from nasp_ext.families.layered.space import LayeredSpace
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.nn import PartialMixedOp, fusion_reasons, plain_modules

OPTIONS = ("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3", "dil_conv_3x3")
SMALL = CellSpace("small", OPTIONS[:4], ("skip_connect", "max_pool_3x3"), nodes=2)
WIDE = torch.float64


def partial_op(k=4, stride=1, C=8, options=OPTIONS, **settings) -> PartialMixedOp:
    return PartialMixedOp(C, stride, options, partial_channels=k, **settings).double()


def drawn_row() -> torch.Tensor:
    return torch.rand(len(OPTIONS), dtype=WIDE, generator=torch.Generator().manual_seed(1)) + 0.1


def one_hot_row(option: int, value=1.0) -> torch.Tensor:
    row = torch.zeros(len(OPTIONS), dtype=WIDE)
    row[option] = value
    return row


def pooled(x: torch.Tensor) -> torch.Tensor:
    """The largest of each 2×2 pixels, fewer at the border of odd sizes."""
    rows = [x[:, :, i : i + 2].amax(2) for i in range(0, x.shape[2], 2)]
    x = torch.stack(rows, 2)
    return torch.stack([x[..., j : j + 2].amax(3) for j in range(0, x.shape[3], 2)], 3)


def channel_shuffled(x: torch.Tensor, groups: int) -> torch.Tensor:
    each = x.shape[1] // groups
    return x[:, [group * each + j for j in range(each) for group in range(groups)]]


def edge_of_the_paper(op: PartialMixedOp, x: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Xu et al. 2020, eq. 2: Σ_o exp(α_o) / Σ_o' exp(α_o') · o(S * x) + (1 - S) * x, then the shuffle."""
    n = x.shape[1] // op.partial_channels
    shares = alpha.exp() / alpha.exp().sum()
    mixed = sum(share * option(x[:, :n]) for share, option in zip(shares, op._ops, strict=True))
    past = pooled(x[:, n:]) if op.stride == 2 else x[:, n:]
    return channel_shuffled(torch.cat([mixed, past], 1), op.partial_channels)


@pytest.mark.parametrize("k, C", [(2, 8), (4, 8), (4, 4), (3, 6)])
@pytest.mark.parametrize("stride, size", [(1, (5, 4)), (2, (6, 4)), (2, (5, 7))])
def test_a_node_is_that_of_the_paper(k, C, stride, size):
    options = tuple(name for name in OPTIONS if C // k % 2 == 0 or name != "skip_connect" or stride == 1)
    edges = [partial_op(k, stride, C, options) for _ in range(3)]
    inputs = [images(2, C, *size, seed=i) for i in range(3)]
    alpha, beta = images(3, len(options), seed=5), images(3, seed=6)
    # Eq. 3: the inputs of a node weighted by the softmax of β.
    shares = beta.exp() / beta.exp().sum()
    parts = zip(shares, edges, inputs, alpha, strict=True)
    expected = sum(share * edge_of_the_paper(op, x, a) for share, op, x, a in parts)
    weights = beta.softmax(0)[:, None] * alpha.softmax(1)
    found = sum(op(x, row) for op, x, row in zip(edges, inputs, weights, strict=True))
    assert found.shape == (2, C, -(-size[0] // stride), -(-size[1] // stride))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_a_dense_row_by_finite_differences(stride):
    op = partial_op(2, stride, 4, affine=True).eval()
    names, values = zip(*op.named_parameters(), strict=True)

    def run(x, row, *parameters):
        return torch.func.functional_call(
            op, dict(zip(names, parameters, strict=True)), (x, row), {"active": None}
        )

    x = images(1, 4, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(run, (x, drawn_row().requires_grad_(), *values))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("option", [*range(len(OPTIONS)), PRUNED])
@pytest.mark.parametrize("value, told", [(1.0, True), (0.3, True), (1.0, False)])
def test_one_hot_rows_have_the_gradients_of_the_mixture(fused, stride, option, value, told):
    op = partial_op(4, stride, 8)
    row = one_hot_row(option, value) if option != PRUNED else one_hot_row(0, 0.0)
    inputs = [images(3, 8, 5, 6).requires_grad_(), row.requires_grad_()]
    choice = {"active": option, "unit": value == 1.0 and option != PRUNED} if told else {}
    expected = observed(copy.deepcopy(op), lambda m, x, w: m(x, w, active=None), inputs)
    with plain_modules(not fused):
        found = observed(op, lambda m, x, w: m(x, w, **choice), inputs)
    for name in [name for name in found if name.startswith("gradient of _ops")]:
        # Branches that do not run get no gradient from the one, zeros from the other.
        assert found[name] is not None or not expected[name].any()
        del found[name], expected[name]
    assert found["gradient of input 1"].abs().min() > 0  # also of `none`, by the channels past it
    assert_same(found, expected)


def test_channels_go_past_a_one_hot_row_bit_for_bit():
    op, x = partial_op(), images(2, 8, 5, 5)
    with torch.no_grad():
        out = op(x, one_hot_row(3), active=3, unit=True)
    places = [j * 4 + group for group in range(1, 4) for j in range(2)]
    assert torch.equal(out[:, places], x[:, 2:])


def test_a_row_of_zeros_is_a_zero_output():
    op, x = partial_op(stride=2), images(2, 8, 5, 5)
    for choice in ({"active": PRUNED}, {}):
        out = op(x, torch.zeros(5, dtype=WIDE), **choice)
        assert torch.equal(out, torch.zeros(2, 8, 3, 3, dtype=WIDE))


@pytest.mark.parametrize("stride", [1, 2])
def test_the_part_runs_fused(stride, fused_runs):
    op, x = partial_op(stride=stride), images(2, 8, 5, 5).requires_grad_()
    compared(op, lambda m, x: m(x, one_hot_row(4), active=4, unit=True), [x])
    assert "mixed_op" in fused_runs
    assert fusion_reasons(op) == {}


def test_half_precision_beside_single_precision_gates():
    op, x = partial_op(stride=2).float(), images(2, 8, 6, 6).float()
    row = drawn_row().float()
    expected, found = op(x, row), op.bfloat16()(x.bfloat16(), row)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    "C, stride, k, message",
    [
        (6, 1, 4, "channels that partial_channels=4 divides, got 6"),
        (8, 1, 1, "partial_channels >= 2 and stride 1 or 2, got partial_channels=1"),
        (8, 1, 0, "channels that partial_channels=0 divides"),
        (4, 2, 4, "even number of channels at stride 2"),
    ],
)
def test_channels_that_cannot_be_parted_are_refused(C, stride, k, message):
    with pytest.raises(ValueError, match=message):
        PartialMixedOp(C, stride, OPTIONS, partial_channels=k)


def test_modules_of_ones_own():
    op = PartialMixedOp.from_modules({"a": nn.Linear(3, 3), "b": nn.Identity()}, partial_channels=2).double()
    x, row = images(4, 6), torch.tensor([0.5, 0.25], dtype=WIDE)
    part = 0.5 * op._ops[0](x[:, :3]) + 0.25 * x[:, :3]
    torch.testing.assert_close(op(x, row), torch.stack([part, 0.75 * x[:, 3:]], 2).flatten(1))
    with pytest.raises(ValueError, match="divides, got 5"):
        op(x[:, :5], row)


@pytest.mark.parametrize("module", [nn.AvgPool2d(2), nn.Conv2d(2, 1, 1)])
def test_outputs_that_do_not_fit_the_channels_past_them_are_refused(module):
    op = PartialMixedOp.from_modules([module])
    with pytest.raises(ValueError, match=r"expected options that give \(1, 2, 4, 4\), as the channels past"):
        op(torch.ones(1, 8, 4, 4), torch.ones(1))


# Networks


def net_of(found, **options):
    net = supernet(found, 8, getattr(found, "cells", 3), 4, in_channels=1, **options).double()
    net(images(3, 1, 8, 8, seed=9), Gates(found.mask().double() / 4))  # statistics off their defaults
    return net


SPACES = [
    SMALL.with_partial_channels(4),
    space("nasp").with_partial_channels(2),
    space("nas-bench-201").with_partial_channels(4),
    LayeredSpace.of(SMALL.with_partial_channels(4), 4),
]


def test_the_space_says_how_many_channels_go_through():
    assert SMALL.partial_channels == 1
    found = SMALL.with_partial_channels(4)
    assert (found.name, found.partial_channels, LayeredSpace.of(found, 3).partial_channels) == (
        "small-pc4",
        4,
        4,
    )
    edges = [op for cell in net_of(found).cell_list() for _, op in cell.mixed_edges()]
    assert {(type(op), op.partial_channels) for op in edges} == {(PartialMixedOp, 4)}
    assert {op.stride for op in edges} == {1, 2}
    # sep_conv_3x3 on 2 of 8 channels: twice 2 · 9 + 2 · 2 weights, in one normal cell of three.
    assert net_of(found).option_costs()[0].tolist() == [0, 0, 0, 44]


def test_a_supernet_is_that_of_the_paper():
    found = SMALL.with_partial_channels(4)
    net, x = net_of(found), images(2, 1, 8, 8)
    alpha, beta = images(found.rows, found.options, seed=1), images(found.rows, seed=2)
    nodes = [range(*bounds) for bounds in pairwise(found.node_offsets)]
    share = {row: beta[row].exp() / beta[node].exp().sum() for node in nodes for row in node}
    states = [net.stem(x)] * 2
    for cell in net.cell_list():
        inner = [cell.preprocess0(states[0]), cell.preprocess1(states[1])]
        edges = iter(cell.mixed_edges())
        for node in range(2):
            total = 0
            for source in range(2 + node):
                row, op = next(edges)
                options = len(found.choices(row))
                total = total + share[row] * edge_of_the_paper(op, inner[source], alpha[row, :options])
            inner.append(total)
        states = [states[1], torch.cat(inner[2:], 1)]
    expected = net.classifier(states[1].mean((2, 3)))
    exp = alpha.exp().masked_fill(~found.mask(), 0.0)
    weight = torch.stack([share[row] * exp[row] / exp[row].sum() for row in range(found.rows)])
    torch.testing.assert_close(net(x, Gates(weight)), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("found", SPACES, ids=lambda found: found.name)
@pytest.mark.parametrize("edges, value", [(2, None), (None, "random"), (0, None)])
def test_a_derived_network_gives_the_logits_of_the_supernet(found, edges, value):
    net = net_of(found)
    gates = random_gates(found, torch.Generator().manual_seed(3), edges=edges, value=value)
    derived = derive(net, gates, inherit_weights=True)
    for training in (True, False, True):
        net.train(training)
        derived.train(training)
        x = images(3, 1, 8, 8)
        torch.testing.assert_close(derived(x), net(x, gates), rtol=1e-10, atol=1e-10)


def test_one_hot_gates_of_a_network_have_the_gradient_of_the_mixture():
    found = SMALL.with_partial_channels(4)
    net = net_of(found)
    gates = random_gates(found, torch.Generator().manual_seed(4))
    x, grads = images(2, 1, 8, 8), []
    for active, unit in ((gates.active, True), (None, False)):
        weight = gates.weight.clone().requires_grad_()
        grads += torch.autograd.grad(net(x, Gates(weight, active, unit)).square().sum(), weight)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-9, atol=1e-11)
    assert grads[0][found.mask()].abs().min() > 0


def test_a_fresh_network_takes_all_channels_through_the_operations():
    found = SMALL.with_partial_channels(4)
    net = net_of(found)
    gates = random_gates(found, torch.Generator().manual_seed(2))
    fresh, genotype = derive(net, gates), genotype_of(found, gates)
    built = derived_network(genotype, 8, 3, 4, in_channels=1)
    shapes = {name: value.shape for name, value in built.state_dict().items()}
    assert {name: value.shape for name, value in fresh.state_dict().items()} == shapes
    parted = derived_network(genotype, 8, 3, 4, in_channels=1, partial_channels=4)
    inherited = derive(net, gates, inherit_weights=True)
    assert sum(p.numel() for p in inherited.parameters()) < sum(p.numel() for p in parted.parameters())
    assert sum(p.numel() for p in parted.parameters()) < sum(p.numel() for p in fresh.parameters())


def test_cells_say_why_they_run_their_modules():
    reasons = fusion_reasons(net_of(SMALL.with_partial_channels(4)))
    assert reasons == {
        f"cells.{n}": "its edges take a part of their channels past the operations" for n in range(3)
    }


def test_what_cannot_be_parted_is_refused():
    with pytest.raises(ValueError, match="expected partial_channels >= 1, got 0"):
        SMALL.with_partial_channels(0)
    with pytest.raises(ValueError, match="partial_channels=1 for edges mixed by attention, got 4"):
        LayeredSpace.of(SMALL.with_partial_channels(4), 3, attention=True)
    with pytest.raises(ValueError, match="channels that partial_channels=4 divides, got 6"):
        supernet(SMALL.with_partial_channels(4), 6, 3)
    genotype = genotype_of(SMALL, random_gates(SMALL, torch.Generator()))
    with pytest.raises(ValueError, match="channels that partial_channels=4 divides, got 6"):
        derived_network(genotype, 6, 3, partial_channels=4)
    assert dataclasses.replace(SMALL, partial_channels=1) == SMALL
