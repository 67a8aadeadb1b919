# SPDX-License-Identifier: MIT
"""What branches may do: work in place, give other dtypes, lead to nothing, run in several threads."""

import copy
import threading

import pytest
import torch
from nn_drawn import mixture
from nn_fused import assert_same, images, observed, shuffled
from torch import nn

from nasp_ext.arch import Gates, space
from nasp_ext.families.cells.published import GENOTYPES
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.nn import AttentionOp, MixedOp, plain_modules

EXACT = {"rtol": 1e-9, "atol": 1e-11}


class InPlace(nn.Module):
    """Changes its input, and no flag says so."""

    def forward(self, x):
        return x.mul_(2)


def blocks(inplace):
    torch.manual_seed(0)
    return [
        nn.Identity(),
        nn.Sequential(nn.ReLU(inplace=inplace), nn.Conv2d(4, 4, 3, padding=1)),
        nn.Sequential(nn.Identity(), nn.Sequential(nn.LeakyReLU(inplace=inplace), nn.Conv2d(4, 4, 1))),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=inplace)),
        nn.ReLU(inplace=inplace),
    ]


def trained(modules, row, training=True):
    op = MixedOp.from_modules(modules).double().train(training)
    row, x = torch.tensor(row).double().requires_grad_(), images(2, 4, 6, 6).requires_grad_()
    hidden = 1 * x
    before = hidden.detach().clone()
    op(hidden, row).sin().sum().backward()
    assert hidden.equal(before)
    return [row.grad, x.grad, *(p.grad for p in op.parameters())]


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(
    "row", [[1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0], [0, 0, 0, 0, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5]]
)
def test_branches_that_begin_in_place_are_as_those_that_do_not(row, plain):
    with plain_modules(plain):
        for one, other in zip(trained(blocks(True), row), trained(blocks(False), row), strict=True):
            torch.testing.assert_close(one, other, **EXACT)


