# SPDX-License-Identifier: MIT
"""The same steps with nasp_ext: MixedOp and NASP dropped into the plain network, or supernet and strategy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import backward
from torch.nn.functional import cross_entropy

from benchmarks.baselines.network import PlainNetwork
from benchmarks.baselines.steppers import EDGES, Batch, PlainStepper, Stepper
from nasp_ext.arch.gates import Gates
from nasp_ext.families.cells.network import Network
from nasp_ext.nn import MixedOp
from nasp_ext.optim import NASP
from nasp_ext.strategies import DARTSStrategy, NASPStrategy, Strategy


def mixed_edge(channels: int, stride: int, primitives: Sequence[str]) -> MixedOp:
    """The mixed edge of the plain network, as the library offers it."""
    return MixedOp(channels, stride, primitives)


class DropIn(PlainStepper):
    """DARTS-style code in which only the mixed operation and the optimizer were replaced."""

    def __init__(
        self, net: PlainNetwork, train: Batch, valid: Batch, a: Tensor, edges: int | None = 2
    ) -> None:
        super().__init__(net, train, valid, a)
        self.nasp = NASP(self.matrices, nodes="darts", edges_per_node=edges, generator=None)

    def architecture_gradient(self) -> Tensor:
        with self.nasp.discrete():
            loss = self.mixed_loss(self.valid, self.normal, self.reduction)
            gradients = torch.autograd.grad(loss, self.matrices)
        for matrix, gradient in zip(self.matrices, gradients, strict=True):
            matrix.grad = gradient
        return torch.cat(gradients)

    def architecture_step(self) -> None:
        self.architecture_gradient()
        self.nasp.step()

    def training_loss(self) -> Tensor:
        return self.mixed_loss(self.train, self.normal.detach(), self.reduction.detach())

    def _weight_backward(self) -> None:
        with self.nasp.discrete():
            backward(self.training_loss())


class Native(Stepper):
    """``nasp_ext.supernet`` with ``NASPStrategy``."""

    net: Network
    strategy: Strategy

    def __init__(self, net: Network, train: Batch, valid: Batch, a: Tensor, edges: int | None = 2) -> None:
        super().__init__(net, train, valid)
        assert net.space is not None
        self.strategy = NASPStrategy(net.space, edges_per_node=edges, device=a.device, dtype=a.dtype)
        state = self.strategy.state_dict()
        self.strategy.load_state_dict(state | {"a": a})

    def loss(self, batch: Batch, gates: Gates) -> Tensor:
        logits = self.net(batch[0], gates)
        assert isinstance(logits, Tensor)
        return cross_entropy(logits, batch[1])

    def architecture_gradient(self) -> Tensor:
        gates = self.strategy.propose()
        weight = gates.weight.detach().requires_grad_()
        loss = self.loss(self.valid, Gates(weight, gates.active, gates.unit))
        return torch.autograd.grad(loss, weight)[0]

    def architecture_step(self) -> None:
        self.strategy.step(lambda gates: self.loss(self.valid, gates))

    def training_loss(self) -> Tensor:
        return self.loss(self.train, self.strategy.propose())


class NativeDARTS(Native):
    """``nasp_ext.supernet`` with ``DARTSStrategy``: the mixture of all options."""

    def __init__(self, net: Network, train: Batch, valid: Batch, a: Tensor) -> None:
        super().__init__(net, train, valid, a)
        assert net.space is not None
        self.strategy = DARTSStrategy(net.space, device=a.device, dtype=a.dtype)
        state = self.strategy.state_dict()
        self.strategy.load_state_dict(state | {"a": a.masked_fill(~net.space.mask().to(a.device), 0.0)})

    def architecture_gradient(self) -> Tensor:
        assert self.net.space is not None
        a = self.strategy.state_dict()["a"].requires_grad_()
        exists = self.net.space.mask().to(a.device)
        loss = self.loss(self.valid, Gates(a.masked_fill(~exists, -torch.inf).softmax(-1)))
        (gradient,) = torch.autograd.grad(loss, a)
        found: Tensor = gradient
        return found


def selected(a: Tensor, edges: int | None = 2) -> tuple[int, ...]:
    """The option of each edge that NASP selects at A with so many edges per node; -1 = pruned."""
    matrices = [a[:EDGES].clone().requires_grad_(), a[EDGES:].clone().requires_grad_()]
    optimizer = NASP(matrices, nodes="darts", edges_per_node=edges, generator=None)
    normal, reduction = (gates.active or () for gates in optimizer.gates())
    return (*normal, *reduction)
