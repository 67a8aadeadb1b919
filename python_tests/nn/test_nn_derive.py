# SPDX-License-Identifier: MIT
"""Completeness: the derived network is the supernet at the gates it was derived from."""

import pytest
import torch
from nn_drawn import random_gates

from nasp_ext.arch.gates import MIXED, PRUNED, Gates
from nasp_ext.arch.registry import space
from nasp_ext.families.derivation import derive, genotype_of
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.strategies import strategy

DARTS = space("darts")
CASES = {
    "official": {"edges": 2},
    "paper": {"edges": None, "value": "random"},
    "one edge": {"edges": 1, "value": "random"},
    "no edges": {"edges": 0},
}


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("name", ["darts", "nasp", "nas-bench-201"])
def test_derived_network_gives_the_logits_of_the_supernet(name, case):
    generator = torch.Generator().manual_seed(7)
    net = supernet(space(name), 2, 5, 5).double()
    gates = random_gates(space(name), generator, **CASES[case])
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        net(
            x, Gates(torch.rand(gates.weight.shape, dtype=torch.float64) / 8)
        )  # statistics off their defaults
    derived = derive(net, gates, inherit_weights=True)
    for training in (True, False, True):
        net.train(training)
        derived.train(training)
        torch.testing.assert_close(derived(x), net(x, gates), rtol=1e-10, atol=1e-10)


def test_derived_network_keeps_training_mode_dtype_and_statistics():
    net = supernet(DARTS, 2, 3).double().eval()
    net.stem[1].running_mean.fill_(3.0)
    derived = derive(net, random_gates(DARTS, torch.Generator()), inherit_weights=True)
    assert not derived.training
    assert derived.stem[1].running_mean.dtype == torch.float64
    assert derived.stem[1].running_mean.eq(3).all()
    derived.stem[0].weight.data.zero_()
    assert net.stem[0].weight.ne(0).any()


def test_unit_weights_leave_no_factors():
    gates = random_gates(DARTS, torch.Generator().manual_seed(5), dtype=torch.float32)
    derived = derive(supernet(DARTS, 2, 3), gates, inherit_weights=True)
    assert not any("coefficients" in name for name in derived.state_dict())


def test_factors_of_edges_are_in_the_state_dict():
    net = supernet(DARTS, 2, 3).double()
    gates = random_gates(DARTS, torch.Generator().manual_seed(1), edges=None, value="random")
    derived = derive(net, gates, inherit_weights=True)
    expected = torch.stack([gates.weight[row, gates.active[row]] for row in range(14)])
    assert derived.state_dict()["cells.0.coefficients"].equal(expected)
    twin = derived_network(
        derived.genotype,
        *(2, 3),
        affine=False,
        pool_norm=True,
        coefficients=(torch.ones(14).double(), torch.ones(14).double()),
    ).double()
    twin.load_state_dict(derived.state_dict())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(twin(x), derived(x))


def test_fresh_network_is_the_one_a_retraining_builds():
    net = supernet(DARTS, 2, 3, 5)
    gates = random_gates(DARTS, torch.Generator().manual_seed(2), dtype=torch.float32)
    fresh = derive(net, gates)
    built = derived_network(genotype_of(DARTS, gates), 2, 3, 5)
    assert list(fresh.state_dict()) == list(built.state_dict())
    assert fresh.genotype == built.genotype


def test_genotype_names_the_active_options_row_by_row():
    active = [-1] * 28
    active[0], active[4], active[27] = 3, 0, 7
    genotype = genotype_of(DARTS, Gates(torch.zeros(28, 8), tuple(active)))
    assert genotype.cell_edges("normal") == ((0, "skip_connect", 0), (1, "none", 2))
    assert genotype.cell_edges("reduce") == ((3, "dil_conv_5x5", 4),)
    assert genotype.nodes("normal") == (1, 1, 0, 0)


def test_two_edges_per_node_give_the_form_without_counts():
    genotype = genotype_of(DARTS, random_gates(DARTS, torch.Generator().manual_seed(3)))
    assert genotype.normal_nodes is None
    assert len(genotype.normal) == 8


def test_a_strategy_is_asked_for_its_best():
    gates = random_gates(DARTS, torch.Generator().manual_seed(4), dtype=torch.float32)

    class Fixed:
        def best(self):
            return gates

    assert derive(supernet(DARTS, 2, 3), Fixed()).genotype == genotype_of(DARTS, gates)


@pytest.mark.parametrize(
    "gates, message",
    [
        (Gates(torch.zeros(28, 8)), "discrete gates"),
        (Gates(torch.zeros(28, 8), (0,) * 27 + (MIXED,)), "discrete gates, got dense rows"),
        (Gates(torch.zeros(14, 8), (0,) * 14), r"\(28, 8\), got \(14, 8\)"),
        (Gates(torch.zeros(28, 8), (5,) * 28), "row 14, got number 5"),
    ],
)
def test_gates_that_give_no_genotype_are_refused(gates, message):
    with pytest.raises(ValueError, match=message):
        genotype_of(space("nasp"), gates)


def test_deriving_from_a_derived_network_is_refused():
    gates = random_gates(DARTS, torch.Generator().manual_seed(4), dtype=torch.float32)
    with pytest.raises(ValueError, match="expected a supernet"):
        derive(derive(supernet(DARTS, 2, 3), gates), gates)


@pytest.mark.parametrize("name", ["nasp", "pa-lazy"])
def test_a_row_without_a_positive_entry_is_searched_as_zero_and_derived_as_no_edge(name):
    search = strategy(name, DARTS, preset="paper", **({"init": 0.5} if name == "pa-lazy" else {}))
    rows = torch.arange(28)
    start = torch.zeros(28, 8)
    start[:, 4] = 0.5
    start[::3] = 0.0 if name == "nasp" else -0.25
    with torch.no_grad():
        search._a.copy_(start)
    search._gates = None
    gates = search.best()
    assert gates.weight[::3].eq(0).all()
    assert [row for row in rows.tolist() if gates.active[row] == PRUNED] == rows[::3].tolist()
    genotype = genotype_of(DARTS, gates)
    assert len(genotype.normal) + len(genotype.reduce) == 28 - len(rows[::3])
    net, x = supernet(DARTS, 2, 3).double(), torch.randn(4, 3, 8, 8).double()
    derived = derive(net, Gates(gates.weight.double(), gates.active), inherit_weights=True)
    torch.testing.assert_close(derived(x), net(x, Gates(gates.weight.double(), gates.active)))


def test_a_row_of_value_zero_has_an_exact_gradient_for_every_option():
    torch.manual_seed(3)
    net, x = supernet(DARTS, 2, 3).double(), torch.randn(4, 3, 8, 8).double()
    weight = torch.zeros(28, 8, dtype=torch.float64)
    weight[:, 4] = 0.5
    weight[3] = 0.0
    active = tuple(PRUNED if row == 3 else 4 for row in range(28))
    found = []
    for gates in (Gates(weight.clone().requires_grad_(), active), Gates(weight.clone().requires_grad_())):
        (gradient,) = torch.autograd.grad(net(x, gates).square().sum(), gates.weight)
        found.append(gradient[3])
    torch.testing.assert_close(*found)
