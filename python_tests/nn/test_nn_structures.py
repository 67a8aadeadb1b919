# SPDX-License-Identifier: MIT
"""Outputs of tuples, dicts and classes, and further arguments: the mixture, leaf by leaf."""

from dataclasses import dataclass

import pytest
import torch
from nn_fused import images
from torch import nn
from torch.func import jvp, vmap
from torch.utils._pytree import register_dataclass, tree_flatten, tree_map

from nasp_ext.nn import MixedOp
from nasp_ext.nn.primitives import Zero

EXACT = {"rtol": 1e-9, "atol": 1e-11}
ROWS = {"first": [1.0, 0.0], "last": [0.0, 0.7], "zero": [0.0, 0.0], "dense": [0.4, 0.3]}


class Headed(nn.Module):
    """A tensor, and in a dict its mean, nothing, and a number."""

    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(8, 8), function

    def forward(self, x, scale=None, *, bias=None):
        y = self.function(self.linear(x))
        y = y if scale is None else scale * y
        y = y if bias is None else y + bias
        return y, {"mean": y.mean(1), "cache": None, "length": 5}


@dataclass
class Output:
    hidden: torch.Tensor
    attention: torch.Tensor | None = None


register_dataclass(Output)


class Classy(Headed):
    def forward(self, x):
        return Output(super().forward(x)[0])


def recurrent(**options):
    return nn.LSTM(8, 4, batch_first=True, **options)


def attending(heads):
    return nn.MultiheadAttention(8, heads, batch_first=True)


X = images(2, 5, 8).requires_grad_()
SCALE, BIAS = images(2, 5, 1, seed=1).requires_grad_(), images(8, seed=2).requires_grad_()
CASES = {
    "tuple of a dict": (lambda: [Headed(torch.tanh), Headed(torch.sigmoid)], (X,), {}),
    "arguments": (lambda: [Headed(torch.tanh), Headed(torch.sin)], (X, SCALE), {"bias": BIAS}),
    "dataclass": (lambda: [Classy(torch.tanh), Classy(torch.sin)], (X,), {}),
    "LSTM": (lambda: [recurrent(), recurrent(bias=False)], (X,), {}),
    "attention": (lambda: [attending(2), attending(4)], (X, X, SCALE + X), {}),
    "x None": (lambda: [Keyed(), Keyed()], (None,), {"hidden": X}),
    "conv1d": (lambda: [nn.Conv1d(5, 3, 1), nn.Conv1d(5, 3, 3, padding=1)], (X,), {}),
}


class Keyed(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 2)

    def forward(self, nothing, hidden):
        assert nothing is None
        return [self.linear(hidden)]


def mixture(op, weights, x, *args, **kwargs):
    """The specification: every branch runs, leaf by leaf."""
    outputs = [branch(x, *args, **kwargs) for branch in op._ops]
    return summed(weights, outputs)


def summed(weights, outputs):
    def leaf(*leaves):
        first = leaves[0]
        return sum(w * y for w, y in zip(weights, leaves, strict=True)) if torch.is_tensor(first) else first

    return tree_map(leaf, *outputs)


def loss(output):
    leaves = [leaf for leaf in tree_flatten(output)[0] if torch.is_tensor(leaf)]
    return sum((images(*y.shape, seed=i) * y.sin()).sum() for i, y in enumerate(leaves))


def derivatives(total, tensors, twice):
    found = torch.autograd.grad(total, tensors, create_graph=twice, allow_unused=True)
    found = [torch.zeros_like(t) if g is None else g for g, t in zip(found, tensors, strict=True)]
    if not twice:
        return found
    combined = sum((images(*g.shape, seed=i) * g).sum() for i, g in enumerate(found))
    return found + derivatives(combined, tensors, False)


def tensors_in(*arguments):
    return [t for t in tree_flatten(arguments)[0] if torch.is_tensor(t) and t.requires_grad]


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("row", list(ROWS))
@pytest.mark.parametrize("name", list(CASES))
def test_outputs_and_derivatives_are_those_of_the_mixture(name, row, twice):
    build, args, kwargs = CASES[name]
    op = MixedOp.from_modules(build()).double()
    weights = torch.tensor(ROWS[row]).double().requires_grad_()
    tensors = list({id(t): t for t in [weights, *tensors_in(args, kwargs), *op.parameters()]}.values())
    found, expected = op(args[0], weights, *args[1:], **kwargs), mixture(op, weights, *args, **kwargs)
    assert tree_flatten(found)[1] == tree_flatten(expected)[1]
    torch.testing.assert_close(loss(found), loss(expected), **EXACT)
    torch.testing.assert_close(
        derivatives(loss(found), tensors, twice), derivatives(loss(expected), tensors, twice), **EXACT
    )


@pytest.mark.parametrize("wanted", [False, True])
def test_only_the_active_branch_runs_until_the_weights_ask_for_a_gradient(wanted):
    op, ran = MixedOp.from_modules([recurrent(), recurrent()]).double(), []
    for k, branch in enumerate(op._ops):
        branch.register_forward_hook(lambda _, __, out, k=k: ran.append((k, out[0].requires_grad)))
    weights = torch.tensor([0.0, 1.0]).double().requires_grad_(wanted)
    out, (hidden, _) = op(X, weights)
    assert ran == [(1, True)]
    (out.sum() + hidden.sum()).backward()
    assert ran == [(1, True), *([(0, False)] if wanted else [])]
    assert all(p.grad is None for p in op._ops[0].parameters())


