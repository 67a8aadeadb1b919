# SPDX-License-Identifier: MIT
"""The second-order gradient against an exact one, and that it leaves no trace in network or optimizer."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from nasp_ext.arch.gates import Gates
from nasp_ext.engine.steering import BatchLoss
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.networks import supernet
from nasp_ext.strategies import SteeringLoss

SPACE = CellSpace("steer", ("none", "skip_connect", "conv_1x1"), ("skip_connect", "avg_pool_3x3"), nodes=1)
DENSE = torch.rand(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Mixture(nn.Module):
    """Smooth, so that finite differences converge: Σ_k a_k tanh(W_k x), BatchNorm, dropout, a linear layer.

    ``idle`` takes part in no loss.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Linear(5, 6) for _ in range(3))
        self.norm, self.dropout, self.out = nn.BatchNorm1d(6), nn.Dropout(dropout), nn.Linear(6, 4)
        self.idle = nn.Linear(2, 2)

    def forward(self, x, gates):
        for row in gates.weight:
            mixed = sum(a * branch(x).tanh() for a, branch in zip(row, self.branches, strict=True))
        return self.out(self.dropout(self.norm(mixed)))


class Case:
    """A network a few steps into its training, and a batch of either half."""

    def __init__(self, net: nn.Module, shape: tuple[int, ...], momentum: float = 0.9) -> None:
        self.net = net.double().train()
        self.optimizer = torch.optim.SGD(net.parameters(), lr=0.3, momentum=momentum, weight_decay=0.05)
        self.x = [torch.randn(9, *shape, dtype=torch.float64) for _ in range(2)]
        self.y = [torch.randint(4, (9,)) for _ in range(2)]

    def train_a_little(self, gates):
        for _ in range(3):
            self.optimizer.zero_grad()
            self.loss(0)(gates).backward()
            self.optimizer.step()
        self.optimizer.zero_grad()
        return self

    def loss(self, half):
        return lambda gates: cross_entropy(self.net(self.x[half], gates), self.y[half])

    def steering(self, rate=1.0):
        return BatchLoss(self.net, self.optimizer, self.loss(1), self.loss(0), rate=rate)

    def exact(self, gates, rate=1.0):
        """Loss and gradient through the virtual step itself, by autograd."""
        (group,) = self.optimizer.param_groups
        weight = gates.weight.detach().requires_grad_()
        names = [name for name, _ in self.net.named_parameters()]
        values = [p.detach().clone().requires_grad_() for p in self.net.parameters()]
        buffers = {name: b.clone() for name, b in self.net.named_buffers()}

        def at(half, weights):
            state = {**buffers, **dict(zip(names, weights, strict=True))}
            logits = torch.func.functional_call(self.net, state, (self.x[half], Gates(weight)))
            return cross_entropy(logits, self.y[half])

        grads = torch.autograd.grad(at(0, values), values, create_graph=True, allow_unused=True)
        moved = []
        for p, w, g in zip(self.net.parameters(), values, grads, strict=True):
            if g is None:
                moved.append(w)
                continue
            buffer = self.optimizer.state[p].get("momentum_buffer")
            carried = 0 if buffer is None else group["momentum"] * buffer
            moved.append(w - rate * group["lr"] * (carried + g + group["weight_decay"] * w))
        loss = at(1, moved)
        return loss.detach(), torch.autograd.grad(loss, weight)[0]


@pytest.mark.parametrize(
    "trained, momentum, rate", [(False, 0.9, 1), (True, 0.9, 1), (True, 0, 1), (True, 0.9, 0.4)]
)
def test_unrolled_gradient_is_that_of_autograd_through_the_virtual_step(trained, momentum, rate):
    gates = Gates(DENSE)
    case = Case(Mixture(0.0), (5,), momentum)
    if trained:
        case.train_a_little(gates)
    loss, gradient = case.steering(rate).unrolled_gradient(gates)
    expected_loss, expected = case.exact(gates, rate)
    assert loss.item() == pytest.approx(expected_loss.item(), abs=1e-12)
    # The difference is central: its error is of the order R².
    torch.testing.assert_close(gradient, expected, rtol=0, atol=2e-4 * expected.abs().max().item())
    weight = DENSE.clone().requires_grad_()
    first = torch.autograd.grad(case.loss(1)(Gates(weight)), weight)[0]
    assert (first - expected).abs().max() > 0.03 * expected.abs().max()


