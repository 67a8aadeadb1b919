# SPDX-License-Identifier: MIT
"""The fused engine under autograd: what is computed for whom, how often, and what is refused."""

import pytest
import torch
from nn_drawn import random_gates
from nn_fused import compared, images, shuffled

from nasp_ext import ops
from nasp_ext.arch.gates import Gates
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.published import GENOTYPES
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.nn import MixedOp

DARTS = space("darts")


@pytest.fixture
def net():
    return shuffled(supernet(DARTS, 2, 3, 4))


@pytest.fixture
def gates():
    found = random_gates(DARTS, torch.Generator().manual_seed(4))
    found.weight.requires_grad_()
    return found


@pytest.fixture
def spied(monkeypatch) -> dict[str, list]:
    """Of every cell's backward whether weights, and how many gradients of options, were asked for."""
    calls: dict[str, list] = {"weights": [], "options": []}
    operator = ops.cell_backward

    def counted(*arguments):
        *_, need_weights, _ = arguments[:10]
        calls["weights"].append(need_weights)
        result = operator(*arguments)
        calls["options"].append(sum(t.numel() for t in result if t.dim() == 1) if arguments[10:] else 0)
        return result

    monkeypatch.setattr(ops, "cell_backward", counted)
    return calls


def loss_of(net, gates, x=None):
    return net(images(2, 3, 8, 8) if x is None else x, gates).pow(2).sum()


def test_gradient_of_the_gates_alone_computes_none_of_the_weights(net, gates, spied):
    loss = loss_of(net, gates)
    torch.autograd.grad(loss, gates.weight)
    assert spied["weights"] == [False] * 3
    assert all(options > 50 for options in spied["options"])


def test_gradient_of_the_weights_alone_runs_no_other_option(net, gates, spied):
    inner = Gates(gates.weight * 1, gates.active, True)
    torch.autograd.grad(loss_of(net, inner), list(net.parameters()), allow_unused=True)
    assert spied == {"weights": [True] * 4, "options": [0] * 4}  # three cells and the stem


def test_gates_without_gradient_run_one_option_per_edge(net, gates, spied):
    fixed = Gates(gates.weight.detach(), gates.active, True)
    loss_of(net, fixed).backward()
    assert spied["options"] == [0] * 4
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_gradient_of_the_input_alone_computes_none_of_the_weights(spied):
    net = shuffled(derived_network(GENOTYPES["DARTS_V2"], 2, 3, 4))
    hidden = images(2, 3, 8, 8).requires_grad_() * 1
    torch.autograd.grad(net(hidden).sum(), hidden)
    assert spied["weights"] == [False] * 4


def test_joint_gradient_is_that_of_separate_ones(net, gates):
    parameters = list(net.parameters())
    joint = torch.autograd.grad(loss_of(net, gates), [gates.weight, *parameters], allow_unused=True)
    (alone,) = torch.autograd.grad(loss_of(net, gates), gates.weight)
    weights = torch.autograd.grad(loss_of(net, gates), parameters, allow_unused=True)
    torch.testing.assert_close(joint, (alone, *weights), rtol=1e-9, atol=1e-12)


