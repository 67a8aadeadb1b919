# SPDX-License-Identifier: MIT
"""MixedOp against the mixture written out: values, gradients, statistics, and what runs when."""

import copy

import pytest
import torch
from nn_drawn import mixture
from nn_fused import kept_bytes
from torch import nn
from torch.nn.functional import one_hot

from nasp_ext.nn import DARTS_PRIMITIVES, MixedOp

K = len(DARTS_PRIMITIVES)
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def row(option: int, value: float = 1.0) -> torch.Tensor:
    return one_hot(torch.tensor(option), K).double() * value


def gradients(function, op, weights, wanted=True):
    """Output and gradients of x, weights and parameters for a fixed input and a fixed loss."""
    x = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x.requires_grad_()
    weights = weights.clone().requires_grad_(wanted)
    out = function(op, x, weights)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    inputs = [x, weights, *op.parameters()] if wanted else [x, *op.parameters()]
    found = torch.autograd.grad((out * upstream).sum(), inputs, allow_unused=True)
    return out.detach(), [torch.zeros_like(t) if g is None else g for t, g in zip(inputs, found, strict=True)]


def run(op, x, weights):
    return op(x, weights)


def pair(stride=1, **options):
    op = MixedOp(4, stride, **options).double()
    return op, copy.deepcopy(op)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("value", [1.0, 0.3])
@pytest.mark.parametrize("option", range(K))
def test_one_hot_row_has_the_gradients_of_the_mixture(option, value, stride):
    op, plain = pair(stride)
    found = gradients(run, op, row(option, value))
    expected = gradients(mixture, plain, row(option, value))
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("option", range(K))
def test_running_statistics_are_those_of_the_mixture(option):
    op, plain = pair()
    gradients(run, op, row(option))
    gradients(mixture, plain, row(option))
    torch.testing.assert_close(op.state_dict(), plain.state_dict(), **EXACT)


def test_statistics_of_unselected_branches_stay_untouched_on_request():
    op, plain = pair(update_unselected_stats=False)
    before = copy.deepcopy(op.state_dict())
    found = gradients(run, op, row(4))
    torch.testing.assert_close(found, gradients(mixture, plain, row(4)), **EXACT)
    changed = {name.split(".")[1] for name, value in op.state_dict().items() if not value.equal(before[name])}
    assert changed == {"4"}
    gradients(run, op, row(5))
    assert op._ops[5].op[3].num_batches_tracked == 1


@pytest.mark.parametrize("stride", [1, 2])
def test_all_zero_row_gives_zeros_with_the_gradient_of_the_mixture(stride):
    op, plain = pair(stride)
    found = gradients(run, op, torch.zeros(K, dtype=torch.float64))
    expected = gradients(mixture, plain, torch.zeros(K, dtype=torch.float64))
    assert found[0].eq(0).all()
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(op.state_dict(), plain.state_dict(), **EXACT)


def test_zeros_are_sized_without_touching_statistics_or_flags():
    op = MixedOp(4, 2)
    op._ops[4].op[3].eval()
    before = copy.deepcopy(op.state_dict())
    out = op(torch.randn(2, 4, 5, 5), torch.zeros(K))
    assert out.shape == (2, 4, 3, 3)
    torch.testing.assert_close(op.state_dict(), before, rtol=0, atol=0)
    op(torch.randn(2, 4, 5, 5), row(1).float())
    assert op._ops[1][1].num_batches_tracked == 1
    assert [part.training for part in op._ops[4].op] == [True] * 3 + [False] + [True] * 4


def test_sizing_zeros_draws_no_number_and_updates_no_statistics():
    op = MixedOp.from_modules([nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3))])
    state = torch.get_rng_state()
    for count, training in ((2, True), (5, False)):
        op.train(training)
        op._ops[0][1].train()
        assert op(torch.ones(count, 3), torch.zeros(1)).shape == (count, 3)
    assert torch.get_rng_state().equal(state)
    assert op._ops[0][1].num_batches_tracked == 0


def test_a_thousand_input_shapes_do_not_pile_up():
    op = MixedOp.from_modules([nn.Tanh(), nn.ReLU()])
    for length in range(1000):
        op(torch.ones(length), torch.zeros(2))
    assert len(op._shapes) <= 64


def test_dense_row_is_the_mixture():
    op, plain = pair()
    weights = torch.softmax(torch.randn(K, dtype=torch.float64), 0)
    torch.testing.assert_close(gradients(run, op, weights), gradients(mixture, plain, weights), **EXACT)
    torch.testing.assert_close(op.state_dict(), plain.state_dict(), **EXACT)


