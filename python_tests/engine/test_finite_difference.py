# SPDX-License-Identifier: MIT
"""How good the finite difference of darts-2nd is: against the exact gradient, by backward through backward.

``pytest -s python_tests/engine/test_finite_difference.py`` prints the table of docs/strategies.md.
"""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from nasp_ext import CellSpace, load_data, supernet
from nasp_ext.arch.gates import Gates
from nasp_ext.arch.primitive_names import DARTS_PRIMITIVES
from nasp_ext.engine import steering
from nasp_ext.engine.steering import BatchLoss
from nasp_ext.nn.fused.policy import plain_modules

SPACE = CellSpace("two-nodes", DARTS_PRIMITIVES, DARTS_PRIMITIVES, nodes=2)
CHANNELS, CELLS, BATCH, LR, MOMENTUM, DECAY = 4, 3, 32, 0.1, 0.9, 3e-4


@pytest.fixture(scope="module")
def digits():
    """Batches of the embedded digits in float64, as many as are asked for."""
    data = load_data("digits")
    walk = data.training_batches(BATCH).epoch(0, 0)
    return [(x.double(), y) for x, y in walk]


class Supernet:
    """A supernet of the DARTS operations in plain modules, trained a few steps at its start mixture."""

    def __init__(self, digits, steps: int, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.net = supernet(SPACE, CHANNELS, CELLS, 10, in_channels=1).double().train()
        self.optimizer = torch.optim.SGD(self.net.parameters(), LR, MOMENTUM, weight_decay=DECAY)
        mask = SPACE.mask()
        start = 1e-3 * torch.randn(mask.shape, generator=torch.Generator().manual_seed(0)).double()
        self.weight = start.masked_fill(~mask, -torch.inf).softmax(-1)
        for batch in digits[:steps]:
            self.optimizer.zero_grad()
            self.loss(batch)(Gates(self.weight)).backward()
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.steer, self.train = digits[-1], digits[-2]
        self._cast(dtype)

    def _cast(self, dtype):
        self.net.to(dtype)
        self.weight = self.weight.to(dtype)
        for state in self.optimizer.state.values():
            state["momentum_buffer"] = state["momentum_buffer"].to(dtype)

    def loss(self, batch):
        return lambda gates: cross_entropy(self.net(batch[0].to(gates.weight), gates), batch[1])

    def found(self):
        """First-order gradient and the one of the search."""
        loss = BatchLoss(self.net, self.optimizer, self.loss(self.steer), self.loss(self.train))
        gates = Gates(self.weight)
        return loss.gradient(gates)[1], loss.unrolled_gradient(gates)[1]

    def exact(self):
        """The gradient of the loss after the virtual step, and its part ∇_A L_val(w', A) at a fixed w'."""
        weight = self.weight.clone().requires_grad_()
        values = {name: p.detach().clone().requires_grad_() for name, p in self.net.named_parameters()}
        buffers = {name: b.clone() for name, b in self.net.named_buffers()}

        def at(batch, weights):
            state = {**buffers, **weights}
            logits = torch.func.functional_call(self.net, state, (batch[0].to(weight), Gates(weight)))
            return cross_entropy(logits, batch[1])

        grads = torch.autograd.grad(at(self.train, values), [*values.values()], create_graph=True)
        moved = {}
        for (name, value), gradient in zip(values.items(), grads, strict=True):
            carried = self.optimizer.state[dict(self.net.named_parameters())[name]].get("momentum_buffer", 0)
            moved[name] = value - LR * (gradient + DECAY * value + MOMENTUM * carried)
        (whole,) = torch.autograd.grad(at(self.steer, moved), weight)
        fixed = {name: value.detach() for name, value in moved.items()}
        (direct,) = torch.autograd.grad(at(self.steer, fixed), weight)
        return whole, direct


def degrees(one, two) -> float:
    """The angle between two gradients."""
    one, two = one.double().flatten(), two.double().flatten()
    return math.degrees(torch.arccos((one @ two / one.norm() / two.norm()).clamp(-1, 1)).item())


@pytest.mark.parametrize("steps", [0, 40])
def test_the_finite_difference_is_the_exact_gradient_where_no_kink_is_crossed(
    digits, steps, capsys, monkeypatch
):
    with plain_modules():
        model = Supernet(digits, steps, torch.float64)
        whole, direct = model.exact()
        first = model.found()[0]
        angles, lengths = {}, {}
        for distance in (0.1, 0.01, 0.001, 1e-7):
            monkeypatch.setattr(steering, "_DISTANCE", distance)
            found = model.found()[1]
            angles[distance] = degrees(found, whole)
            lengths[distance] = ((found - direct).norm() / (whole - direct).norm()).item()
        monkeypatch.undo()
        single = Supernet(digits, steps, torch.float32).found()[1]
    share = ((whole - direct).norm() / whole.norm()).item()
    with capsys.disabled():
        print(
            f"\n{steps} steps, second-order part {share:.2f} of the gradient, whose angle to the exact one is"
        )
        print(
            f"  first order {degrees(first, whole):.2f}°, R = 0.01 in float32 {degrees(single, whole):.2f}°"
        )
        for distance, angle in angles.items():
            print(
                f"  R = {distance:g}: {angle:.2f}°, second-order part {lengths[distance]:.2f} times as long"
            )
    assert angles[1e-7] < 0.01
    assert abs(lengths[1e-7] - 1) < 1e-3