def test_retained_graph_gives_its_gradients_twice(net, gates):
    net.eval()
    loss = loss_of(net, gates)
    wanted = [gates.weight, *net.parameters()]
    first = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
    second = torch.autograd.grad(loss, wanted, allow_unused=True)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(loss, wanted, allow_unused=True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_without_a_graph_give_the_values_of_plain_modules(net, gates, mode, training, fused_runs):
    def call(net, x, weight):
        with mode():
            return net.train(training)(x, Gates(weight, gates.active, True))

    found = compared(net, call, [images(2, 3, 8, 8), gates.weight])
    assert fused_runs == ["network", "cell", "cell", "cell"]
    assert not found["out"].requires_grad
    assert int(found["state stem.1.num_batches_tracked"]) == training + int(net.stem[1].num_batches_tracked)


def test_weights_trained_after_inference_are_those_of_plain_modules(net, gates):
    def call(net, x, weight):
        with torch.inference_mode():
            net(x, Gates(weight, gates.active, True))
        return net(x, Gates(weight, gates.active, True))

    compared(net, call, [images(2, 3, 8, 8), gates.weight])


def test_weights_changed_before_the_backward_are_an_error(net, gates):
    loss = loss_of(net, gates)
    with torch.no_grad():
        net.cells[2].preprocess1.op[1].weight.mul_(2)
    with pytest.raises(RuntimeError, match="has been modified inplace"):
        loss.backward()


def test_output_of_a_cell_changed_in_place_is_an_error(net, gates):
    cell = net.cells[0]
    out = cell(*(images(2, 6, 8, 8).requires_grad_() for _ in range(2)), gates.choices(), gates=gates.weight)
    out += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("active, weight", [(3, 1.0), (4, 1.0), (4, 0.3), (1, 1.0), (-1, 0.0)])
def test_output_of_a_mixed_op_may_be_changed_in_place(active, weight, fused_runs):
    weights = torch.zeros(8, dtype=torch.float64)
    weights[active] = weight
    compared(
        shuffled(MixedOp(4, 1)),
        lambda op, x, w: op(x, w).mul_(2).add_(x),
        [images(2, 4, 5, 5).requires_grad_(), weights.requires_grad_()],
    )
    assert fused_runs == ["mixed_op"]


def test_gates_changed_between_forward_and_backward_change_no_gradient_of_the_weights(net, gates):
    weighted = Gates(gates.weight.detach() * 0.5, gates.active)
    loss = loss_of(net, weighted)
    parameter = net.cells[0].preprocess0.op[1].weight
    (expected,) = torch.autograd.grad(loss, parameter, retain_graph=True)
    weighted.weight.mul_(7)
    (found,) = torch.autograd.grad(loss, parameter)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_backward_uses_the_mode_of_the_forward(net, gates):
    def call(net, x, weight):
        out = net(x, Gates(weight, gates.active, True))
        net.eval()
        return out

    compared(net, call, [images(2, 3, 8, 8), gates.weight])


def test_tensors_saved_by_hooks_give_the_same_gradients(net, gates):
    net.eval()
    wanted = [gates.weight, *net.parameters()]
    expected = torch.autograd.grad(loss_of(net, gates), wanted, allow_unused=True)
    with torch.autograd.graph.save_on_cpu():
        loss = loss_of(net, gates)
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_two_losses_of_two_architectures_share_the_weights(net, gates):
    def call(net, x, weight):
        other = random_gates(DARTS, torch.Generator().manual_seed(9))
        return net(x, Gates(weight, gates.active, True)) + net(x, other)

    compared(net, call, [images(2, 3, 8, 8).requires_grad_(), gates.weight])


def replica(module):
    """A copy of a module as nn.DataParallel makes it for a device: tensors with a graph, as attributes."""
    made = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        made._modules[name] = replica(child)
    for name, parameter in module._parameters.items():
        if parameter is None:
            made._parameters[name] = None
        else:
            setattr(made, name, 1 * parameter)
    return made


@pytest.mark.parametrize("seen_before", [False, True])
def test_replica_for_data_parallel_computes_what_its_module_does(seen_before):
    darts = space("darts")
    net = shuffled(supernet(darts, 2, 3, 4, affine=True)).eval()
    active = tuple(row % 7 + 1 for row in range(darts.rows))
    found = []
    for make in (lambda: net, lambda: replica(net)):
        weight = torch.eye(8).double()[list(active)].requires_grad_()
        call = make()
        if seen_before:
            net(images(2, 3, 8, 8), Gates(weight, active, unit=True))
        net.zero_grad()
        call(images(2, 3, 8, 8), Gates(weight, active, unit=True)).sin().sum().backward()
        found.append([weight.grad, net.stem[0].weight.grad, net.classifier.weight.grad])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-11)