def test_a_loss_of_one_leaf_alone_has_its_gradient():
    op = MixedOp.from_modules([recurrent(), recurrent()]).double()
    weights = torch.tensor([1.0, 0.0]).double().requires_grad_()
    (found,) = torch.autograd.grad(op(X, weights)[1][1].square().sum(), weights)
    cells = [branch(X)[1][1].detach() for branch in op._ops]
    torch.testing.assert_close(found, torch.stack([2 * (cells[0] * cell).sum() for cell in cells]), **EXACT)


def test_leaves_that_are_no_floating_point_tensors_come_from_the_active_branch():
    op = counted([7, 8])
    assert op(X, torch.tensor([0.0, 1.0]).double())[1].equal(torch.tensor([8]))
    assert op(X, torch.tensor([0.0, 1.0]).double().requires_grad_())[1].equal(torch.tensor([8]))
    assert op(X, torch.zeros(2).double())[1].equal(torch.tensor([0]))
    with pytest.raises(ValueError, match=r"agree in what is not mixed.*branch 1 of Counted.*int64 \(1,\)"):
        op(X, torch.ones(2).double())
    assert counted([7, 7])(X, torch.ones(2).double())[1].equal(torch.tensor([7]))


class Counted(nn.Module):
    def __init__(self, number):
        super().__init__()
        self.linear, self.number = nn.Linear(8, 8), number

    def forward(self, x):
        return self.linear(x), torch.tensor([self.number])


def counted(numbers):
    return MixedOp.from_modules([Counted(number) for number in numbers]).double()


class Dicts(nn.Module):
    def __init__(self, keys):
        super().__init__()
        self.linear, self.keys = nn.Linear(8, 8), keys

    def forward(self, x):
        return {key: self.linear(x)[..., "ab".index(key)] for key in self.keys}


def test_dicts_are_mixed_by_their_keys():
    op = MixedOp.from_modules([Dicts("ab"), Dicts("ba")]).double()
    first, second = (branch(X) for branch in op._ops)
    for row in ([0.4, 0.3], [1.0, 0.0]):
        weights = torch.tensor(row).double().requires_grad_()
        out = op(X, weights)
        expected = weights[0] * first["a"] + weights[1] * second["a"]
        torch.testing.assert_close(out["a"], expected, **EXACT)
        (found,) = torch.autograd.grad(out["a"].sum(), weights)
        torch.testing.assert_close(found, torch.stack([first["a"].sum(), second["a"].sum()]).detach())


@pytest.mark.parametrize("row", list(ROWS))
@pytest.mark.parametrize("form", [list, tuple, lambda xs: {"deep": xs[1], "wide": xs[0]}])
def test_each_branch_has_an_input_of_its_own(form, row):
    op = MixedOp.from_modules({"wide": nn.Linear(8, 3), "deep": nn.Linear(4, 3)}, inputs="each").double()
    inputs = [images(2, 8).requires_grad_(), images(2, 4).requires_grad_()]
    weights = torch.tensor(ROWS[row]).double().requires_grad_()
    expected = sum(w * branch(x) for w, branch, x in zip(weights, op._ops, inputs, strict=True))
    found = op(form(inputs), weights)
    torch.testing.assert_close(found, expected, **EXACT)
    tensors = [weights, *inputs, *op.parameters()]
    torch.testing.assert_close(
        derivatives(found.sin().sum(), tensors, True),
        derivatives(expected.sin().sum(), tensors, True),
        **EXACT,
    )


@pytest.mark.parametrize("row", [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
@pytest.mark.parametrize("wanted", [False, True])
def test_none_takes_the_structure_of_the_other_branches(row, wanted):
    op = MixedOp.from_modules([Zero(1), recurrent()]).double()
    weights = torch.tensor(row).double().requires_grad_(wanted)
    out, (hidden, cell) = op(X, weights)
    expected, (last, _) = op._ops[1](X)
    torch.testing.assert_close(out, row[1] * expected, **EXACT)
    assert cell.shape == (1, 2, 4)
    if wanted:
        (found,) = torch.autograd.grad(out.sum() + hidden.sum(), weights)
        dots = torch.stack([torch.zeros(()).double(), (expected.sum() + last.sum()).detach()])
        torch.testing.assert_close(found, dots, **EXACT)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode_and_maps_go_through_every_leaf():
    op = MixedOp.from_modules([Headed(torch.tanh), Headed(torch.sin)]).double()
    weights, tangent = torch.tensor([1.0, 0.0]).double(), images(2, seed=4)
    outputs = [branch(X.detach()) for branch in op._ops]
    pick = lambda out: (out[0], out[1]["mean"])  # noqa: E731
    _, found = jvp(lambda w: pick(op(X.detach(), w)), (weights,), (tangent,))
    torch.testing.assert_close(found, pick(summed(tangent, outputs)), **EXACT)
    rows = torch.tensor(list(ROWS.values())).double()
    found = vmap(lambda w: pick(op(X.detach(), w)))(rows)
    expected = [pick(summed(row, outputs)) for row in rows]
    torch.testing.assert_close(found, tuple(map(torch.stack, zip(*expected, strict=True))), **EXACT)
