# SPDX-License-Identifier: MIT
"""MixedOp of any modules, and what it refuses."""

import copy

import pytest
import torch
from nn_drawn import mixture
from torch import nn
from torch.nn.functional import one_hot

from nasp_ext.nn import MixedOp

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def run(op, x, weights):
    return op(x, weights)


SEQUENCES = {
    "conv1d": (lambda: [nn.Conv1d(4, 4, k, padding=k // 2) for k in (1, 3, 5)], (2, 4, 7)),
    "linear": (lambda: [nn.Linear(6, 5), nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 5))], (3, 6)),
    "single": (lambda: [nn.Linear(6, 6)], (3, 6)),
    "attention": (lambda: [nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0), nn.Linear(8, 8)], (5, 2, 8)),
    "many": (lambda: [nn.Linear(3, 3) for _ in range(70)], (2, 3)),
}


@pytest.mark.parametrize("kind", sorted(SEQUENCES))
@pytest.mark.parametrize("case", ["first", "last", "zero", "dense"])
def test_any_modules_of_one_output_shape_can_be_mixed(kind, case):
    build, shape = SEQUENCES[kind]
    op = MixedOp.from_modules(build()).double()
    plain = copy.deepcopy(op)
    count = len(op._ops)
    weights = torch.zeros(count, dtype=torch.float64)
    if case == "dense":
        weights = torch.rand(count, dtype=torch.float64)
    elif case != "zero":
        weights[0 if case == "first" else -1] = 1
    weights.requires_grad_()
    x = torch.randn(shape, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad(function(module, x, weights).pow(3).sum(), weights)[0]
        for function, module in ((run, op), (mixture, plain))
    )
    torch.testing.assert_close(found, expected, **EXACT)


def test_named_modules_lend_their_names():
    op = MixedOp.from_modules({"short": nn.Linear(2, 2), "long": nn.Linear(2, 2)})
    assert op.primitives == ("short", "long")
    assert "short, long" in repr(op)


@pytest.mark.parametrize("option", [0, 1, None])
def test_a_mixture_of_none_only_is_zero(option):
    op = MixedOp.from_modules([MixedOp(4, 2)._ops[0], MixedOp(4, 2)._ops[0]])
    weights = torch.tensor([1.0, 2.0]) if option is None else one_hot(torch.tensor(option), 2).float()
    out = op(torch.ones(2, 4, 5, 5), weights.requires_grad_())
    assert out.shape == (2, 4, 3, 3)
    assert out.eq(0).all()


def test_state_dict_has_the_names_of_darts_code():
    names = set(MixedOp(4, 1).state_dict())
    assert {"_ops.1.1.running_mean", "_ops.4.op.1.weight", "_ops.6.op.2.weight"} <= names


@pytest.mark.parametrize(
    "weights, message",
    [
        (torch.zeros(7), r"shape \(8,\).*got \(7,\)"),
        (torch.zeros(1, 8), r"shape \(8,\).*got \(1, 8\)"),
        (
            torch.zeros(8, dtype=torch.float64),
            "dtype of the branches' outputs, torch.float32, got torch.float64",
        ),
        (torch.zeros(8, dtype=torch.int64), "got torch.int64"),
        (torch.zeros(8, device="meta"), "device of x, cpu, got meta"),
        (torch.tensor([1.0] + [float("nan")] * 7), "NaN"),
    ],
)
def test_wrong_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        MixedOp(4, 1)(torch.zeros(2, 4, 5, 5), weights)


def test_weights_that_are_no_tensor_are_refused():
    with pytest.raises(TypeError, match="got list"):
        MixedOp(4, 1)(torch.zeros(2, 4, 5, 5), [1.0] * 8)


@pytest.mark.parametrize("active", [-2, 8])
def test_choice_out_of_range_is_refused(active):
    with pytest.raises(ValueError, match=rf"-1\.\.7 or None, got {active}"):
        MixedOp(4, 1)(torch.zeros(2, 4, 5, 5), torch.zeros(8), active=active)


@pytest.mark.parametrize("modules", [[], {}])
def test_no_branches_are_refused(modules):
    with pytest.raises(ValueError, match="at least one branch"):
        MixedOp.from_modules(modules)


def test_branches_of_different_shapes_are_refused():
    op = MixedOp.from_modules({"a": nn.Linear(2, 3), "b": nn.Linear(2, 2)})
    with pytest.raises(ValueError, match=r"share one shape, got \{'a': \(1, 3\), 'b': \(1, 2\)\}"):
        op(torch.ones(1, 2), torch.ones(2))
    with pytest.raises(ValueError, match=r"branch 1 of a, b to give float32 \(1, 3\) as others do"):
        op(torch.ones(1, 2), torch.tensor([1.0, 0.0], requires_grad=True)).sum().backward()
