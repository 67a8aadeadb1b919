# SPDX-License-Identifier: MIT
"""PC-DARTS: Xu et al., ICLR 2020, sec. 3.3 (edge normalisation); made for partial channels (sec. 3.2)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.states import check_tensor
from nasp_ext.strategies.base import LossFn
from nasp_ext.strategies.darts import DARTSStrategy
from nasp_ext.strategies.gradients import through


class PCDARTSStrategy(DARTSStrategy):
    """As ``DARTSStrategy``, with a number β for each edge beside its α.

    Edge e of a node has the weights softmax(β)_e · softmax(α_e), the first softmax over the edges into that
    node: together they add up to 1. Adam moves α and β. Which channels go through the options is said by the
    space, ``space.with_partial_channels(4)``; with all of them this is DARTS with edge normalisation.

    Args:
        space: the search space.
        lr, betas, weight_decay: of Adam, for α and β; the defaults are the authors'.
        edges_per_node: rows that ``best()`` keeps per node; None = all, "preset" = the space's number.
        seed: of the start values, 1e-3 times standard normal.
        dtype, device: of α and β.

    >>> from nasp_ext.arch import space
    >>> search = PCDARTSStrategy(space("darts"))
    >>> round(search.propose().weight[:2].sum().item(), 4), round(search.report()["largest_beta"], 1)
    (1.0, 0.3)
    """

    partial_channels: ClassVar[int] = 4

    def __init__(
        self,
        space: SearchSpace,
        *,
        lr: float = 6e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        edges_per_node: int | str | None = "preset",
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(
            space,
            lr=lr,
            betas=betas,
            weight_decay=weight_decay,
            edges_per_node=edges_per_node,
            seed=seed,
            dtype=dtype,
            device=device,
        )
        start = 1e-3 * torch.randn(space.rows, generator=self._generator, dtype=dtype)
        self._beta = start.to(device).requires_grad_()
        self._optimizer.add_param_group({"params": [self._beta]})
        self._sizes = [high - low for low, high in pairwise(space.node_offsets)]

    def _shares(self) -> list[Tensor]:
        """The softmax of β over the edges of each node, (edges,) each."""
        return [beta.softmax(0) for beta in torch.split(self._beta, self._sizes)]

    def _weights(self) -> Tensor:
        return torch.cat(self._shares())[:, None] * super()._weights()

    def _move(self, loss_fn: LossFn) -> tuple[Tensor, Tensor]:
        loss, gradient = self._gates_gradient(loss_fn, self.propose())
        moved, self._beta.grad = through(self._weights(), (self._a, self._beta), gradient)
        return loss, moved

    def report(self) -> dict[str, Any]:
        """The mean over the nodes of the largest share that an edge has."""
        with torch.no_grad():
            return {"largest_beta": torch.stack([share.max() for share in self._shares()]).mean().item()}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "beta": self._beta.detach().clone()}

    def check_state(self, state: dict[str, Any], steps: int | None = None) -> None:
        super().check_state(state, steps)
        check_tensor(state["beta"], self._beta.detach(), "beta")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        with torch.no_grad():
            self._beta.copy_(state["beta"])
