# SPDX-License-Identifier: MIT
"""When a recurrent cell runs as native calls, what these compute, and what they leave to PyTorch."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from nn_recurrent import ALL_DROPOUTS, BATCH, SIZE, SMALL, STEPS, network, one_hot, seeded, tokens
from torch import nn
from torch.func import functional_call

from nasp_ext import ops
from nasp_ext.arch import Gates
from nasp_ext.families.recurrent import native
from nasp_ext.nn import fusion_reasons, plain_modules


@pytest.fixture
def calls(monkeypatch):
    """Grows by (name, flags of the backward) with each native call."""
    found = []
    for name in ("recurrent_forward", "recurrent_backward", "recurrent_dots"):
        own = getattr(ops, name)

        def counted(*arguments, own=own, name=name):
            found.append((name, arguments[-3:] if name == "recurrent_backward" else None))
            return own(*arguments)

        monkeypatch.setattr(native.ops, name, counted)
    return found


def loss_of(net, gates, hidden=None, seed=3):
    logits, _ = seeded(seed, lambda: net(tokens(), gates, hidden))
    return F.cross_entropy(logits.flatten(0, 1), tokens(1).flatten())


def test_a_search_step_asks_for_what_it_needs_alone(calls):
    net, gates = network(**ALL_DROPOUTS), one_hot()
    weight = gates.weight.clone().requires_grad_()
    torch.autograd.grad(loss_of(net, Gates(weight, gates.active, True)), weight)
    assert calls == [
        ("recurrent_forward", None),
        ("recurrent_backward", (False, False, True)),
        ("recurrent_dots", None),
    ]
    calls.clear()
    loss_of(net, gates).backward()
    assert calls == [("recurrent_forward", None), ("recurrent_backward", (True, True, False))]
    calls.clear()
    with torch.no_grad():
        loss_of(net, gates)
    assert [name for name, _ in calls] == ["recurrent_forward"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kept", "value"), [(1, None), (2, 0.3)])
def test_native_calls_give_what_the_plain_cell_gives(calls, assert_near, dtype, kept, value):
    net = network(scale=2.0, **ALL_DROPOUTS).to(dtype)
    gates = one_hot(kept=kept, value=value)
    hidden = torch.randn(BATCH, SIZE, dtype=dtype, requires_grad=True)
    found = []
    for plain in (False, True):
        weight = gates.weight.to(dtype).requires_grad_()
        with plain_modules(plain):
            loss = loss_of(net, Gates(weight, gates.active, gates.unit), hidden)
        assert bool(calls) != plain
        calls.clear()
        found.append([loss, *torch.autograd.grad(loss, [weight, hidden, *net.parameters()])])
        calls.clear()
    for mine, theirs in zip(*found, strict=True):
        assert_near(mine, theirs, dtype)


def test_backward_twice_gives_the_same(calls):
    net = network(**ALL_DROPOUTS)
    loss = loss_of(net, one_hot())
    once = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
    again = torch.autograd.grad(loss, list(net.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert calls


def test_weights_changed_before_backward_are_an_error():
    net = network()
    loss = loss_of(net, one_hot())
    with torch.no_grad():
        net.cell.weights[0].add_(1)
    with pytest.raises(RuntimeError, match=r"modified (by an )?inplace"):
        loss.backward()


@pytest.mark.parametrize("training", [True, False])
def test_second_derivatives_are_exact(training):
    net = network(scale=4.0).train(training)
    gates = one_hot(kept=2, value=0.5)
    hidden = torch.randn(BATCH, SIZE, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, BATCH, SIZE, dtype=torch.float64, requires_grad=True)

    def output(weight, x, hidden, product):
        own = {"weights.1": product}
        wiring = net._wired(Gates(weight, gates.active))
        return functional_call(net.cell, own, (x, hidden, wiring))

    arguments = (
        gates.weight.clone().requires_grad_(),
        x,
        hidden,
        net.cell.weights[1].detach().clone().requires_grad_(),
    )
    # Off the chosen entries the gradient is that of the mixture, of which a difference sees nothing.
    chosen = gates.weight != 0
    assert torch.autograd.gradgradcheck(
        lambda weight, *rest: output(torch.where(chosen, weight, gates.weight), *rest), arguments
    )


def test_a_penalty_on_the_gradient_of_the_gates_is_that_of_the_mixture():
    net, gates = network(scale=4.0), one_hot()
    found = []
    for active, unit in ((gates.active, True), (None, False)):
        weight = gates.weight.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(
            loss_of(net, Gates(weight, active, unit)), weight, create_graph=True
        )
        found.append(
            torch.autograd.grad(gradient.square().sum(), [weight, *net.parameters()], allow_unused=True)
        )
    for mine, whole in zip(*found, strict=True):
        if mine is not None or whole is not None:
            torch.testing.assert_close(mine, whole, rtol=1e-10, atol=1e-12)


def plain_because(net, gates, **options):
    """The reason of a call."""
    projected = torch.zeros(STEPS, BATCH, 2 * SIZE, dtype=options.pop("dtype", torch.float64))
    hidden = torch.zeros(BATCH, SIZE, dtype=projected.dtype)
    cell = net.cell
    weights = (cell.entry[SIZE:], list(cell.weights))
    return native.why_plain(cell, projected, hidden, net._wired(gates), None, *weights)


def test_what_is_left_to_pytorch_is_told():
    net, gates = network(), one_hot()
    assert plain_because(net, gates) is None
    dense = Gates(torch.rand(SMALL.rows, SMALL.options, dtype=torch.float64))
    assert "several activations" in plain_because(net, dense)
    assert "float16" in plain_because(net, gates, dtype=torch.float16)
    assert "one dtype" in plain_because(net, gates, dtype=torch.float32)
    with plain_modules():
        assert "switched off" in plain_because(net, gates)
    with torch.autocast("cpu", torch.bfloat16):
        assert "autocast" in plain_because(net, gates)
    assert fusion_reasons(net) == {}
    watched = copy.deepcopy(net)
    watched.cell.norm.register_forward_hook(lambda *_: None)
    assert fusion_reasons(watched) == {"cell": "BatchNorm1d: a hook watches it"}
    assert "hook" in plain_because(watched, gates)
    replaced = copy.deepcopy(net)
    replaced.cell.norm = nn.BatchNorm1d(SIZE).double()
    assert "expected BatchNorm1d(affine=False)" in plain_because(replaced, gates)
    assert loss_of(replaced, gates).isfinite()
    tracking = copy.deepcopy(net)
    tracking.cell.norm = nn.BatchNorm1d(SIZE, affine=False).double()
    assert "running statistics" in plain_because(tracking, gates)
    assert loss_of(tracking, gates).item() == pytest.approx(loss_of(net, gates).item())


def test_a_batch_of_one_has_batchnorms_own_error():
    net = network()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        net(tokens(batch=1), one_hot())
    derived = network(SMALL.genotype(one_hot()))
    assert derived(tokens(batch=1))[0].isfinite().all()


def test_a_nan_is_not_hidden():
    net = network(SMALL.genotype(one_hot()), scale=1.0)
    words = tokens(steps=1)
    words[0] = torch.arange(BATCH)
    with torch.no_grad():
        net.encoder.weight[0] = torch.nan
        _, hidden = net(words)
    assert hidden[0].isnan().all()
    assert hidden[1:].isfinite().all()


def test_copies_and_pickles_run(calls):
    net = network().eval()
    expected = net(tokens(), one_hot())[0]
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        calls.clear()
        assert torch.equal(other(tokens(), one_hot())[0], expected)
        assert calls


def test_the_gates_may_have_another_dtype(calls):
    net, gates = network(), one_hot(kept=2, value=0.5)
    weight = gates.weight.float().requires_grad_()
    loss_of(net, Gates(weight, gates.active)).backward()
    assert weight.grad.dtype == torch.float32
    double = gates.weight.float().double().requires_grad_()
    loss_of(net, Gates(double, gates.active)).backward()
    torch.testing.assert_close(weight.grad.double(), double.grad, rtol=1e-6, atol=1e-8)
