# SPDX-License-Identifier: MIT
"""Supernets and derived networks: sizes, gradients of all gates, auxiliary head, drop path, errors."""

import copy

import pytest
import torch
from nn_drawn import mixture, random_gates

from nasp_ext.arch.gates import MIXED, Gates
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.genotype import Genotype
from nasp_ext.families.cells.published import GENOTYPES
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.nn import MixedOp

DARTS, NASP, BENCH = space("darts"), space("nasp"), space("nas-bench-201")


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name, parameters", [("DARTS_V1", 3_169_414), ("DARTS_V2", 3_349_342)])
def test_published_networks_have_their_published_size(name, parameters):
    assert count(derived_network(GENOTYPES[name])) == parameters


def test_state_dict_has_the_names_of_darts_code():
    net = derived_network(GENOTYPES["DARTS_V2"], 4, 3, auxiliary=True)
    assert {
        *("stem.0.weight", "stem.1.weight", "classifier.bias", "auxiliary_head.features.2.weight"),
        *("cells.0.preprocess0.op.1.weight", "cells.2.preprocess0.conv_1.weight"),
        *("cells.0._ops.0.op.6.weight", "cells.1._ops.2.op.1.weight"),
    } - set(net.state_dict()) == {"cells.1._ops.2.op.1.weight"}  # a skip connection has no weights
    assert not any("coefficients" in name for name in net.state_dict())


def every_branch(net, gates):
    """The same network with every MixedOp written out as the full mixture."""
    plain = copy.deepcopy(net)
    for module in plain.modules():
        if isinstance(module, MixedOp):
            module.forward = lambda x, weights, active, unit, op=module: mixture(op, x, weights)
    return plain, Gates(gates.weight)


@pytest.mark.parametrize(
    "cells, seed, edges",
    [(DARTS, 0, 2), (DARTS, 1, None), (NASP, 2, 2), (NASP, 3, 1), (BENCH, 4, None), (BENCH, 7, 1)],
)
def test_gradient_of_all_gates_is_that_of_the_full_mixture(cells, seed, edges):
    generator = torch.Generator().manual_seed(seed)
    net = supernet(cells, 2, 5 if cells is BENCH else 3, 4, in_channels=1).double()
    gates = random_gates(cells, generator, edges=edges)
    gates.weight.requires_grad_()
    plain, dense = every_branch(net, gates)
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64, generator=generator)
    results = []
    for network, value in ((net, gates), (plain, dense)):
        logits = network(x, value)
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 3]))
        (grad,) = torch.autograd.grad(loss, gates.weight)
        results.append((logits.detach(), grad, network.state_dict()))
    scale = results[1][1].abs().max()
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(results[0][1] / scale, results[1][1] / scale, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(results[0][2], results[1][2], rtol=1e-10, atol=1e-10)
    assert int((results[0][1] != 0).sum()) > cells.rows


def test_dense_gates_run_the_mixture():
    net = supernet(NASP, 2, 3, 4).double()
    weight = torch.rand(28, 8, dtype=torch.float64)
    plain, dense = every_branch(net, Gates(weight))
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(net(x, Gates(weight)), plain(x, dense), rtol=1e-10, atol=1e-10)


def test_mixed_rows_stand_beside_rows_of_one_option():
    generator = torch.Generator().manual_seed(8)
    net = supernet(DARTS, 2, 3, 4).double()
    gates = random_gates(DARTS, generator)
    weight, active = gates.weight.clone(), list(gates.active)
    for row in (0, 5, 6, 20):
        weight[row], active[row] = torch.rand(8, dtype=torch.float64, generator=generator), MIXED
    plain, dense = every_branch(net, Gates(weight))
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=generator)
    found = net(x, Gates(weight, tuple(active), unit=True))
    torch.testing.assert_close(found, plain(x, dense), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("option", [-3, 8])
def test_gates_refuse_an_option_that_does_not_exist(option):
    with pytest.raises(ValueError, match=rf"active\[1\] in 0..7, -1 for none or -2 for all, got {option}"):
        Gates(torch.zeros(2, 8), (0, option))


def test_pruned_edges_run_nothing_without_gradient():
    net = supernet(DARTS, 2, 3)
    ran = []
    for name, module in net.named_modules():
        if isinstance(module, MixedOp):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    gates = random_gates(DARTS, torch.Generator().manual_seed(0), dtype=torch.float32)
    net(torch.randn(2, 3, 8, 8), gates)
    assert len(ran) == 3 * 8
    gates.weight.requires_grad_()
    with torch.no_grad():
        net(torch.randn(2, 3, 8, 8), gates)
    assert len(ran) == 2 * 3 * 8


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (32, 32)])
def test_nodes_without_edges_are_zero_at_any_size(size):
    net = supernet(DARTS, 4, 3).double()
    nothing = Gates(torch.zeros(28, 8, dtype=torch.float64), (-1,) * 28)
    logits = net(torch.randn(2, 3, *size, dtype=torch.float64), nothing)
    torch.testing.assert_close(logits, net.classifier.bias.expand(2, 10))


