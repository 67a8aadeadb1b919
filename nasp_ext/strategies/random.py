# SPDX-License-Identifier: MIT
"""Random search with shared weights (Li & Talwalkar, UAI 2019): a new uniform architecture every step."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from nasp_ext.gates import PRUNED, Gates
from nasp_ext.space import Space
from nasp_ext.strategies.base import LossFn, Strategy


class RandomStrategy(Strategy):
    """Uniform options and uniform edges; remembers the architecture of the lowest loss.

    Args:
        space: the search space; ``none`` is never selected unless ``allow_none``.
        seed: of the draws.
        edges_per_node: rows kept per node; None keeps all, "preset" the space's own number.
        dtype, device: of the gates.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int | None = None,
        edges_per_node: int | str | None = "preset",
        allow_none: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self._options = (space.mask() if allow_none else space.selectable()).double()
        self._offsets = space.node_offsets
        keep = space.edges_per_node if edges_per_node == "preset" else edges_per_node
        if keep is not None and (not isinstance(keep, int) or keep < 1):
            raise ValueError(f"expected edges_per_node to be None, 'preset' or a number >= 1, got {keep!r}")
        self._keep = keep
        self._generator = torch.Generator().manual_seed(0 if seed is None else seed)
        self._like = torch.zeros((), dtype=dtype, device=device)
        self._best_loss = self._like.new_full((), float("inf"))
        self._active = self._best = self._draw()

    def _draw(self) -> Tensor:
        active = torch.multinomial(self._options, 1, generator=self._generator)[:, 0]
        if self._keep is not None:
            order = torch.rand(len(active), generator=self._generator)
            for low, high in pairwise(self._offsets):
                active[low + order[low:high].argsort()[self._keep :]] = PRUNED
        return active

    def _gates(self, active: Tensor) -> Gates:
        columns = torch.arange(self._options.shape[1])
        weight = (columns == active[:, None]).to(self._like)
        return Gates(weight, tuple(active.tolist()), unit=True)

    def propose(self) -> Gates:
        return self._gates(self._active)

    def step(self, loss_fn: LossFn) -> Tensor:
        with torch.no_grad():
            loss = loss_fn(self.propose()).detach()
        if bool(loss < self._best_loss):
            self._best_loss, self._best = loss.to(self._like), self._active
        self.redraw()
        return loss

    def redraw(self) -> None:
        """Propose the next architecture without looking at the loss of this one."""
        self._active = self._draw()

    def best(self) -> Gates:
        return self._gates(self._best)

    def scores(self) -> Tensor:
        return self.best().weight

    def state_dict(self) -> dict[str, Any]:
        return {
            "active": self._active.clone(),
            "best": self._best.clone(),
            "best_loss": self._best_loss.clone(),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["active"].shape != self._active.shape:
            raise ValueError(
                f"expected the state of a search over {len(self._active)} choices, found "
                f"{len(state['active'])}: it is of another search space"
            )
        self._active, self._best = state["active"].clone(), state["best"].clone()
        self._best_loss = state["best_loss"].to(self._like)
        self._generator.set_state(state["generator"])
