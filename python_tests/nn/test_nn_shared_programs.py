# SPDX-License-Identifier: MIT
"""Equal cells share what their native calls read, and each is still its own."""

import gc

import pytest
import torch
from nn_drawn import random_gates
from nn_fused import compared, images, shuffled

from nasp_ext.arch.gates import MIXED, Gates
from nasp_ext.arch.registry import space
from nasp_ext.families.networks import supernet
from nasp_ext.nn.fused import forms, plan

DARTS = space("darts")
KINDS = 3  # of 8 cells: 0, 1, 4 and 7 are equal, 3 and 6 behind a reduction, 2 and 5 reductions


@pytest.fixture
def net():
    return shuffled(supernet(DARTS, 2, 8, 4))


def gates(seed):
    return random_gates(DARTS, torch.Generator().manual_seed(seed))


def call(net, x, weight):
    return net(x, Gates(weight, gates(1).active, True))


def plan_of(cell):
    return cell._fusion.plan(cell, cell._plan)


@pytest.fixture
def written(monkeypatch) -> dict[str, int]:
    """How often lists of cells and of sources were put together."""
    counts = {"join_cell": 0, "join_sources": 0}
    for name, join in (("join_cell", forms.join_cell), ("join_sources", forms.join_sources)):

        def counted(*arguments, name=name, join=join):
            counts[name] += 1
            return join(*arguments)

        monkeypatch.setattr(forms, name, counted)
    return counts


def test_equal_cells_read_one_program(net):
    net(images(1, 3, 8, 8), gates(1))
    selected = [plan_of(cell).active(cell._active(gates(1).choices())) for cell in net.cells]
    groups = [{id(selected[i].form.lists.program) for i in equal} for equal in ((0, 1, 4, 7), (3, 6), (2, 5))]
    assert [len(group) for group in groups] == [1, 1, 1]
    assert len(set.union(*groups)) == KINDS
    weights = [one.lists().weights for one in selected]
    assert all(a is not b for a, b in zip(weights[0], weights[1], strict=True))


def test_new_selection_is_written_once_for_equal_cells(net, written):
    x, first, second = images(1, 3, 8, 8), gates(1), gates(2)
    net(x, first)
    written["join_cell"] = 0
    net(x, second)
    assert written == {"join_cell": KINDS, "join_sources": 0}
    for known in (first, second):
        net(x, known)
    assert written == {"join_cell": KINDS, "join_sources": 0}
    net(x, Gates(second.weight.clone().requires_grad_(), second.active, True)).sum().backward()
    assert written == {"join_cell": KINDS, "join_sources": KINDS}


def one_cell_at_rest(net):
    net.cells[2].eval()


def one_option_at_rest(net):
    net.cells[2]._ops[0]._ops[4].eval()  # it runs


def another_momentum(net):
    for norm in (m for m in net.cells[4].modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.momentum = 0.5


def another_epsilon(net):
    for norm in (m for m in net.cells[3].modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.eps = 0.3


def statistics_left_alone(net):
    for norm in (m for m in net.cells[4].modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.track_running_stats = False


def without_statistics(net):
    for norm in (m for m in net.cells[2].modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None


def at_rest_without_statistics(net):
    without_statistics(net.eval())


CHANGES = [
    *(one_cell_at_rest, one_option_at_rest, another_momentum, another_epsilon),
    *(statistics_left_alone, without_statistics, at_rest_without_statistics),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("learn", [True, False], ids=["gates learn", "gates are fixed"])
def test_cell_that_differs_runs_as_its_plain_modules(change, learn, fused_runs):
    def changed(net, x, weight):
        with torch.no_grad():
            call(net, x, weight)
        change(net)
        return call(net, x, weight)

    net = shuffled(supernet(DARTS, 2, 5, 4))  # cells 1 and 3, 2 and 4 are equal
    compared(net, changed, [images(2, 3, 8, 8), gates(1).weight.requires_grad_(learn)])
    assert fused_runs.count("cell") == 2 * len(net.cells)


def test_edge_in_front_of_a_mixed_one_or_a_selected_one_has_its_own_gradient():
    """Among the edges out of a state, a mixed one is not counted."""
    net = shuffled(supernet(DARTS, 2, 3, 4))
    one = random_gates(DARTS, torch.Generator().manual_seed(3), edges=None)
    mixed = (MIXED, *one.active[1:])

    def both(net, x, weight, dense):
        return net(x, Gates(weight, one.active, True)) + net(x, Gates(dense, mixed))

    dense = one.weight.clone()
    dense[0] = torch.rand(8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inputs = [images(2, 3, 8, 8), one.weight.requires_grad_(), dense.requires_grad_()]
    compared(net, both, inputs)


def test_more_selections_than_are_remembered_run_as_plain_modules(monkeypatch):
    for module in (forms, plan):
        monkeypatch.setattr(module, "SELECTIONS_KEPT", 2)
    net = shuffled(supernet(DARTS, 2, 3, 4))

    def all_of_them(net, x):
        return torch.stack([net(x, gates(seed)) for seed in (1, 2, 3, 4, 1)])

    compared(net, all_of_them, [images(1, 3, 8, 8)])


def test_what_cells_share_goes_with_the_last_of_them():
    gc.collect()
    before, bench = len(forms._SHARED), space("nas-bench-201")
    net = shuffled(supernet(bench, 3, 3, 4))
    net(images(2, 3, 8, 8), random_gates(bench, torch.Generator().manual_seed(0)))
    assert len(forms._SHARED) > before
    del net
    gc.collect()
    assert len(forms._SHARED) == before