def test_a_node_without_edges_stands_beside_others_in_a_reduction():
    edge = (("max_pool_3x3", 0),)
    genotype = Genotype(edge, (2, 3), edge, (2, 3), (1, 0), (0, 1))
    net = derived_network(genotype, 2, 1)
    out = net.cells[0](torch.randn(2, 6, 7, 8), torch.randn(2, 6, 7, 8), None)
    assert out.shape == (2, 8, 4, 4)
    assert out[:, :4].eq(0).all()
    assert out[:, 4:].ne(0).any()


@pytest.mark.parametrize("cells", [1, 2, 8])
def test_derived_network_of_any_depth_trains_on_small_images(cells):
    net = derived_network(GENOTYPES["DARTS_V2"], 4, cells, 10, in_channels=1)
    loss = net(torch.randn(4, 1, 8, 8)).square().sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_reductions_stand_at_thirds_of_the_depth():
    net = derived_network(GENOTYPES["DARTS_V2"], 4, 20)
    assert [number for number, cell in enumerate(net.cells) if cell.reduction] == [6, 13]
    assert net.classifier.in_features == 4 * 4 * 4


@pytest.mark.parametrize("size", [8, 32])
def test_auxiliary_head_answers_in_training_only(size):
    net = derived_network(GENOTYPES["DARTS_V2"], 4, 5, 7, auxiliary=True)
    x = torch.randn(2, 3, size, size)
    logits, auxiliary = net(x)
    assert logits.shape == auxiliary.shape == (2, 7)
    auxiliary.sum().backward()
    assert net.cells[2].preprocess1.op[1].weight.grad is not None
    assert net.cells[4].preprocess1.op[1].weight.grad is None
    assert net.eval()(x).shape == (2, 7)


def test_auxiliary_head_has_the_size_of_the_published_one():
    with_head, without = (
        count(derived_network(GENOTYPES["DARTS_V2"], auxiliary=flag)) for flag in (True, False)
    )
    inner = 4 * 4 * 36  # channels after the second reduction
    assert with_head - without == inner * 128 + 2 * 128 + 4 * 128 * 768 + 2 * 768 + 768 * 10 + 10


def test_drop_path_zeroes_edges_of_samples_and_keeps_the_mean():
    sources = (("max_pool_3x3", 0), ("max_pool_3x3", 1))
    net = derived_network(Genotype(sources, (2,), sources, (2,)), 2, 1, drop_path=0.5)
    cell = net.cells[0]
    x = torch.ones(4000, 6, 1, 1)
    cell.preprocess0 = cell.preprocess1 = torch.nn.Identity()
    out = cell(x, x, None, 0.5)
    values, counts = out.unique(return_counts=True)
    assert values.tolist() == [0, 2, 4]
    assert (counts / counts.sum() - torch.tensor([0.25, 0.5, 0.25])).abs().max() < 0.05
    assert net.eval().cells[0](x, x, None, 0.5).eq(2).all()


