# SPDX-License-Identifier: MIT
"""Recurrent cells where somebody does what the native calls do not expect: they hand over, or refuse."""

import copy
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from nn_recurrent import (
    ALL_DROPOUTS,
    BATCH,
    SIZE,
    SMALL,
    language_loss,
    network,
    one_hot,
    one_hot_genotype,
    seeded,
    tokens,
)
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from nasp_ext import ops
from nasp_ext.arch import MIXED, Gates
from nasp_ext.families.recurrent import native
from nasp_ext.families.recurrent.activations import FUNCTIONS
from nasp_ext.families.recurrent.genotype import RecurrentGenotype
from nasp_ext.nn import fusion_reasons, plain_modules
from nasp_ext.nn.fused.policy import Fusion

DEAD_STEP = RecurrentGenotype((("tanh", 0), ("relu", 0)), concat=(1,))


def trained(net, *arguments):
    """The loss, all gradients and all statistics of a step."""
    loss = language_loss(net, *arguments)
    loss.backward()
    return [loss.detach(), *(p.grad for p in net.parameters()), *net.buffers()]


def both_ways(function):
    """The results of native and of plain modules, which have to be the same."""
    found = []
    for plain in (False, True):
        with plain_modules(plain):
            found.append(seeded(0, function))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    return found[0]


@pytest.fixture
def native_calls(monkeypatch):
    found, own = [], ops.recurrent_forward
    monkeypatch.setattr(native.ops, "recurrent_forward", lambda *a: (found.append(1), own(*a))[1])
    return found


def test_unit_gates_weigh_the_rows_that_are_mixed():
    gates = one_hot()
    weight, active = gates.weight.clone(), (MIXED, *gates.active[1:])
    weight[0] = torch.tensor([0.1, 0.2, 0.3, 0.1, 0.3])
    losses = [language_loss(network(), Gates(weight, active, unit)) for unit in (True, False)]
    assert losses[0] == losses[1] != language_loss(network(), gates)


class _Dropped(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.3, training=True)


def test_a_parametrization_is_computed_once_for_each_call(native_calls):
    def step():
        net = network()
        spectral_norm(net.cell, "entry")
        parametrize.register_parametrization(net.cell.weights, "0", _Dropped())
        language_loss(net, one_hot())
        return trained(net, one_hot())

    both_ways(step)
    assert len(native_calls) == 2


@pytest.mark.parametrize("parameter", [False, True])
def test_factors_that_learn_have_a_gradient(parameter):
    def step():
        net = network(one_hot_genotype(), coefficients=torch.tensor([0.5, 2.0, -1.0]))
        factors = net.coefficients.requires_grad_()
        if parameter:
            net.coefficients = factors = nn.Parameter(factors.detach())
        return torch.autograd.grad(language_loss(net), factors)

    assert both_ways(step)[0].all()


def test_a_mask_that_learns_has_a_gradient():
    def step():
        net, mask = network().eval(), torch.rand(BATCH, SIZE, dtype=torch.float64, requires_grad=True)
        x = torch.randn(3, BATCH, SIZE, dtype=torch.float64)
        return torch.autograd.grad(net.cell(x, x[0], net._wired(one_hot()), None, mask).sum(), mask)

    assert both_ways(step)[0].any()


@pytest.mark.parametrize("concat", [(1,), (0,)])
def test_weights_that_lead_nowhere_have_no_gradient(native_calls, concat):
    """Not one of zeros, with which an optimizer would let them decay; nor are their hooks called."""
    found = []
    for plain in (False, True):
        net, called = network(RecurrentGenotype(DEAD_STEP.recurrent, concat)), []
        for name, p in net.named_parameters():
            p.register_hook(lambda grad, name=name, called=called: called.append((name, grad is None)))
        with plain_modules(plain):
            language_loss(net).backward()
        found.append((sorted(called), [name for name, p in net.named_parameters() if p.grad is None]))
    assert found[0] == found[1]
    assert found[0][1] == [f"cell.weights.{i}" for i in range(concat[0], 2)]
    assert native_calls


def test_what_does_not_read_its_input_has_no_gradient(native_calls):
    net = network(RecurrentGenotype((("tanh", 0),), concat=(2,), nodes=(1, 0)))
    hidden = torch.zeros(BATCH, SIZE, dtype=torch.float64, requires_grad=True)
    language_loss(net, hidden).backward()
    assert hidden.grad is net.cell.entry.grad is net.cell.weights[0].grad is None
    assert native_calls


def test_the_gradient_of_gates_leaves_a_gradient_to_all_weights():
    net, gates = network(), Gates(torch.zeros(SMALL.rows, 5, dtype=torch.float64, requires_grad=True))
    language_loss(net, Gates(gates.weight, (-1,) * SMALL.rows)).backward()
    assert all(p.grad is not None for p in net.parameters())


