# SPDX-License-Identifier: MIT
"""The steps of recurrent cells with nasp_ext: its cell, or its language model, and ``NASPStrategy``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.baselines.recurrent import Batch, CellAlone, Term, language_loss
from benchmarks.baselines.recurrent_steppers import OneArchitecture, RecurrentStepper
from nasp_ext.arch.gates import Gates
from nasp_ext.families.recurrent.genotype import RecurrentGenotype
from nasp_ext.families.recurrent.network import RecurrentNetwork
from nasp_ext.families.recurrent.space import RecurrentSpace
from nasp_ext.families.recurrent.wiring import wiring_of_gates, wiring_of_genotype
from nasp_ext.strategies import NASPStrategy


def genotype_of(terms: Sequence[Term]) -> RecurrentGenotype:
    """Of one predecessor for each step."""
    pairs = tuple((name, source) for _, source, name in sorted(terms))
    return RecurrentGenotype(pairs, tuple(range(1, len(pairs) + 1)))


class OurModel(nn.Module):
    """The language model of the library with the loss of the baselines."""

    def __init__(self, net: RecurrentNetwork) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: Batch, gates: Gates) -> Tensor:
        reading = self.net.read(batch.inputs, gates, batch.hidden)
        return language_loss(self.net.decode(reading.dropped), batch.targets, reading.raw)


class OursInSearch(RecurrentStepper):
    """A search with ``NASPStrategy`` that starts from a given A."""

    def __init__(
        self, net: CellAlone | OurModel, train: Batch, valid: Batch, space: RecurrentSpace, a: Tensor
    ) -> None:
        super().__init__(net, train, valid)
        self.space = space
        self.strategy = NASPStrategy(space, lr=3e-3, weight_decay=1e-3, device=a.device, dtype=a.dtype)
        state = self.strategy.state_dict()
        self.strategy.load_state_dict(state | {"a": a.masked_fill(~space.selectable().to(a.device), 0.0)})

    def loss(self, batch: Batch) -> Tensor:
        return self._loss(batch, self.strategy.propose())

    def architecture_gradient(self) -> Tensor:
        gates = self.strategy.propose()
        weight = gates.weight.detach().requires_grad_()
        loss = self._loss(self.valid, Gates(weight, gates.active, gates.unit))
        gradient: Tensor = torch.autograd.grad(loss, weight)[0]
        return gradient

    def architecture_step(self) -> None:
        self.strategy.step(lambda gates: self._loss(self.valid, gates))

    def _loss(self, batch: Batch, gates: Gates) -> Tensor:
        alone = isinstance(self.net, CellAlone)
        found: Tensor = self.net(batch, wiring_of_gates(self.space, gates) if alone else gates)
        return found


class OursDerived(OneArchitecture):
    """The cell of a genotype."""

    def __init__(self, net: CellAlone, train: Batch, valid: Batch, genotype: RecurrentGenotype) -> None:
        super().__init__(net, train, valid)
        self.wiring = wiring_of_genotype(genotype)

    def loss(self, batch: Batch) -> Tensor:
        found: Tensor = self.net(batch, self.wiring)
        return found