def test_drop_path_is_set_per_epoch_and_spares_identities():
    net = derived_network(GENOTYPES["DARTS_V2"], 4, 3)
    net.stem[0].weight.data.normal_()
    x = torch.randn(2, 3, 8, 8)
    first = net(x)
    torch.testing.assert_close(net(x), first)
    net.drop_path_prob = 0.9
    assert not net(x).equal(first)
    skips = (("skip_connect", 0), ("skip_connect", 1))
    skipping = derived_network(Genotype(skips, (2,), skips, (2,)), 4, 3, drop_path=0.9)
    cell = next(cell for cell in skipping.cells if not cell.reduction)
    hidden = torch.randn(2, 12, 8, 8)
    torch.testing.assert_close(cell(hidden, hidden, None, 0.9), cell(hidden, hidden, None, 0.0))


def test_option_costs_count_the_parameters_of_the_cells():
    costs = supernet(NASP, 4, 3).option_costs()
    assert costs.shape == (28, 8)
    assert costs.dtype == torch.float64
    # One normal cell at C = 4, reduction cells at C = 8 and 16; no BatchNorm has parameters.
    assert costs[0].tolist() == [0, 96, 9 * 4 + 16, 16, 144, 2 * (36 + 16), 2 * (100 + 16), 2 * (196 + 16)]
    assert costs[14].tolist() == [8 * 8 + 16 * 16, 0, 0, 0, 0, 0, 0, 0]  # FactorizedReduce
    assert costs[18].tolist() == [0] * 8  # source 2: an identity


def test_rows_are_shared_by_all_cells_of_a_kind():
    costs = supernet(DARTS, 4, 6).option_costs()
    channels = [4, 4, 8, 8, 16, 16]
    expected = sum(2 * (9 * c + c * c) for c in (channels[0], channels[1], channels[3], channels[5]))
    assert costs[3, DARTS.normal.index("sep_conv_3x3")] == expected


def test_weight_parameters_are_all_parameters():
    net = supernet(NASP, 2, 3)
    assert [id(p) for p in net.weight_parameters()] == [id(p) for p in net.parameters()]


def test_statistics_of_unselected_branches_can_be_left_alone():
    net = supernet(NASP, 2, 3, update_unselected_stats=False)
    gates = random_gates(NASP, torch.Generator().manual_seed(0), dtype=torch.float32)
    gates.weight.requires_grad_()
    net(torch.randn(3, 3, 8, 8), gates).sum().backward()
    updated = [int(v) for name, v in net.state_dict().items() if "_ops" in name and "num_batches" in name]
    assert 0 in updated
    assert set(updated) == {0, 1}


ONE = Gates(torch.zeros(28, 8), (-1,) * 28)
SEVEN = Gates(torch.zeros(28, 8), (7,) * 28)  # reduction cells have five options


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: supernet(DARTS, 2, 3)(torch.zeros(2, 3, 8, 8)), "expected Gates .*got NoneType"),
        (lambda: supernet(DARTS, 2, 3)(torch.zeros(2, 3, 8, 8), Gates(torch.zeros(14, 8))), r"got \(14, 8\)"),
        (lambda: supernet(DARTS, 2, 3)(torch.zeros(2, 1, 8, 8), ONE), r"\(B, 3, H, W\), got \(2, 1, 8, 8\)"),
        (
            lambda: supernet(NASP, 2, 3)(torch.zeros(2, 3, 8, 8), Gates(torch.zeros(28, 8), (7,) * 28)),
            "0?4 or None",
        ),
        (lambda: supernet(DARTS, 0), "channels >= 1, got 0"),
        (lambda: derived_network(GENOTYPES["DARTS_V1"], 4, 3)(torch.zeros(2, 3, 8, 8), ONE), "no gates"),
        (lambda: derived_network(GENOTYPES["DARTS_V1"], 4, 3).option_costs(), "supernet"),
        (lambda: derived_network(GENOTYPES["DARTS_V1"], 4, 3, drop_path=1.0), "drop_path"),
    ],
)
def test_misuse_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