def _other_norms():
    yield "one statistic", lambda n: setattr(n, "running_var", torch.ones(SIZE).double())
    yield (
        "both statistics",
        lambda n: (
            n.register_buffer("running_mean", torch.zeros(SIZE).double()),
            n.register_buffer("running_var", torch.ones(SIZE).double()),
        ),
    )
    yield "eps of zero", lambda n: setattr(n, "eps", 0.0)


@pytest.mark.parametrize("change", [pytest.param(c, id=name) for name, c in _other_norms()])
@pytest.mark.parametrize("training", [True, False])
def test_a_norm_with_other_settings_is_pytorchs(native_calls, change, training):
    """With its results, or its errors."""
    found = []
    for plain in (False, True):
        net = network().train(training)
        change(net.cell.norm)
        try:
            with plain_modules(plain):
                found.append(language_loss(net, one_hot()).item())
        except (RuntimeError, ValueError) as error:
            found.append(str(error))
    assert found[0] == found[1]
    assert not native_calls
    assert "BatchNorm1d" in fusion_reasons(net)["cell"]


@pytest.mark.parametrize(("holder", "name"), [(nn.BatchNorm1d, "forward"), (F, "batch_norm")])
def test_code_put_in_the_place_of_pytorchs_runs(monkeypatch, holder, name):
    own, expected = getattr(holder, name), language_loss(network(), one_hot())
    monkeypatch.setattr(holder, name, lambda *a, **k: 2 * own(*a, **k))
    assert both_ways(lambda: trained(network(), one_hot()))[0] != expected


def test_activations_cannot_be_replaced_behind_the_native_ones():
    with pytest.raises(TypeError, match="does not support item assignment"):
        FUNCTIONS["tanh"] = torch.relu


def test_statistics_that_move_before_backward_do_not_change_it(native_calls):
    found = []
    for moves in (False, True):
        net = network().eval()
        loss = language_loss(net, one_hot())
        if moves:
            language_loss(net.train(), one_hot(seed=1))
        found.append(torch.autograd.grad(loss, list(net.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert native_calls


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_gates_of_another_dtype_count_as_they_are(dtype, mixed, plain):
    gates = one_hot(kept=2, value=0.5)
    active, found = None if mixed else gates.active, []
    for of in (dtype, torch.float32):
        weight = gates.weight.to(dtype).to(of).requires_grad_()
        with plain_modules(plain):
            loss = language_loss(network(scale=3.0).float(), Gates(weight, active))
        found.append([loss, *torch.autograd.grad(loss, weight)])
    assert found[0][0] == found[1][0]
    assert found[0][1].dtype == dtype
    torch.testing.assert_close(found[0][1].float(), found[1][1], rtol=2e-3, atol=1e-6)


def test_another_default_device_is_not_taken():
    gates, words = one_hot(kept=2, value=0.5), tokens()
    net = network(**ALL_DROPOUTS)
    with plain_modules():
        expected = seeded(0, lambda: net(words, gates))[0]
        with torch.device("meta"):
            found = seeded(0, lambda: net(words, gates))[0]
    assert torch.equal(found, expected)


def test_a_network_is_gone_when_nobody_holds_it():
    net = network()
    assert fusion_reasons(net) == {}
    language_loss(net, one_hot()).backward()
    cell = weakref.ref(net.cell)
    gc.collect()
    gc.disable()
    try:
        del net
        assert cell() is None, "a cycle keeps it"
    finally:
        gc.enable()


def test_a_reason_is_there_as_long_as_there_is_no_plan():
    """Threads share it: one that asks must not read the None of another that is about to find out."""
    net, seen = network(), []
    net.cell.norm = nn.BatchNorm1d(SIZE).double()
    fusion: Fusion = net.cell._fusion
    fusion.plan(net.cell, net.cell._plan)

    def asking():
        seen.append(fusion.reason)
        return net.cell._plan()

    fusion.plan(net.cell, asking)
    assert "expected BatchNorm1d(affine=False)" in seen[0]


def test_a_norm_put_back_is_found():
    net = network()
    own, net.cell.norm = net.cell.norm, nn.BatchNorm1d(SIZE).double()
    assert "affine=False" in fusion_reasons(net)["cell"]
    net.cell.norm = own
    assert fusion_reasons(net) == {}


def test_dropout_of_a_map_is_drawn_for_each_entry():
    net, gates = network(dropouth=0.5), one_hot()
    net.cell.norm = None
    words = tokens().expand(3, -1, -1)
    logits = torch.func.vmap(lambda t: net(t, gates)[0], randomness="different")(words)
    assert not torch.equal(logits[0], logits[1])


def test_a_compiled_network_is_one_graph():
    net, gates, words = network(), one_hot(kept=2, value=0.5), tokens(steps=2)
    own = copy.deepcopy(net)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(words, gates)[0], own(words, gates)[0], rtol=1e-10, atol=1e-12)
