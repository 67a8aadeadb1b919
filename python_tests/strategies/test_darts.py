# SPDX-License-Identifier: MIT
"""DARTS: the gradient of the mixture, the authors' Adam and genotype; the second order asks for its own."""

import pytest
import torch
from strategy_cases import SMALL, Unrolled, optimizer_gradient, set_matrix
from torch import nn

from nasp_ext.arch.gates import PRUNED
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.networks import supernet
from nasp_ext.strategies import strategy

FLOAT64 = {"rtol": 1e-12, "atol": 1e-12}


def softmax(a, found):
    return torch.where(found.mask(), a, -torch.inf).softmax(1)


def test_first_order_is_the_gradient_of_the_softmax_mixture():
    net = supernet(SMALL, 2, 3, 4).double()
    x, y = torch.randn(5, 3, 6, 6, dtype=torch.float64), torch.randint(4, (5,))
    search = strategy("darts", SMALL, dtype=torch.float64, seed=2)
    a = torch.randn(4, 4, dtype=torch.float64).masked_fill(~SMALL.mask(), 0.0)
    set_matrix(search, a)
    found = optimizer_gradient(search, lambda gates: nn.functional.cross_entropy(net(x, gates), y))

    # The same network written out: every option of every edge, weighted by the softmax.
    a = a.clone().requires_grad_()
    weights, running = softmax(a, SMALL), net.stem(x)
    states = [running, running]
    for cell in net.cell_list():
        inputs = [cell.preprocess0(states[0]), cell.preprocess1(states[1])]
        node = sum(
            sum(w * op(inputs[source]) for w, op in zip(weights[row], mixed._ops, strict=False))
            for source, (row, mixed) in enumerate(cell.mixed_edges())
        )
        states = [states[1], node]
    logits = net.classifier(states[1].mean((2, 3)))
    (expected,) = torch.autograd.grad(nn.functional.cross_entropy(logits, y), a)
    torch.testing.assert_close(found, expected, **FLOAT64)
    assert expected[:2].abs().min() > 0  # also of `none`, through the softmax
    assert not expected[2:, 2:].any()


def test_the_matrix_moves_as_the_authors_adam_moves_it():
    gain = torch.randn(28, 8, dtype=torch.float64)
    search = strategy("darts", space("darts"), seed=4, dtype=torch.float64)
    start = 1e-3 * torch.randn(28, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert torch.equal(search.state_dict()["a"], start)
    a = start.clone().requires_grad_()
    adam = torch.optim.Adam([a], lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    for _ in range(3):
        search.step(lambda gates: (gates.weight * gain).sum())
        a.grad = None
        (softmax(a, space("darts")) * gain).sum().backward()
        adam.step()
    torch.testing.assert_close(search.state_dict()["a"], a.detach(), **FLOAT64)


def test_none_takes_part_in_the_softmax_that_ranks_edges_but_is_no_choice():
    found = CellSpace("rank", ("none", "skip_connect", "conv_1x1"), ("skip_connect",), nodes=2)
    search = strategy("darts", found, dtype=torch.float64)
    a = torch.zeros(10, 3, dtype=torch.float64)
    a[2] = torch.tensor([5.0, 1.0, 3.0])  # node 1: the largest entry, but `none` takes its probability
    a[3] = torch.tensor([0.0, 1.0, 0.0])
    a[4] = torch.tensor([0.0, 0.0, 0.5])
    set_matrix(search, a)
    assert search.best().active[:5] == (1, 1, PRUNED, 1, 2)
    probability = torch.tensor([5.0, 1.0, 3.0]).double().softmax(0)
    torch.testing.assert_close(search.scores()[2], probability, **FLOAT64)
    assert search.scores()[7].tolist() == [1.0, 0.0, 0.0]


def test_best_can_keep_every_edge():
    assert PRUNED not in strategy("darts", space("darts"), edges_per_node=None).best().active
    with pytest.raises(ValueError, match="expected edges_per_node"):
        strategy("darts", space("darts"), edges_per_node="all")


def test_second_order_is_the_unrolled_gradient_behind_the_softmax():
    given, asked = torch.randn(4, 4, dtype=torch.float64), []

    class Loss(Unrolled):
        def unrolled_gradient(self, gates):
            asked.append(gates)
            return torch.tensor(0.7), given

    search = strategy("darts-2nd", SMALL, dtype=torch.float64)
    a = torch.randn(4, 4, dtype=torch.float64).masked_fill(~SMALL.mask(), 0.0)
    set_matrix(search, a)
    w = softmax(a, SMALL)
    expected = w * (given - (w * given).sum(1, keepdim=True))  # the Jacobian of the softmax, by hand
    torch.testing.assert_close(optimizer_gradient(search, Loss(None)), expected, **FLOAT64)
    assert torch.equal(asked[0].weight, w)
    assert search.step(Loss(None)) == torch.tensor(0.7)


def test_second_order_without_unrolled_gradient_is_a_clear_error():
    with pytest.raises(TypeError, match=r"expected .* unrolled_gradient.*'darts' needs none"):
        strategy("darts-2nd", SMALL).step(lambda gates: gates.weight.sum())