@pytest.mark.parametrize("active, weights", [(4, row(4, 0.5)), (-1, row(0, 0.0)), (None, row(4, 0.5))])
def test_given_choice_agrees_with_the_one_found(active, weights):
    op, plain = pair()
    found = gradients(lambda op, x, w: op(x, w, active=active), op, weights)
    torch.testing.assert_close(found, gradients(run, plain, weights), **EXACT)


def test_unit_weight_skips_the_product():
    op = MixedOp(4, 1)
    x = torch.randn(2, 4, 5, 5)
    doubled = torch.full((K,), 2.0)
    torch.testing.assert_close(op(x, doubled, active=4, unit=True) * 2, op(x, doubled, active=4))
    with torch.no_grad():
        torch.testing.assert_close(
            op(x, doubled.requires_grad_(), active=4, unit=True) * 2, op(x, doubled, active=4)
        )


def calls(op):
    """Count the runs of every branch from here on; those in backward must leave no graph."""
    counts = [0] * len(op._ops)

    def count(option):
        def hook(module, args, out):
            counts[option] += 1
            assert not (torch._C._current_graph_task_id() != -1 and out.requires_grad)

        return hook

    for option, branch in enumerate(op._ops):
        branch.register_forward_hook(count(option))
    return counts


def test_only_the_active_branch_runs_where_no_gradient_is_asked():
    op = MixedOp(4, 1)
    counts = calls(op)
    weights = row(5).float().requires_grad_()
    with torch.no_grad():
        op(torch.randn(2, 4, 5, 5), weights)
    op(torch.randn(2, 4, 5, 5), weights.detach()).sum().backward()
    assert counts == [0, 0, 0, 0, 0, 2, 0, 0]


def test_each_other_branch_runs_once_in_backward_and_none_never():
    op = MixedOp(4, 1)
    counts = calls(op)
    out = op(torch.randn(2, 4, 5, 5), row(5).float().requires_grad_())
    assert counts == [0, 0, 0, 0, 0, 1, 0, 0]
    out.sum().backward()
    assert counts == [0, 1, 1, 1, 1, 1, 1, 1]


def test_none_does_not_run_in_a_dense_mixture():
    op = MixedOp(4, 1)
    counts = calls(op)
    op(torch.randn(2, 4, 5, 5), torch.ones(8))
    assert counts == [0, 1, 1, 1, 1, 1, 1, 1]


def test_backward_to_the_parameters_alone_runs_no_other_branch():
    op = MixedOp(4, 1)
    counts = calls(op)
    alphas = torch.stack((row(5), row(4))).float().requires_grad_()
    out = op(torch.randn(2, 4, 5, 5), alphas[0])
    torch.autograd.grad(out.sum(), list(op._ops[5].parameters()), retain_graph=True)
    assert counts == [0, 0, 0, 0, 0, 1, 0, 0]
    torch.autograd.grad(out.sum(), alphas)
    assert counts == [0, 1, 1, 1, 1, 1, 1, 1]


def test_graph_keeps_the_memory_of_one_branch():
    op = MixedOp(8, 1)
    x = torch.randn(4, 8, 16, 16, requires_grad=True)
    one, _ = kept_bytes(lambda: op._ops[4](x))
    found, _ = kept_bytes(lambda: op(x, row(4).float().requires_grad_()))
    every, _ = kept_bytes(lambda: mixture(op, x, row(4).float().requires_grad_()))
    ends = 2 * x.numel() * 4  # x and y_k themselves
    assert found <= one + ends + 1024
    assert every > 2 * found


def test_dense_rows_can_be_differentiated_twice():
    op = MixedOp.from_modules([nn.Tanh(), nn.Softplus()]).double()
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, w: op(x, w, active=None), (x, weights))


def test_backward_uses_the_mode_of_the_forward():
    op, plain = pair()
    weights = row(4).requires_grad_()
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    out = op(x, weights).pow(2).sum()
    op.eval()
    (found,) = torch.autograd.grad(out, weights)
    assert not any(part.training for part in op.modules())
    (expected,) = torch.autograd.grad(mixture(plain, x, weights).pow(2).sum(), weights)
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("wanted", [True, False])
def test_changing_the_output_in_place_leaves_the_input_alone(wanted):
    op = MixedOp(4, 1).double()
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    before = x.clone()
    out = op(x, row(3).requires_grad_(wanted))
    out += 1
    assert x.equal(before)
    torch.testing.assert_close(out.detach(), x + 1)


def test_changing_the_output_in_place_keeps_the_gradient():
    op, plain = pair()

    def doubled(op, x, weights):
        return op(x, weights).mul_(2)

    expected = gradients(lambda op, x, w: 2 * mixture(op, x, w), plain, row(4))
    torch.testing.assert_close(gradients(doubled, op, row(4)), expected, **EXACT)
