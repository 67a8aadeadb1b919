# SPDX-License-Identifier: MIT
"""DARTS, first order: Liu, Simonyan & Yang, ICLR 2019, eq. 2, Alg. 1 with ξ = 0; genotype: sec. 2.4."""

from __future__ import annotations

import torch
from torch import Tensor

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.strategies.base import LossFn
from nasp_ext.strategies.gradients import gates_gradient, through
from nasp_ext.strategies.matrix import MatrixStrategy, kept_edges, selected


class DARTSStrategy(MatrixStrategy):
    """Runs the softmax mixture of all options, ``none`` included, and moves A by Adam on the steering loss.

    Args:
        space: the search space.
        lr, betas, weight_decay: of Adam; the defaults are the authors'.
        edges_per_node: rows that ``best()`` keeps per node; None = all, "preset" = the space's number.
        seed: of the start values, 1e-3 times standard normal.
        dtype, device: of A.

    >>> from nasp_ext.arch import space
    >>> search = DARTSStrategy(space("darts"))
    >>> search.propose().active is None, len(search.best().active)
    (True, 28)
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        lr: float = 3e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        edges_per_node: int | str | None = "preset",
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self._generator = torch.Generator().manual_seed(0 if seed is None else seed)
        start = 1e-3 * torch.randn(space.rows, space.options, generator=self._generator, dtype=dtype)
        a = start.masked_fill(~space.mask(), 0.0).to(device).requires_grad_()
        super().__init__(a, torch.optim.Adam([a], lr, betas, weight_decay=weight_decay))
        self.space = space
        self._space, self._keep = space, kept_edges(space, edges_per_node)
        self._exists, self._selectable = space.mask().to(device), space.selectable().to(device)

    def _weights(self) -> Tensor:
        """The weights of the gates, a function of A."""
        return self._a.masked_fill(~self._exists, -torch.inf).softmax(-1)

    def _proposal(self) -> Gates:
        return Gates(self._weights().detach())

    def _move(self, loss_fn: LossFn) -> tuple[Tensor, Tensor]:
        loss, gradient = self._gates_gradient(loss_fn, self.propose())
        (moved,) = through(self._weights(), (self._a,), gradient)
        return loss, moved

    def _gates_gradient(self, loss_fn: LossFn, gates: Gates) -> tuple[Tensor, Tensor]:
        return gates_gradient(loss_fn, gates)

    def best(self) -> Gates:
        """Per edge the option of largest weight, ``none`` left out; per node the best edges by it."""
        return selected(self._weights().detach(), self._space, self._keep, self._selectable)

    def scores(self) -> Tensor:
        return self._weights().detach()
