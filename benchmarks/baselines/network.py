# SPDX-License-Identifier: MIT
"""A DARTS-style network in plain PyTorch (Liu et al. 2019), with any module as its mixed edge.

It names its parts as ``nasp_ext.supernet`` does, so that state_dicts fit and results can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn

from nasp_ext.nn import DARTS_PRIMITIVES, build_primitive
from nasp_ext.nn.primitives import FactorizedReduce, relu_conv_bn

_NODES = 4
_EDGES = [(node, source) for node in range(_NODES) for source in range(2 + node)]

EdgeFactory = Callable[[int, int, Sequence[str]], nn.Module]  # (channels, stride, primitives)
Primitives = tuple[Sequence[str], Sequence[str]]  # of the normal and the reduction cell
_DARTS: Primitives = (DARTS_PRIMITIVES, DARTS_PRIMITIVES)


class PlainMixedOp(nn.Module):
    """Σ w_k O_k(x) over all branches.

    With ``only_selected`` (the authors' weight step) each weight is copied to the host, to skip zeros.
    """

    def __init__(self, channels: int, stride: int, primitives: Sequence[str] = DARTS_PRIMITIVES) -> None:
        super().__init__()
        self._ops = nn.ModuleList(
            build_primitive(name, channels, stride, pool_norm=True) for name in primitives
        )
        self.only_selected = False

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        total: Tensor | None = None
        for weight, op in zip(weights, self._ops, strict=True):
            if not self.only_selected or weight.detach().cpu().item() != 0:
                term = weight * op(x)
                total = term if total is None else total + term
        return weights.new_zeros(()) if total is None else total


class PlainCell(nn.Module):
    """Four nodes, each the sum of its edges; the output is their concatenation."""

    def __init__(
        self,
        edge: EdgeFactory,
        primitives: Sequence[str],
        previous: tuple[int, int],
        channels: int,
        *,
        reduction: bool,
        shrunk: bool,
    ) -> None:
        super().__init__()
        self.reduction, self.options = reduction, len(primitives)
        self.edges = list(_EDGES)
        if shrunk:
            self.preprocess0: nn.Module = FactorizedReduce(previous[0], channels, affine=False)
        else:
            self.preprocess0 = relu_conv_bn(previous[0], channels, 1, 1, False)
        self.preprocess1 = relu_conv_bn(previous[1], channels, 1, 1, False)
        strides = [2 if reduction and source < 2 else 1 for _, source in self.edges]
        self._ops = nn.ModuleList(edge(channels, stride, primitives) for stride in strides)

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor | None) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for node in range(_NODES):
            incoming = [(i, source) for i, (target, source) in enumerate(self.edges) if target == node]
            outputs = [
                self._ops[i](states[source])
                if weights is None
                else self._ops[i](states[source], weights[i, : self.options])
                for i, source in incoming
            ]
            states.append(reduce(torch.add, outputs))
        return torch.cat(states[2:], 1)


class PlainNetwork(nn.Module):
    """Stem, cells with reductions at 1/3 and 2/3 of the depth, linear classifier."""

    def __init__(
        self,
        edge: EdgeFactory,
        channels: int,
        cells: int,
        classes: int = 10,
        primitives: Primitives = _DARTS,
    ) -> None:
        super().__init__()
        width = 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.cells = nn.ModuleList()
        previous, shrunk = (width, width), False
        for number in range(cells):
            reduction = number in (cells // 3, 2 * cells // 3)
            channels *= 1 + reduction
            self.cells.append(
                PlainCell(edge, primitives[reduction], previous, channels, reduction=reduction, shrunk=shrunk)
            )
            previous, shrunk = (previous[1], _NODES * channels), reduction
        self.classifier = nn.Linear(previous[1], classes)

    def forward(self, x: Tensor, normal: Tensor | None = None, reduction: Tensor | None = None) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell in self.cell_list():
            s0, s1 = s1, cell(s0, s1, reduction if cell.reduction else normal)
        logits: Tensor = self.classifier(s1.mean((2, 3)))
        return logits

    def cell_list(self) -> list[PlainCell]:
        return cast(list[PlainCell], list(self.cells))

    def set_only_selected(self, only: bool) -> None:
        for module in self.modules():
            if isinstance(module, PlainMixedOp):
                module.only_selected = only


def discrete_network(net: PlainNetwork, active: Sequence[int]) -> PlainNetwork:
    """A copy of the network with the one chosen operation on each kept edge, called ``net(x)``.

    Args:
        active: (28,), the option of each edge, normal cell first; -1 = no edge.
    """
    derived = deepcopy(net)
    for cell in derived.cell_list():
        rows = active[len(_EDGES) :] if cell.reduction else active[: len(_EDGES)]
        kept = [i for i, option in enumerate(rows) if option >= 0]
        cell._ops = nn.ModuleList(cast(PlainMixedOp, cell._ops[i])._ops[rows[i]] for i in kept)
        cell.edges = [cell.edges[i] for i in kept]
    return derived
