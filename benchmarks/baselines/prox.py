# SPDX-License-Identifier: MIT
"""prox_C and the architecture update out of ordinary PyTorch calls."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


def prox_c_composite(a: Tensor) -> tuple[Tensor, Tensor]:
    """prox_C by clamp, argmax and scatter: (values, index)."""
    index = a.argmax(-1, keepdim=True)
    values = torch.zeros_like(a).scatter_(-1, index, a.clamp(0, 1).gather(-1, index))
    return values, index.squeeze(-1)


def prox_c_lean_composite(a: Tensor) -> tuple[Tensor, Tensor]:
    """The same, clamping only what is kept: the best we found from ordinary calls."""
    index = a.argmax(-1, keepdim=True)
    values = torch.zeros_like(a).scatter_(-1, index, a.gather(-1, index).clamp(0, 1))
    return values, index.squeeze(-1)


class CompositeStep:
    """torch.optim.Adam(fused=True), clamp_, then one-hot rows by argmax and scatter."""

    def __init__(self, a: Tensor, lr: float, weight_decay: float) -> None:
        self.a = a.clone().requires_grad_()
        self.adam = torch.optim.Adam(
            [self.a], lr=lr, betas=(0.5, 0.999), weight_decay=weight_decay, fused=True
        )
        self.weight = torch.zeros_like(a)

    @torch.no_grad()
    def step(self, grad: Tensor) -> None:
        self.a.grad = grad
        self.adam.step()
        self.a.clamp_(0, 1)
        self.weight.zero_().scatter_(-1, self.a.argmax(-1, keepdim=True), 1.0)


class LoopStep(CompositeStep):
    """Adam and clamp_, then row by row on the host: the best option, and the best edges of a node."""

    def __init__(
        self, a: Tensor, lr: float, weight_decay: float, node_offsets: tuple[int, ...], edges_per_node: int
    ) -> None:
        super().__init__(a, lr, weight_decay)
        self.node_offsets, self.edges_per_node = node_offsets, edges_per_node

    @torch.no_grad()
    def step(self, grad: Tensor) -> None:
        self.a.grad = grad
        self.adam.step()
        self.a.clamp_(0, 1)
        self.weight.copy_(
            torch.from_numpy(one_hot_rows(self.a.cpu().numpy(), self.node_offsets, self.edges_per_node))
        )


def one_hot_rows(
    a: np.ndarray[tuple[int, ...], np.dtype[np.floating]],
    node_offsets: tuple[int, ...],
    edges_per_node: int,
) -> np.ndarray[tuple[int, ...], np.dtype[np.floating]]:
    """1 at the largest entry of the best ``edges_per_node`` rows of each node, by a Python loop."""
    chosen = np.zeros_like(a)
    for first, last in pairwise(node_offsets):
        best = [(float(a[row].max()), row) for row in range(first, last)]
        best.sort(key=lambda pair: (-pair[0], pair[1]))
        for _, row in best[:edges_per_node]:
            chosen[row, int(a[row].argmax())] = 1
    return chosen