@pytest.mark.parametrize("row", [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
def test_change_of_the_input_that_no_flag_tells_is_refused(row):
    op = MixedOp.from_modules([nn.Conv2d(4, 4, 1), InPlace()])
    row = torch.tensor(row, requires_grad=True)
    with pytest.raises(
        RuntimeError, match=r"branch 1.*\(InPlace\) to leave its input as it is.*x\.clone\(\)"
    ):
        op(torch.randn(2, 4, 5, 5), row).sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("row", [[0.25, 0.75], [0.0, 1.0]])
def test_weights_fit_the_outputs_where_the_input_is_of_another_kind(dtype, row):
    op = MixedOp.from_modules([nn.Embedding(10, 4), nn.Embedding(10, 4)]).to(dtype)
    tokens, row = torch.randint(0, 10, (2, 3)), torch.tensor(row, dtype=dtype, requires_grad=True)
    out = op(tokens, row)
    assert out.dtype == dtype
    out.sum().backward()
    expected = torch.stack([branch(tokens).detach().double().sum() for branch in op._ops])
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(row.grad.double(), expected, rtol=tolerance, atol=tolerance)
    wrong = torch.float32 if dtype == torch.float64 else torch.float64
    with pytest.raises(ValueError, match=f"dtype of the branches' outputs, {dtype}, got {wrong}"):
        op(tokens, row.detach().to(wrong))


@pytest.mark.parametrize("behind", [0, -1])
@pytest.mark.parametrize("fused", [True, False])
def test_rows_that_lead_to_nothing_have_a_gradient_of_zero(fused, behind):
    first, second = MixedOp(4, 1), MixedOp(4, 1)
    one = torch.eye(8)[4].requires_grad_()
    mixed = torch.full((8,), 0.125).requires_grad_()
    nothing = (torch.eye(8)[0] if behind == 0 else torch.zeros(8)).requires_grad_()
    with plain_modules(not fused):
        hidden = first(torch.randn(2, 4, 5, 5), one) + first(torch.randn(2, 4, 5, 5), mixed)
        loss = second(hidden, nothing).sum()
        found = torch.autograd.grad(loss, [one, mixed, nothing], retain_graph=True)
        assert all(g.count_nonzero() == 0 for g in found[:2])
        assert found[2].count_nonzero() > 3
        loss.backward()
    assert one.grad is not None
    assert mixed.grad is not None


def test_gates_of_a_supernet_behind_nothing_have_a_gradient_of_zero():
    darts = space("darts")
    net = supernet(darts, 2, 3, 4)
    weight = torch.zeros(28, 8)
    weight[:14, 4] = 1.0
    weight.requires_grad_()
    loss = net(torch.randn(2, 3, 8, 8), Gates(weight, (4,) * 14 + (-1,) * 14, True)).square().sum()
    (found,) = torch.autograd.grad(loss, weight)
    assert found[:14].count_nonzero() == 0


def test_matrix_of_none_alone_is_warned_of_once():
    op, x = MixedOp(4, 1), torch.randn(2, 4, 5, 5)
    alphas = torch.zeros(3, 8)
    alphas[:, 0] = 1.0
    with pytest.warns(UserWarning, match="all 3 rows of an architecture matrix select `none`"):
        op(x, alphas[0])
    op(x, alphas[1])
    other = torch.zeros(3, 8)
    other[0, 0] = other[1, 4] = 1.0
    op(x, other[0])


def test_threads_leave_every_branch_in_its_mode():
    branches = [
        nn.Sequential(nn.Conv2d(4, 4, 1, bias=True), nn.BatchNorm2d(4), nn.Dropout(0.5)) for _ in range(3)
    ]
    op = MixedOp.from_modules(branches, update_unselected_stats=False)
    failures = []

    def work(seed):
        try:
            for step in range(20):
                row = torch.zeros(3)
                if step % 2:
                    row[(seed + step) % 3] = 1.0
                op._shapes.clear()
                op(torch.randn(2, 4, 4, 4), row.requires_grad_()).sum().backward()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(part.training for part in op.modules())
    norms = [part for part in op.modules() if isinstance(part, nn.BatchNorm2d)]
    assert all(norm.track_running_stats for norm in norms)


def test_zero_row_draws_no_number_and_moves_no_statistics():
    op = MixedOp.from_modules([nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))])
    before, state = copy.deepcopy(op.state_dict()), torch.get_rng_state()
    assert op(torch.randn(2, 4, 4, 4, generator=torch.Generator()), torch.zeros(1)).count_nonzero() == 0
    assert torch.get_rng_state().equal(state)
    for name, tensor in op.state_dict().items():
        assert tensor.equal(before[name])


class Negated(MixedOp):
    def forward(self, *arguments, **options):
        return -super().forward(*arguments, **options)


def test_edge_of_a_class_of_ones_own_runs_as_it_says():
    darts = space("darts")
    net = supernet(darts, 2, 3, 4).double().eval()
    gates = Gates(torch.eye(8)[[4] * 28].double(), (4,) * 28, True)
    x = images(2, 3, 8, 8)
    before = net(x, gates)
    for change in (
        lambda op: setattr(op, "__class__", Negated),
        lambda op: setattr(op, "forward", op.forward),
    ):
        change(net.cells[0]._ops[0])
        found = net(x, gates)
        with plain_modules():
            torch.testing.assert_close(found, net(x, gates), **EXACT)
        assert not found.allclose(before)


