# SPDX-License-Identifier: MIT
"""PC-DARTS: shares of the edges beside those of the options, the authors' Adam and genotype."""

from itertools import pairwise

import pytest
import torch
from strategy_cases import SMALL
from torch import nn

from nasp_ext.arch.gates import PRUNED
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.networks import supernet
from nasp_ext.strategies import strategy

FLOAT64 = {"rtol": 1e-12, "atol": 1e-12}
RANK = CellSpace("rank", ("none", "skip_connect", "conv_1x1"), ("skip_connect",), nodes=2)
NODES = [range(0, 2), range(2, 5), range(5, 7), range(7, 10)]  # rows of RANK


def build(found=RANK, **options):
    return strategy("pc-darts", found, dtype=torch.float64, **options)


def set_state(search, a, beta) -> None:
    search.load_state_dict({**search.state_dict(), "a": a, "beta": beta})


def weights(a, beta, found, nodes):
    """softmax(β) over the edges of a node times softmax(α) over the options of the edge."""
    options = torch.where(found.mask(), a.exp(), 0.0)
    options = options / options.sum(1, keepdim=True)
    share = torch.cat([beta[list(node)].exp() / beta[list(node)].exp().sum() for node in nodes])
    return share[:, None] * options


def drawn(found=RANK):
    a = torch.randn(found.rows, found.options, dtype=torch.float64).masked_fill(~found.mask(), 0.0)
    return a, torch.randn(found.rows, dtype=torch.float64)


def test_gates_are_the_shares_of_edges_times_those_of_options():
    search, (a, beta) = build(), drawn()
    set_state(search, a, beta)
    expected = weights(a, beta, RANK, NODES)
    torch.testing.assert_close(search.propose().weight, expected, **FLOAT64)
    torch.testing.assert_close(search.scores(), expected, **FLOAT64)
    assert search.propose().active is None
    sums = [search.propose().weight[list(node)].sum().item() for node in NODES]
    assert sums == pytest.approx([1.0] * 4)
    assert not search.propose().weight[5:, 1:].any()


def test_both_gradients_are_those_of_the_network_written_out():
    found = SMALL.with_partial_channels(2)
    net = supernet(found, 4, 3, 4).double()
    x, y = torch.randn(5, 3, 6, 6, dtype=torch.float64), torch.randint(4, (5,))
    search, (a, beta) = build(found), drawn(found)
    set_state(search, a, beta)
    adam, seen = search._optimizer, []
    hook = adam.register_step_pre_hook(
        lambda *_: seen.extend(p.grad for group in adam.param_groups for p in group["params"])
    )
    search.step(lambda gates: nn.functional.cross_entropy(net(x, gates), y))
    hook.remove()

    a, beta = a.requires_grad_(), beta.requires_grad_()
    w, running = weights(a, beta, found, [range(2), range(2, 4)]), net.stem(x)
    states = [running, running]
    for cell in net.cell_list():
        inputs = [cell.preprocess0(states[0]), cell.preprocess1(states[1])]
        node = 0
        for source, (row, op) in enumerate(cell.mixed_edges()):
            part, past = inputs[source].chunk(2, 1)
            mixed = sum(share * option(part) for share, option in zip(w[row], op._ops, strict=False))
            if op.stride == 2:
                past = nn.functional.max_pool2d(past, 2, ceil_mode=True)
            node = node + torch.stack([mixed, w[row].sum() * past], 2).flatten(1, 2)
        states = [states[1], node]
    loss = nn.functional.cross_entropy(net.classifier(states[1].mean((2, 3))), y)
    expected = torch.autograd.grad(loss, (a, beta))
    torch.testing.assert_close(seen, list(expected), rtol=1e-10, atol=1e-12)
    assert expected[0][:2].abs().min() > 0
    assert expected[1].abs().min() > 0


def test_adam_moves_both_with_the_settings_of_the_authors():
    found, gain = space("darts"), torch.randn(28, 8, dtype=torch.float64)
    search = build(found, seed=4)
    generator = torch.Generator().manual_seed(4)
    a = 1e-3 * torch.randn(28, 8, generator=generator, dtype=torch.float64)
    beta = 1e-3 * torch.randn(28, generator=generator, dtype=torch.float64)
    assert torch.equal(search.state_dict()["a"], a)
    assert torch.equal(search.state_dict()["beta"], beta)
    a, beta = a.requires_grad_(), beta.requires_grad_()
    adam = torch.optim.Adam([a, beta], lr=6e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    nodes = [range(*bounds) for bounds in pairwise(found.node_offsets)]
    for _ in range(3):
        search.step(lambda gates: (gates.weight * gain).sum())
        adam.zero_grad()
        (weights(a, beta, found, nodes) * gain).sum().backward()
        adam.step()
    torch.testing.assert_close(search.state_dict()["a"], a.detach(), **FLOAT64)
    torch.testing.assert_close(search.state_dict()["beta"], beta.detach(), **FLOAT64)


def test_edges_are_ranked_by_their_share_times_their_best_option():
    search, (a, beta) = build(), (torch.zeros(10, 3).double(), torch.zeros(10).double())
    a[2:5] = torch.tensor([[9.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 2.0]])  # `none` takes most of row 2
    set_state(search, a, beta)
    assert search.best().active[2:5] == (PRUNED, 1, 2)
    beta[2:5] = torch.tensor([9.0, 0.0, 1.0])  # its share makes up for it
    set_state(search, a, beta)
    assert search.best().active[2:5] == (1, PRUNED, 2)
    assert search.best().unit
    every = build(edges_per_node=None)
    set_state(every, a, beta)
    assert every.best().active == (1, 1, 1, 1, 2, 0, 0, 0, 0, 0)


def test_exact_ties_go_to_the_lowest_option_and_edge():
    search = build()
    set_state(search, torch.zeros(10, 3).double(), torch.zeros(10).double())
    assert search.best().active == (1, 1, 1, 1, PRUNED, 0, 0, 0, 0, PRUNED)


def test_the_report_is_the_mean_largest_share():
    search, (a, _) = build(), drawn()
    beta = torch.zeros(10, dtype=torch.float64)
    beta[0] = torch.log(torch.tensor(3.0))  # shares 3/4 and 1/4; elsewhere 1/3, 1/2, 1/3
    set_state(search, a, beta)
    assert search.report() == {"largest_beta": pytest.approx((3 / 4 + 1 / 3 + 1 / 2 + 1 / 3) / 4)}


def test_the_choices_are_the_same_with_and_without_partial_channels():
    one, other = build(RANK), build(RANK.with_partial_channels(4))
    assert torch.equal(one.propose().weight, other.propose().weight)
