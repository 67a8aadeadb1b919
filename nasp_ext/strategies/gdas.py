# SPDX-License-Identifier: MIT
"""GDAS: Dong & Yang, CVPR 2019, eq. 3-6: sample one option per edge, differentiate by Gumbel-softmax."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.states import check_generator, check_number, check_tensor
from nasp_ext.strategies.base import LossFn
from nasp_ext.strategies.gradients import gates_gradient, through
from nasp_ext.strategies.matrix import MatrixStrategy, kept_edges, selected


class GDASStrategy(MatrixStrategy):
    """Runs the argmax of softmax((A + Gumbel noise) / τ); A follows the gradient of that softmax.

    The straight-through estimator takes ∂L/∂h at the one-hot h that ran for the gradient of the softmax. Here
    ∂L/∂h is exact for all K options, ⟨G, O_k(x)⟩; released implementations give an option that did not run
    the sum of G, as if its output were 1. After each step of A a new sample is drawn: the weights train at
    it, and the next step of A starts from it.

    Args:
        space: the search space; ``none`` is never sampled.
        lr, betas, weight_decay: of Adam; the defaults are the authors'.
        tau, tau_min: temperature of the first and of the last step, linear in between.
        steps: steps of the search; with 0 the temperature stays at ``tau``.
        edges_per_node: rows that ``best()`` keeps per node; None = all, "preset" = the space's number.
        seed: of the start values, 1e-3 times standard normal, and of the samples.
        dtype, device: of A.

    >>> from nasp_ext.arch import space
    >>> search = GDASStrategy(space("nasp"), seed=1)
    >>> len(search.propose().active), search.report()
    (28, {'tau': 10.0})
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        lr: float = 3e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        tau: float = 10.0,
        tau_min: float = 0.1,
        steps: int = 0,
        edges_per_node: int | str | None = "preset",
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0 < tau_min <= tau < math.inf or steps < 0:
            raise ValueError(
                f"expected 0 < tau_min <= tau < inf and steps >= 0, got tau={tau}, tau_min={tau_min}, "
                f"steps={steps}"
            )
        self._generator = torch.Generator().manual_seed(0 if seed is None else seed)
        self.space = space
        self._space, self._keep = space, kept_edges(space, edges_per_node)
        self._tau, self._tau_min, self._steps, self._step = tau, tau_min, steps, 0
        mask = space.selectable()
        start = 1e-3 * torch.randn(mask.shape, generator=self._generator, dtype=dtype)
        a = start.masked_fill(~mask, 0.0).to(device).requires_grad_()
        super().__init__(a, torch.optim.Adam([a], lr, betas, weight_decay=weight_decay))
        self._mask = mask.to(device)
        self._noise = self._draw()

    def _draw(self) -> Tensor:
        """Gumbel noise (R, K), the same on every device."""
        noise = torch.empty(self._a.shape, dtype=torch.float64).exponential_(generator=self._generator)
        return -noise.log().to(self._a)

    def _temperature(self) -> float:
        done = min(self._step / (self._steps - 1), 1.0) if self._steps > 1 else 0.0
        return self._tau + (self._tau_min - self._tau) * done

    def _softmax(self, noise: Tensor | float, temperature: float) -> Tensor:
        return ((self._a + noise) / temperature).masked_fill(~self._mask, -torch.inf).softmax(-1)

    def _proposal(self) -> Gates:
        return selected((self._a + self._noise).detach(), self._space, None, self._mask)

    def _move(self, loss_fn: LossFn) -> tuple[Tensor, Tensor]:
        loss, gradient = gates_gradient(loss_fn, self.propose())
        soft = self._softmax(self._noise, self._temperature())
        (moved,) = through(soft, (self._a,), gradient)
        self._step += 1
        self._noise = self._draw()
        return loss, moved

    def best(self) -> Gates:
        """The most probable option of each edge, per node the edges where it is most probable."""
        return selected(self.scores(), self._space, self._keep, self._mask)

    def scores(self) -> Tensor:
        return self._softmax(0.0, 1.0).detach()

    def report(self) -> dict[str, Any]:
        return {"tau": self._temperature()}

    def state_dict(self) -> dict[str, Any]:
        state = {"noise": self._noise.clone(), "step": self._step, "generator": self._generator.get_state()}
        return {**super().state_dict(), **state}

    def check_state(self, state: dict[str, Any], steps: int | None = None) -> None:
        super().check_state(state, steps)
        check_tensor(state["noise"], self._noise, "noise")
        check_number(state["step"], "step", 0, whole=True)
        check_generator(state["generator"], "generator")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._noise, self._step = state["noise"].to(self._a), state["step"]
        self._generator.set_state(state["generator"])
