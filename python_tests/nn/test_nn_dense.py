# SPDX-License-Identifier: MIT
"""Mixtures of all options on the fused operators: what DARTS runs, in the memory of one option."""

import pytest
import torch
from nn_fused import compared, images, kept_bytes, shuffled

from nasp_ext.arch.gates import MIXED, Gates
from nasp_ext.arch.registry import space
from nasp_ext.families.networks import supernet
from nasp_ext.nn import MixedOp, plain_modules
from nasp_ext.nn.partial import PartialMixedOp

WEIGHTS = torch.tensor([0.5, -0.25, 0.0, 2.0, 0.125, 1.0, 0.75, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("wanted", [True, False])
def test_mixed_op_is_that_of_plain_modules(training, affine, stride, wanted, fused_runs):
    op = shuffled(MixedOp(4, stride, affine=affine)).train(training)
    x = images(3, 4, 7, 6).requires_grad_()
    compared(op, lambda op, x, w: op(x, w), [x, WEIGHTS.clone().requires_grad_(wanted)])
    assert fused_runs == ["mixed_op"]


def test_part_of_the_channels_runs_fused_as_well(fused_runs):
    op = shuffled(PartialMixedOp(8, 2))
    compared(op, lambda op, x, w: op(x, w), [images(2, 8, 6, 6), WEIGHTS.clone().requires_grad_()])
    assert fused_runs == ["mixed_op"]


@pytest.mark.parametrize("name", ["darts", "nasp", "nas-bench-201"])
def test_every_cell_of_a_mixture_runs_fused(name, fused_runs):
    cells = space(name)
    net = supernet(cells, 2, 3, 4)
    net(torch.randn(2, 3, 8, 8), Gates(torch.rand(cells.rows, cells.options)))
    reductions = 2 * ["cell" if cells.reduce else "chains"]
    assert fused_runs == ["network", "cell", *reductions]


def test_some_rows_may_be_mixed_and_others_pruned():
    cells = space("darts")
    net = shuffled(supernet(cells, 2, 3, 4))
    active = [(MIXED, -1, 3, 0)[row % 4] for row in range(cells.rows)]
    weight = torch.zeros(cells.rows, cells.options, dtype=torch.float64)
    for row, option in enumerate(active):
        if option == MIXED:
            weight[row] = torch.rand(cells.options, dtype=torch.float64)
        elif option >= 0:
            weight[row, option] = 1.0
    gates = Gates(weight, tuple(active), unit=True)
    compared(
        net,
        lambda net, x, w: net(x, Gates(w, gates.active, gates.unit)),
        [images(2, 3, 8, 8), weight.requires_grad_()],
    )


def test_mixture_keeps_less_than_one_branch_does():
    op, x = MixedOp(8, 1), torch.randn(4, 8, 16, 16, requires_grad=True)
    weights = torch.rand(8, requires_grad=True)
    mixture, _ = kept_bytes(lambda: op(x, weights))
    parameters = sum(p.numel() * 4 for p in op.parameters())
    assert mixture <= x.numel() * 4 + parameters + 8 * 2 * 5 * 8 * 4  # x, weights, (5, C) for each BatchNorm
    one, _ = kept_bytes(lambda: op._ops[4](x))
    assert mixture < one
    with plain_modules():
        every, _ = kept_bytes(lambda: op(x, weights))
    assert every > 10 * mixture


def test_hooks_of_options_are_called(fused_runs):
    op, calls = MixedOp(4, 1), []
    op._ops[4].register_forward_hook(lambda *_: calls.append(1))
    op(torch.randn(2, 4, 5, 5), torch.rand(8))
    assert (calls, fused_runs) == ([1], [])


def test_training_on_one_value_per_channel_is_refused_as_by_pytorch():
    op = MixedOp(4, 2)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        op(torch.randn(1, 4, 2, 2), torch.rand(8))
