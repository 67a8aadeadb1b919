# SPDX-License-Identifier: MIT
"""Arguments that every branch gets, what branches may do with them, and what is refused."""

import copy
from dataclasses import dataclass

import pytest
import torch
from nn_fused import images
from torch import nn
from torch.utils._pytree import tree_flatten

from nasp_ext.nn import AttentionOp, MixedOp, PartialMixedOp, fusion_reasons

EXACT = {"rtol": 1e-9, "atol": 1e-11}
ROWS = ([1.0, 0.0], [0.0, 0.7], [0.0, 0.0], [0.4, 0.3])
X, BIAS = images(2, 5, 8).requires_grad_(), images(8, seed=2)


def test_arguments_that_the_active_branch_does_not_read_have_a_gradient_of_zero():
    op, mask = MixedOp.from_modules([Silent(), Loud()]), images(8).requires_grad_()
    weights = torch.tensor([1.0, 0.0]).double().requires_grad_()
    found = torch.autograd.grad(op(X, weights, mask=mask).sum(), [mask, weights])
    assert found[0].count_nonzero() == 0
    torch.testing.assert_close(found[1], torch.stack([2 * X.sum(), (X * mask).sum()]).detach(), **EXACT)


class Silent(nn.Module):
    def forward(self, x, mask):
        return 2 * x


class Loud(nn.Module):
    def forward(self, x, mask):
        return x * mask


def test_statistics_of_branches_with_arguments_are_those_of_the_mixture():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(5)

        def forward(self, x, shift):
            return (self.norm(x + shift),)

    op = MixedOp.from_modules([Normed(), Normed()]).double()
    plain, weights = copy.deepcopy(op), torch.tensor([1.0, 0.0]).double().requires_grad_()
    op(X, weights, shift=BIAS)[0].sum().backward()
    for branch in plain._ops:
        branch(X, shift=BIAS)
    torch.testing.assert_close(op.state_dict(), plain.state_dict(), **EXACT)


def test_branch_that_begins_in_place_gets_copies_of_all_arguments():
    class Clipped(nn.Module):
        def __init__(self, inplace):
            super().__init__()
            self.relu = nn.ReLU(inplace)

        def forward(self, x, *, other):
            return self.relu(x) + self.relu(other), x

    other, weights = images(2, 5, 8, seed=3), torch.tensor([0.5, 0.5]).double()
    x, before = X.detach().clone(), other.clone()
    op = MixedOp.from_modules([Clipped(True), Clipped(True)])
    out, _ = op(x, weights, other=other)
    assert x.equal(X)
    assert other.equal(before)
    torch.testing.assert_close(out, X.relu() + other.relu(), **EXACT)


def test_argument_changed_in_place_is_refused():
    class Writing(nn.Module):
        def forward(self, x, cache):
            cache.add_(1)
            return (x,)

    op = MixedOp.from_modules([Writing(), Writing()])
    with pytest.raises(RuntimeError, match=r"branch 0 of Writing, Writing \(Writing\) to leave its input"):
        op(X, torch.tensor([1.0, 0.0]).double(), cache=torch.zeros(2))


def test_leaf_that_is_the_input_can_be_changed_in_place():
    class Passing(nn.Module):
        def forward(self, x):
            return x, x[:1]

    op, x = MixedOp.from_modules([Passing(), Passing()]), images(2, 3)
    whole, part = op(x, torch.tensor([1.0, 0.0]).double())
    whole += 1
    part += 1
    assert x.equal(images(2, 3))


