# SPDX-License-Identifier: MIT
"""Random search with shared weights (Li & Talwalkar, UAI 2019): a new uniform architecture every step."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from nasp_ext.arch.gates import PRUNED, Gates
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.states import check_generator, check_keys, check_number, check_tensor
from nasp_ext.strategies.base import LossFn, Strategy
from nasp_ext.strategies.matrix import kept_edges


class RandomStrategy(Strategy):
    """Uniform options and uniform edges; keeps the architecture that won its comparisons.

    The lowest loss on a single batch would mostly tell the easiest batch, or the latest weights. So losses
    are only compared on one batch, with the same weights: a proposal that is better there than the champion
    becomes the challenger, and replaces the champion if its loss is lower over the next ``batches`` steps
    together. At most three forward passes a step, none backward; the weights train at every proposal.

    Args:
        space: the search space; ``none`` is never selected unless ``allow_none``.
        seed: of the draws.
        edges_per_node: rows kept per node; None keeps all, "preset" the space's own number.
        batches: steering batches over which a challenger has to be better.
        dtype, device: of the gates.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int | None = None,
        edges_per_node: int | str | None = "preset",
        allow_none: bool = False,
        batches: int = 4,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if batches < 1:
            raise ValueError(f"expected batches >= 1, got {batches}")
        self.space = space
        self._options = (space.mask() if allow_none else space.selectable()).double()
        self._offsets, self._keep = space.node_offsets, kept_edges(space, edges_per_node)
        self._generator = torch.Generator().manual_seed(0 if seed is None else seed)
        self._like = torch.zeros((), dtype=dtype, device=device)
        self._batches = batches
        self._active = self._champion = self._draw()
        self._challenger: Tensor | None = None
        self._lead = 0.0  # how much lower the challenger's losses are, summed over its batches
        self._compared = 0  # batches so far

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

    @torch.no_grad()
    def step(self, loss_fn: LossFn) -> Tensor:
        loss = loss_fn(self.propose()).detach()
        best = loss_fn(self.best())
        if self._challenger is None:
            if bool(loss < best):
                self._challenger, self._lead, self._compared = self._active, 0.0, 0
        else:
            self._lead += float(best - loss_fn(self._gates(self._challenger)))
            self._compared += 1
            if self._compared == self._batches:
                self._champion = self._challenger if self._lead > 0 else self._champion
                self._challenger = None
        self.redraw()
        return loss

    def redraw(self) -> None:
        """Propose the next architecture without looking at the loss of this one."""
        self._active = self._draw()

    def best(self) -> Gates:
        return self._gates(self._champion)

    def scores(self) -> Tensor:
        return self.best().weight

    def state_dict(self) -> dict[str, Any]:
        challenger = self._challenger
        return {
            "active": self._active.clone(),
            "champion": self._champion.clone(),
            "challenger": None if challenger is None else challenger.clone(),
            "lead": self._lead,
            "compared": self._compared,
            "generator": self._generator.get_state(),
        }

    def check_state(self, state: dict[str, Any], steps: int | None = None) -> None:
        check_keys(state, self.state_dict(), "the state")
        for name in ("active", "champion", "challenger"):
            if state[name] is not None or name != "challenger":
                self._check_architecture(state[name], name)
        check_number(state["lead"], "lead")
        check_number(state["compared"], "compared", 0, self._batches, whole=True)
        check_generator(state["generator"], "generator")

    def _check_architecture(self, found: Any, name: str) -> None:
        if isinstance(found, Tensor) and found.shape != self._active.shape:
            raise ValueError(
                f"expected the state of a search over {len(self._active)} choices, found "
                f"{tuple(found.shape)}: it is of another search space"
            )
        check_tensor(found, self._active, name, low=PRUNED)
        kept = found[found != PRUNED]
        beyond = bool((kept >= self._options.shape[1]).any())
        if beyond or not bool(self._options[found != PRUNED, kept].all()):
            raise ValueError(f"expected {name} to hold options that a row has, found another number")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.check_state(state)
        self._active, self._champion = state["active"].clone(), state["champion"].clone()
        self._challenger = None if state["challenger"] is None else state["challenger"].clone()
        self._lead, self._compared = state["lead"], state["compared"]
        self._generator.set_state(state["generator"])
