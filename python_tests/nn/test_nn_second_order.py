# SPDX-License-Identifier: MIT
"""Second derivatives of rows, cells and networks, and gradients in batches: those of the plain mixture."""

import copy

import pytest
import torch
from nn_drawn import mixture, random_gates
from nn_fused import images, shuffled
from torch import nn
from torch.func import functional_call

from nasp_ext.arch.gates import MIXED, PRUNED, Gates
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.published import GENOTYPES
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.nn import MixedOp, plain_modules

EXACT = {"rtol": 1e-9, "atol": 1e-11}
PRIMITIVES = ("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3", "conv_3x1_1x3")


def smooth_modules():
    return nn.ModuleList(
        [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh()), nn.Softplus(), nn.Conv2d(4, 4, 1)]
    )


def edges():
    return {
        "fused": shuffled(MixedOp(4, 1, PRIMITIVES)),
        "fused, stride 2": shuffled(MixedOp(4, 2, PRIMITIVES, affine=True)),
        "plain": MixedOp.from_modules(list(smooth_modules())).double(),
    }


def twice(loss_of, tensors):
    """First gradients, and the gradients of one random combination of them; zeros for None."""
    first = torch.autograd.grad(loss_of(), tensors, create_graph=True, allow_unused=True)
    first = [torch.zeros_like(t) if g is None else g for g, t in zip(first, tensors, strict=True)]
    combined = sum((g * images(*g.shape, seed=i + 1)).sum() for i, g in enumerate(first))
    second = torch.autograd.grad(combined, tensors, allow_unused=True)
    second = [torch.zeros_like(t) if g is None else g for g, t in zip(second, tensors, strict=True)]
    return [g.detach() for g in first], second


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("active", ["first", "last", "none", "dense"])
@pytest.mark.parametrize("name", list(edges()))
def test_edge_has_the_second_derivatives_of_the_mixture(name, active, training):
    op = edges()[name].train(training)
    row = torch.zeros(len(op._ops)).double()
    if active == "dense":
        row = torch.linspace(0.1, 0.5, len(op._ops)).double()
    elif active != "none":
        row[1 if active == "first" else -1] = 1.0
    row.requires_grad_()
    x = images(3, 4, 6, 6).requires_grad_()
    tensors = [row, x, *op.parameters()]

    def loss(function):
        return lambda: function(copy_of_statistics(op), x, row).sin().sum()

    found = twice(loss(lambda op, x, row: op(x, row)), tensors)
    with plain_modules():
        expected = twice(loss(mixture), tensors)
    torch.testing.assert_close(found, expected, **EXACT)
    assert found[1][0].abs().max() > 0


def copy_of_statistics(op):
    """The module with its own parameters and buffers of its own, so that no run sees those of another."""
    memo = {id(p): p for p in op.parameters()}
    return copy.deepcopy(op, memo)


@pytest.mark.parametrize("value", [None, "random"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mixed", [0.0, 0.4])
def test_supernet_has_the_second_derivatives_of_the_mixture(mixed, training, value):
    darts = space("darts")
    net = shuffled(supernet(darts, 2, 3, 4, affine=True)).train(training)
    gates = random_gates(darts, torch.Generator().manual_seed(3), mixed=mixed, value=value)
    assert {PRUNED} < set(gates.active)
    assert (MIXED in gates.active) == (mixed > 0)
    weight, x = gates.weight.requires_grad_(), images(2, 3, 8, 8).requires_grad_()
    tensors = [weight, x, *net.parameters()]

    def loss(active, unit):
        return lambda: copy_of_statistics(net)(x, Gates(weight, active, unit)).sin().sum()

    found = twice(loss(gates.active, gates.unit), tensors)
    with plain_modules():
        expected = twice(loss(None, False), tensors)
    for one, other in zip(found, expected, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            torch.testing.assert_close(
                mine, theirs, rtol=1e-8, atol=1e-10 * float(theirs.abs().max()) + 1e-12
            )
    assert found[1][0].count_nonzero() > 60


def test_mixed_derivative_reaches_the_weights_of_options_that_do_not_run():
    op = shuffled(MixedOp(4, 1, PRIMITIVES))
    row = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]).double().requires_grad_()
    idle = list(op._ops[3].parameters())
    grads = torch.autograd.grad(op(images(2, 4, 5, 5), row).square().sum(), idle, create_graph=True)
    assert all(grad.abs().max() == 0 for grad in grads)
    (found,) = torch.autograd.grad(sum(grad.sum() for grad in grads), row)
    assert found[3].abs() > 0


@pytest.mark.parametrize("training", [False, True])
def test_gradient_penalty_of_a_derived_network_is_that_of_plain_modules(training):
    net = shuffled(derived_network(GENOTYPES["DARTS_V2"], 2, 3, 4)).train(training)
    x = images(2, 3, 8, 8).requires_grad_()

    def penalty():
        (grad,) = torch.autograd.grad(copy_of_statistics(net)(x).sin().sum(), x, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), list(net.parameters()), allow_unused=True)

    found = penalty()
    with plain_modules():
        expected = penalty()
    assert [g is None for g in found] == [g is None for g in expected]
    scale = max(float(g.abs().max()) for g in expected if g is not None)
    for one, other in zip(found, expected, strict=True):
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12 * scale)