def test_half_precision_leaves_beside_wide_ones_keep_their_dtype():
    class Autocast(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x):
            y = self.linear(x)
            return y, y.float().softmax(-1)

    op, x = MixedOp.from_modules([Autocast(), Autocast()]), X.detach().float()
    for row in ROWS:
        weights = torch.tensor(row, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = [branch(x) for branch in op._ops]
            y, shares = op(x, weights)
        assert (y.dtype, shares.dtype) == (torch.bfloat16, torch.float32)
        (found,) = torch.autograd.grad(y.float().sum() + shares.square().sum(), weights)
        upstream = 2 * sum(w * out[1] for w, out in zip(row, outputs, strict=True))
        expected = [out[0].float().sum() + (upstream * out[1]).sum() for out in outputs]
        torch.testing.assert_close(found, torch.stack(expected).detach(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("kind, x", [(AttentionOp, images(2, 8)), (PartialMixedOp, images(2, 32))])
def test_edges_of_other_kinds_refuse_outputs_of_many_tensors(kind, x):
    op = kind.from_modules([Pair(), Pair()]).double()
    with pytest.raises(TypeError, match=r"return one tensor.*\(float64 \(2, 8\), None\)"):
        op(x, torch.tensor([0.5, 0.5]).double())


class Pair(nn.Module):
    def forward(self, x):
        return x, None


@dataclass
class Unregistered:
    hidden: torch.Tensor


class Wrapped(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(x)


@pytest.mark.parametrize(
    "wrap, message",
    [
        (Unregistered, r"tuples, lists and dicts, got a Unregistered.*register_dataclass\(Unregistered\)"),
        (lambda x: (x, {x}), r"got a set.*register_pytree_node\(set"),
        (lambda x: (x, torch.distributions.Normal(x, 1)), "got a Normal, which torch cannot take apart"),
        (lambda x: (x, torch.complex(x, x)), r"real tensors, got torch.complex128.*view_as_real"),
        (lambda x: None, "at least one floating-point tensor, got None"),
        (lambda x: (x.long(), "text"), r"floating-point tensor, got \(int64 \(2, 5, 8\), 'text'\)"),
    ],
)
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("wanted", [False, True])
def test_outputs_that_cannot_be_mixed_are_refused_on_every_path(wrap, message, row, wanted):
    op = MixedOp.from_modules([Wrapped(wrap), Wrapped(wrap)])
    with pytest.raises(TypeError, match=r"expected branch \d of Wrapped, Wrapped to return .*" + message):
        op(X, torch.tensor(row).double().requires_grad_(wanted))


def test_branches_of_different_structures_are_told_with_both():
    op = MixedOp.from_modules({"lstm": nn.LSTM(8, 4), "gru": nn.GRU(8, 4)}).double()
    lstm = r"\(float64 \(2, 5, 4\), \(float64 \(1, 5, 4\), float64 \(1, 5, 4\)\)\)"
    gru = r"\(float64 \(2, 5, 4\), float64 \(1, 5, 4\)\)"
    with pytest.raises(ValueError, match=rf"branch 0 of lstm, gru: {lstm}; branch 1 of lstm, gru: {gru}"):
        op(X, torch.tensor([0.5, 0.5]).double())
    out, _ = op(X, torch.tensor([1.0, 0.0]).double().requires_grad_())
    with pytest.raises(ValueError, match=rf"branch 1 of lstm, gru to give {lstm} as others do, got {gru}"):
        out.sum().backward()


@pytest.mark.parametrize("second", [X.detach(), (X.detach(),), [None]])
def test_nothing_beside_something_is_no_common_structure(second):
    op = MixedOp.from_modules([Wrapped(lambda x: (x, None)), Wrapped(lambda x: (x, second))])
    with pytest.raises(
        ValueError, match=r"share one structure, got .*\(float64 \(2, 5, 8\), None\); branch 1"
    ):
        op(X, torch.ones(2).double())
    with pytest.raises(ValueError, match=r"branch 1 of .* to give \(float64 \(2, 5, 8\), None\)"):
        op(X, torch.tensor([1.0, 0.0]).double().requires_grad_())[0].sum().backward()


def test_iterator_is_no_argument_for_many_branches():
    op = MixedOp.from_modules([nn.Linear(8, 8), nn.Linear(8, 8)])
    for arguments in ({"mask": iter([1])}, {"masks": [(i for i in [1])]}):
        with pytest.raises(TypeError, match=r"every branch can read, got a (generator|list_iterator)"):
            op(X, torch.tensor([1.0, 0.0]).double(), **arguments)


@pytest.mark.parametrize(
    "x, error, message",
    [
        (X, TypeError, r"a list, a tuple or a dict with an input for each of \('a', 'b'\), got Tensor"),
        ([X], ValueError, r"expected 2 inputs, one for each of \('a', 'b'\), got 1"),
        ({"a": X, "c": X}, ValueError, r"an input for each of \('a', 'b'\), got inputs for \('a', 'c'\)"),
    ],
)
def test_inputs_that_are_not_one_for_each_branch_are_refused(x, error, message):
    op = MixedOp.from_modules({"a": nn.Tanh(), "b": nn.ReLU()}, inputs="each")
    with pytest.raises(error, match=message):
        op(x, torch.tensor([1.0, 0.0]).double())


@pytest.mark.parametrize("kind", [MixedOp, PartialMixedOp])
def test_unknown_kind_of_inputs_is_refused(kind):
    with pytest.raises(ValueError, match=r"expected inputs.*got 'own'"):
        kind.from_modules([nn.Tanh()], inputs="own")


def test_edge_whose_branches_have_inputs_of_their_own_is_not_fused():
    modules = [nn.Conv2d(2, 2, 1, bias=False), nn.Identity()]
    assert fusion_reasons(MixedOp.from_modules(modules)) == {}
    reasons = fusion_reasons(MixedOp.from_modules(modules, inputs="each"))
    assert reasons == {"": "its branches have inputs of their own"}


def test_further_arguments_reach_the_layers_that_would_be_fused():
    op, x = MixedOp(4, 1), images(1, 4, 5, 5).float()
    with pytest.raises(TypeError, match="unexpected keyword argument 'mask'"):
        op(x, torch.eye(8)[4], mask=x)


def test_call_without_any_tensor_runs_on_the_device_of_the_weights():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(images(9, 3))

        def forward(self, length, *, flags):
            return self.table[:length] if flags["plain"] else -self.table[:length]

    op, weights = MixedOp.from_modules([Table(), Table()]), torch.zeros(2).double().requires_grad_()
    for length in (4, 5):
        out = op(length, weights, flags={"plain": False})
        assert out.shape == (length, 3)
        (found,) = torch.autograd.grad(out.sum(), weights)
        torch.testing.assert_close(found, -images(9, 3)[:length].sum().expand(2), **EXACT)
    with pytest.raises(ValueError, match=r"outputs, torch.float64, got torch.float32: convert one"):
        op(4, weights.detach().float(), flags={"plain": True})


def test_copies_of_an_edge_with_structures_run():
    op = MixedOp.from_modules([nn.LSTM(8, 4), nn.LSTM(8, 4)]).double()
    nothing = torch.zeros(2).double()
    found = [tree_flatten(edge(X, nothing))[0] for edge in (op, copy.deepcopy(op))]
    assert [leaf.shape for leaf in found[0]] == [leaf.shape for leaf in found[1]]


def test_containers_among_the_arguments_are_those_of_the_caller():
    class Appending(nn.Module):
        def forward(self, x, seen):
            seen.append(len(x))
            return (x,)

    op, seen = MixedOp.from_modules([Appending(), Appending()]), []
    op(X, torch.tensor([1.0, 0.0]).double().requires_grad_(), seen)[0].sum().backward()
    assert seen == [2]


def test_primitives_take_active_and_unit_by_their_places():
    op, x = MixedOp(4, 1).eval(), torch.randn(2, 4, 5, 5)
    weights = torch.eye(8)[4]
    right = op(x, weights)
    for given in ((4,), (4, True), (None,)):
        torch.testing.assert_close(op(x, weights, *given), right)
    torch.testing.assert_close(op(x, 2 * weights, 4, True), right)  # believed: its weight is 1
    with pytest.raises(TypeError, match="takes 2 positional arguments but 3 were given"):
        op(x, weights, 4, True, x)
    with pytest.raises(TypeError, match="expected active once"):
        op(x, weights, 4, active=3)