def test_both_sides_of_the_difference_drop_the_same_units():
    case = Case(Mixture(0.5), (5,)).train_a_little(Gates(DENSE))
    torch.manual_seed(3)
    _, gradient = case.steering().unrolled_gradient(Gates(DENSE))
    following = torch.rand(1)
    torch.manual_seed(3)
    _, expected = case.exact(Gates(DENSE))
    torch.testing.assert_close(gradient, expected, rtol=0, atol=2e-4 * expected.abs().max().item())
    assert torch.equal(torch.rand(1), following)


@pytest.mark.parametrize("kind", ["dense", "discrete"])
def test_a_supernet_gets_the_gradient_of_every_option_and_keeps_its_state(kind):
    one_hot = torch.zeros(4, 3, dtype=torch.float64)
    one_hot[0, 1] = one_hot[1, 2] = one_hot[2, 0] = one_hot[3, 1] = 1
    gates = Gates(DENSE) if kind == "dense" else Gates(one_hot, (1, 2, 0, 1), unit=True)
    case = Case(supernet(SPACE, 2, 3, 4), (3, 6, 6)).train_a_little(gates)
    before = copy.deepcopy((case.net.state_dict(), case.optimizer.state_dict()))
    grads = [p.grad for p in case.net.parameters()]
    loss, gradient = case.steering().unrolled_gradient(gates)
    assert not loss.requires_grad
    assert gradient.shape == (4, 3)
    exists = SPACE.selectable()
    assert (gradient[exists] != 0).all()
    assert not gradient[2:, 2].any()  # the reduction cell has two options
    after = case.net.state_dict(), case.optimizer.state_dict()
    assert_same(before, after)
    assert [p.grad for p in case.net.parameters()] == grads
    assert not gates.weight.requires_grad


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_an_error_in_any_pass_leaves_weights_and_statistics_as_they_were(call):
    case = Case(Mixture(0.0), (5,)).train_a_little(Gates(DENSE))
    before = copy.deepcopy(case.net.state_dict())
    calls = 0

    def failing(half):
        def loss(gates):
            nonlocal calls
            calls += 1
            value = case.loss(half)(gates)
            if calls == call:
                raise MemoryError
            return value

        return loss

    with pytest.raises(MemoryError):
        BatchLoss(case.net, case.optimizer, failing(1), failing(0)).unrolled_gradient(Gates(DENSE))
    assert calls == call
    assert_same(before, case.net.state_dict())


def test_a_loss_that_does_not_depend_on_the_weights_has_no_curvature():
    case = Case(Mixture(0.0), (5,))
    coefficients = torch.arange(12, dtype=torch.float64).reshape(4, 3)
    steer = lambda gates: (gates.weight * coefficients).sum() + 0 * case.loss(1)(gates)  # noqa: E731
    _, gradient = BatchLoss(case.net, case.optimizer, steer, case.loss(0)).unrolled_gradient(Gates(DENSE))
    assert torch.equal(gradient, coefficients)


def test_the_steering_loss_is_what_strategies_ask_for():
    case = Case(Mixture(0.0), (5,))
    assert isinstance(case.steering(), SteeringLoss)
    assert not isinstance(case.loss(1), SteeringLoss)
    assert torch.equal(case.steering()(Gates(DENSE)), case.loss(1)(Gates(DENSE)))


def assert_same(one, two) -> None:
    """Bit for bit, through dicts, lists and tuples."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    else:
        assert one == two