def test_hessian_of_the_architecture_is_the_difference_of_gradients():
    op, x = MixedOp(4, 1).double(), images(3, 4, 6, 6)
    alphas = 0.3 * images(8)

    def loss(a):
        return op(x, a.softmax(-1)).square().mean()

    def gradient(a):
        a = a.clone().requires_grad_()
        return torch.autograd.grad(loss(a), a)[0]

    steps = 1e-5 * torch.eye(8).double()
    expected = torch.stack([(gradient(alphas + d) - gradient(alphas - d)) / 2e-5 for d in steps])
    for vectorize in (False, True):
        found = torch.autograd.functional.hessian(loss, alphas, vectorize=vectorize)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize("name", ["fused", "plain"])
def test_statistics_move_once_whether_a_graph_is_left_or_not(name, update):
    branches = [nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))]
    if name == "plain":
        branches[1] = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    after = []
    for create_graph in (False, True):
        torch.manual_seed(0)
        op = MixedOp.from_modules(copy.deepcopy(branches), update_unselected_stats=update).double()
        row = torch.tensor([1.0, 0.0]).double().requires_grad_()
        torch.autograd.grad(op(images(3, 4, 5, 5), row).sum(), row, create_graph=create_graph)
        after.append(op.state_dict())
    moved = int(after[0]["_ops.1.1.num_batches_tracked"])
    assert moved == int(update)
    torch.testing.assert_close(*[{k: v for k, v in s.items() if "running" in k or "num" in k} for s in after])


@pytest.mark.parametrize("name", ["fused", "plain"])
def test_gradients_in_batches_are_those_one_by_one(name):
    op = edges()[name].eval()
    row = torch.zeros(len(op._ops)).double()
    row[1] = 1.0
    row.requires_grad_()
    x = images(2, 4, 5, 5).requires_grad_()
    out = op(x, row)
    upstream = images(3, *out.shape)
    batched = torch.autograd.grad(out, [row, x], upstream, is_grads_batched=True, retain_graph=True)
    single = [torch.autograd.grad(out, [row, x], one, retain_graph=True) for one in upstream]
    torch.testing.assert_close(batched, tuple(map(torch.stack, zip(*single, strict=True))), **EXACT)


def test_first_gradients_leave_options_that_do_not_run_without_one():
    for op in edges().values():
        row = torch.zeros(len(op._ops)).double()
        row[1] = 1.0
        op(images(2, 4, 5, 5), row.requires_grad_()).sum().backward()
        assert all(p.grad is None for k in (2, len(op._ops) - 1) for p in op._ops[k].parameters())


def test_edge_that_runs_twice_has_the_second_derivatives_of_the_mixture():
    op = edges()["plain"]
    row = torch.tensor([0.0, 1.0, 0.0]).double().requires_grad_()
    x = images(2, 4, 5, 5).requires_grad_()
    tensors = [row, x, *op.parameters()]
    found = twice(lambda: op(op(x, row), row).sin().sum(), tensors)
    expected = twice(lambda: mixture(op, mixture(op, x, row), row).sin().sum(), tensors)
    torch.testing.assert_close(found, expected, **EXACT)


