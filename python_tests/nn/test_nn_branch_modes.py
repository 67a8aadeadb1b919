# SPDX-License-Identifier: MIT
"""Branches that run in backward are in the modes of the forward, part by part, and move what may move."""

import copy

import pytest
import torch
from nn_fused import assert_same, images, shuffled
from torch import nn

from nasp_ext.nn import MixedOp, plain_modules

WIDE = torch.float64
MANY_OPTIONS = 8


def option_at_rest(option):
    option.eval()


def norms_at_rest(option):
    for part in option.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()


def frame_at_rest(option):
    option.training = False  # its layers train


def mixture(op, x, row):
    return sum(weight * branch(x) for weight, branch in zip(row.unbind(), op._ops, strict=True))


def seen(call, op, active, twice):
    """Output, gradients, second derivatives if asked for, and the state after all."""
    op, x = copy.deepcopy(op), images(3, 4, 6, 6).requires_grad_()
    row = torch.eye(MANY_OPTIONS, dtype=WIDE)[active].requires_grad_()
    out = call(op, x, row)
    first = torch.autograd.grad(out.sin().sum(), [row, x], create_graph=twice)
    found = {"out": out.detach(), "row": first[0], "x": first[1]}
    if twice:
        wanted = [row, x, *op.parameters()]
        second = torch.autograd.grad(
            first[0].square().sum() + first[1].square().sum(), wanted, materialize_grads=True
        )
        found["second"] = torch.cat([grad.flatten() for grad in second])
    return {name: t.detach() for name, t in found.items()} | op.state_dict()


@pytest.mark.parametrize("change", [option_at_rest, norms_at_rest, frame_at_rest])
@pytest.mark.parametrize("training", [True, False], ids=["the edge trains", "the edge is at rest"])
@pytest.mark.parametrize("twice", [False, True], ids=["first derivatives", "second derivatives"])
@pytest.mark.parametrize("plain", [False, True])
def test_unselected_option_in_a_mode_of_its_own_is_as_in_the_mixture(change, training, twice, plain):
    op = shuffled(MixedOp(4, 1, affine=True)).train(training)
    for number in (1, 4, 6):
        if not training:
            op._ops[number].train()
        change(op._ops[number])
    for active in (0, 5):
        with plain_modules(plain):
            found = seen(MixedOp.__call__, op, active, twice)
        assert_same(found, seen(mixture, op, active, twice))


@pytest.mark.parametrize("plain", [False, True])
def test_modes_changed_before_backward_are_neither_used_nor_lost(plain):
    op = shuffled(MixedOp(4, 1))
    norms_at_rest(op._ops[4])
    expected, x = copy.deepcopy(op), images(3, 4, 6, 6)
    rows = [torch.eye(MANY_OPTIONS, dtype=WIDE)[5].requires_grad_() for _ in range(2)]
    mixture(expected, x, rows[0]).sin().sum().backward()
    with plain_modules(plain):
        out = op(x, rows[1])
        op._ops[4].train()
        op._ops[6].eval()
        flags = [part.training for part in op.modules()]
        out.sin().sum().backward()
    assert flags == [part.training for part in op.modules()]
    assert_same({"row": rows[1].grad} | op.state_dict(), {"row": rows[0].grad} | expected.state_dict())


class Counted(nn.Module):
    """A norm of one's own: divides by the running size of what came by."""

    def __init__(self):
        super().__init__()
        self.register_buffer("size", torch.ones(()))

    def forward(self, x):
        if self.training:
            self.size.mul_(0.5).add_(0.5 * x.detach().abs().mean())
        return x / (self.size.clone() if not self.training else x.abs().mean())


def instance_norm():
    return nn.InstanceNorm2d(4, affine=True, track_running_stats=True)


@pytest.mark.parametrize("norm", [instance_norm, lambda: nn.BatchNorm2d(4), Counted])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize("create_graph", [True, False])
def test_statistics_of_any_norm_move_once_or_not_at_all(norm, training, update, create_graph):
    def branch():
        return nn.Sequential(nn.Conv2d(4, 4, 1), norm())

    torch.manual_seed(0)
    modules = [nn.Conv2d(4, 4, 1), branch(), branch()]
    op = MixedOp.from_modules(modules, update_unselected_stats=update)
    op = shuffled(op).train(training)
    expected, before, x = copy.deepcopy(op), copy.deepcopy(op.state_dict()), images(3, 4, 5, 5)
    rows = [torch.tensor([1.0, 0, 0], dtype=WIDE, requires_grad=True) for _ in range(2)]
    (wanted,) = torch.autograd.grad(mixture(expected, x, rows[0]).sin().sum(), rows[0])
    loss = op(x, rows[1]).sin().sum()
    for _ in range(2):
        (found,) = torch.autograd.grad(loss, rows[1], retain_graph=True, create_graph=create_graph)
        state = expected.state_dict() if update else before
        assert_same({"row": found.detach()} | op.state_dict(), {"row": wanted} | state)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("training", [True, False])
def test_statistics_of_scripted_branches_can_be_left_alone(training):
    """torch.jit.script gives modules that take no tensors in the place of their own."""
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
    op = MixedOp.from_modules([nn.Conv2d(4, 4, 1), scripted], update_unselected_stats=False)
    op = shuffled(op).train(training)
    before, x = copy.deepcopy(op.state_dict()), images(3, 4, 5, 5)
    rows = [torch.tensor([1.0, 0], dtype=WIDE, requires_grad=True) for _ in range(2)]
    loss = op(x, rows[1]).sin().sum()
    op.train(not training)
    found = [torch.autograd.grad(loss, rows[1], retain_graph=True)[0] for _ in range(2)]
    assert_same(op.state_dict(), before)
    op.train(training)
    mixture(op, x, rows[0]).sin().sum().backward()
    for grad in found:
        assert_same({"row": grad}, {"row": rows[0].grad})


class InPlace(nn.Module):
    """Changes its input, and no flag says so."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("unused", torch.zeros(()))

    def forward(self, x):
        return x.mul_(self.factor)


@pytest.mark.parametrize("update, create_graph", [(False, False), (True, True)])
def test_change_of_the_input_is_refused_where_other_tensors_are_in_the_branch(update, create_graph):
    """So it is where the statistics are kept, and in second derivatives."""
    op = MixedOp.from_modules([nn.Conv2d(4, 4, 1), InPlace()], update_unselected_stats=update).double()
    row = torch.tensor([1.0, 0.0], dtype=WIDE, requires_grad=True)
    loss = op(images(2, 4, 5, 5), row).sin().sum()
    with pytest.raises(RuntimeError, match=r"branch 1.*\(InPlace\) to leave its input as it is"):
        torch.autograd.grad(loss, row, create_graph=create_graph)