def test_mixture_of_half_precision_branches_takes_float32_weights():
    op = MixedOp.from_modules([nn.Linear(4, 4), nn.Tanh()]).to(torch.bfloat16)
    x, row = torch.randn(2, 4).to(torch.bfloat16), torch.tensor([0.5, 0.5])
    torch.testing.assert_close(op(x, row), mixture(op, x, row.bfloat16()), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("row", [0, None])
def test_hooks_in_front_of_nothing_see_zeros(row, plain):
    x = images(2, 4, 5, 5).float().requires_grad_()
    hidden, seen = x * 1, []
    hidden.register_hook(lambda grad: seen.append(grad.count_nonzero()))
    weights = torch.zeros(8) if row is None else torch.eye(8)[row]
    with plain_modules(plain):
        MixedOp(4, 1)(hidden, weights.requires_grad_()).sum().backward()
    assert seen == [0]
    assert x.grad.count_nonzero() == 0


@pytest.mark.parametrize("first", [nn.Dropout(0.5), nn.Flatten(0, 0), nn.Dropout2d(0.5, inplace=True)])
def test_layer_that_may_give_its_input_is_no_first_layer(first):
    make = lambda inplace: [  # noqa: E731
        nn.Sequential(copy.deepcopy(first), nn.ReLU(inplace), nn.Flatten(0, 0)),
        nn.Hardswish(),
    ]
    found = trained(make(True), [0.5, 0.5], training=False)
    torch.testing.assert_close(found, trained(make(False), [0.5, 0.5], training=False), **EXACT)


def test_options_mixed_by_attention_begin_in_place():
    x, found = images(2, 4, 6, 6), []
    before = x.clone()
    for inplace in (True, False):
        torch.manual_seed(0)
        op = AttentionOp.from_modules(blocks(inplace)).double()
        found.append(op(x, torch.ones(5).double()))
        assert x.equal(before)
    torch.testing.assert_close(*found, **EXACT)


NETWORKS = {
    "derived": lambda: derived_network(GENOTYPES["DARTS_V1"], 2, 4, 4, auxiliary=True),
    "partial": lambda: derived_network(GENOTYPES["DARTS_V2"], 4, 4, 4, partial_channels=2),
    "nas-bench-201": lambda: supernet(space("nas-bench-201"), 2, 6, 4),
    "darts": lambda: supernet(space("darts"), 2, 4, 4),
    "asng-cnn": lambda: supernet(space("asng-cnn"), 2, 4, 4),
}


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_whose_activations_were_set_in_place_compute_the_same(name, plain):
    net = shuffled(NETWORKS[name]())
    gates = ()
    if net.space is not None:
        active = tuple(row % 2 for row in range(net.space.rows)) if "asng" in name else None
        weight = torch.full((net.space.rows, net.space.options), 0.3).double()
        if active is not None:
            weight = torch.eye(net.space.options).double()[list(active)]
        gates = (Gates(weight, active, unit=active is not None),)
    call = lambda net, x: torch.cat(out if isinstance(out := net(x, *gates), tuple) else (out,))  # noqa: E731
    x, found = images(2, 3, 16, 16).requires_grad_(), []
    for inplace in (True, False):
        for part in net.modules():
            if isinstance(part, nn.ReLU):
                part.inplace = inplace
        with plain_modules(plain):
            found.append(observed(copy.deepcopy(net), call, [x]))
    assert_same(*found)


def test_zero_row_has_the_shape_of_branches_changed_after_the_first_run():
    x, nothing = images(2, 4, 8), torch.zeros(2).double().requires_grad_()
    op = MixedOp.from_modules([nn.Conv1d(4, 4, 1), nn.Conv1d(4, 4, 3, padding=1)]).double()
    assert op(x, nothing).shape == (2, 4, 8)
    for k in (0, 1):
        op._ops[k].stride = (2,)
    assert op(x, nothing).shape == op._ops[0](x).shape == (2, 4, 4)
    for k in (0, 1):
        op._ops[k] = nn.Conv1d(4, 6, 1).double()
    assert op(x, nothing).shape == (2, 6, 8)


def test_weights_follow_branches_converted_after_the_first_run():
    op = MixedOp.from_modules([nn.Embedding(5, 4), nn.Embedding(5, 4)])
    words, row = torch.tensor([[0, 3, 4]]), torch.tensor([0.0, 1.0])
    op(words, row)
    op.double()
    torch.testing.assert_close(op(words, row.double()), op._ops[1](words))


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("bias", [False, True])  # with one it is not fused
def test_statistics_move_once_for_a_forward_however_often_its_backward_runs(bias, create_graph):
    torch.manual_seed(0)
    idle = nn.Sequential(nn.Conv2d(4, 4, 1, bias=bias), nn.BatchNorm2d(4))
    op = MixedOp.from_modules([nn.Identity(), idle]).double()
    row = torch.tensor([1.0, 0.0]).double().requires_grad_()
    loss, found = op(images(3, 4, 5, 5), row).sin().sum(), []
    for _ in range(3):
        found += torch.autograd.grad(loss, row, retain_graph=True, create_graph=create_graph)
        assert idle[1].num_batches_tracked == 1
    assert found[0].equal(found[1])
    assert found[0].equal(found[2])