def test_parameters_frozen_or_freed_between_calls_get_their_second_derivatives():
    op = shuffled(MixedOp(4, 1, PRIMITIVES))
    row = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]).double().requires_grad_()
    x = images(2, 4, 5, 5)
    for frozen in (False, True, False):
        for p in op._ops[3].parameters():
            p.requires_grad_(not frozen)
        wanted = [p for p in op.parameters() if p.requires_grad]
        found = twice(lambda: op(x, row).sin().sum(), [row, *wanted])
        expected = twice(lambda: mixture(op, x, row).sin().sum(), [row, *wanted])
        torch.testing.assert_close(found, expected, **EXACT)


def test_conversion_between_calls_keeps_second_derivatives_right():
    op = shuffled(MixedOp(4, 1, PRIMITIVES)).float()
    row, x = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]), images(2, 4, 5, 5)
    op(x.float(), row.requires_grad_()).sum().backward()
    op.double()
    wide = row.detach().double().requires_grad_()
    found = twice(lambda: op(x, wide).sin().sum(), [wide, *op.parameters()])
    expected = twice(lambda: mixture(op, x, wide).sin().sum(), [wide, *op.parameters()])
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("name", ["fused", "plain"])
def test_hooks_of_parameters_are_called_with_gradients_alone(name):
    op, seen = edges()[name], []
    row, x = torch.zeros(len(op._ops)).double(), images(2, 4, 5, 5)
    row[1] = 1.0
    idle, handles = list(op._ops[2].parameters()), []
    for p in op.parameters():
        handles.append(p.register_hook(lambda grad: seen.append("before") or grad.clamp(-1, 1)))
        handles.append(p.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.norm())))
    for _ in range(2):
        op(x, row.requires_grad_()).sum().backward()
    assert len(seen) == 4 * len(list(op._ops[1].parameters()))
    assert all(p.grad is None for p in idle)
    seen.clear()
    with plain_modules():  # all options run: each parameter has its gradient
        op(x, torch.full_like(row, 0.5).requires_grad_()).sum().backward()
    assert len(seen) == 2 * len(list(op.parameters()))
    for handle in handles:
        handle.remove()
    assert not any(p._backward_hooks or p._post_accumulate_grad_hooks for p in op.parameters())


def test_unrolled_step_in_evaluation_mode_runs_the_network_twice():
    darts = space("darts")
    net = shuffled(supernet(darts, 2, 3, 4, affine=True)).eval()
    gates = random_gates(darts, torch.Generator().manual_seed(3), mixed=0.0)
    weight, x = gates.weight.requires_grad_(), images(2, 3, 8, 8)

    def unrolled(active, unit):
        names, parameters = zip(*net.named_parameters(), strict=True)
        loss = net(x, Gates(weight, active, unit)).sin().sum()
        grads = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
        steps = [p if g is None else p - 1e-3 * g.sin() for p, g in zip(parameters, grads, strict=True)]
        after = functional_call(net, dict(zip(names, steps, strict=True)), (x, Gates(weight, active, unit)))
        return torch.autograd.grad(after.cos().sum(), weight)[0]

    found = unrolled(gates.active, gates.unit)
    with plain_modules():
        expected = unrolled(None, False)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9 * float(expected.abs().max()))


def test_second_derivatives_keep_the_precision_of_the_forward_where_backward_is_autocast():
    op, x = shuffled(MixedOp(4, 1, PRIMITIVES)).float(), images(2, 4, 5, 5).float()
    row = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]).requires_grad_()
    found = []
    for enabled in (False, True):
        out = op(x, row).sin().sum()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(torch.autograd.grad(out, row, create_graph=True)[0].detach())
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("create_graph", [False, True])
def test_option_that_leads_to_a_pruned_edge_has_no_gradient_under_fixed_gates(create_graph):
    """The third row enters a node that nobody reads."""
    cells = space("nas-bench-201")
    net, active = shuffled(supernet(cells, 2, 3, 4)), (1, 4, 3, 2, -1, -1)
    weight = torch.zeros(6, 5, dtype=torch.float64)
    weight[range(4), active[:4]] = 1.0
    found = []
    for plain in (False, True):
        with plain_modules(plain):
            loss = net(images(2, 3, 8, 8), Gates(weight, active, True)).square().sum()
        found.append(
            torch.autograd.grad(loss, list(net.parameters()), allow_unused=True, create_graph=create_graph)
        )
    fused, plain = ([grad is None for grad in grads] for grads in found)
    assert fused == plain
    names = dict(zip([name for name, _ in net.named_parameters()], fused, strict=True))
    assert names["cells.0._ops.2._ops.3.op.1.weight"]
