# SPDX-License-Identifier: MIT
"""Direct uses of proximal algorithms: Yao et al., AAAI 2020, eq. 10 and 11, compared with NASP in Fig. 5.

As for NASP, the weights are constants in the step of A (the paper suggests the second order of DARTS).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from nasp_ext import ops
from nasp_ext.arch.gates import Gates
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.optim.costs import relative_cost
from nasp_ext.optim.groups import PRESETS, check_parameter, check_regulariser, check_tables
from nasp_ext.states import check_number, check_tensor
from nasp_ext.strategies.base import LossFn
from nasp_ext.strategies.gradients import gates_gradient
from nasp_ext.strategies.matrix import MatrixStrategy, kept_edges, selected


class PAStrategy(MatrixStrategy):
    """A ← prox_C(A - ε ∇_A F(A)): A itself stays one-hot, so that what is not selected is forgotten (eq. 10).

    The presets are those of NASP, so that only the place of the projection differs.

    Args:
        space: the search space; ``none`` is never selected.
        preset: "official" (Adam with weight decay 1e-3, best edges per node, kept value 1) or "paper" (plain
            step, no decay, every edge, kept value a_k).
        lr: step length ε.
        eta: weight η of the complexity regulariser in F = L + ηR, whose gradient 2 (p_k/p̄) ā_k is taken where
            that of L is: at the gates.
        costs: (K,) or (R, K) numbers >= 0 for it, e.g. ``net.option_costs()``.
        edges_per_node: rows kept per node, None = all; "preset" = the space's number or, in the paper's, all.
        init: start value of every entry of A, before it is projected.
        seed: breaks exact ties at random; None = lowest option.
        dtype, device: of A.

    >>> from nasp_ext.arch import space
    >>> search = PAStrategy(space("darts"), preset="paper")
    >>> (search.scores() > 0).sum(1).unique()
    tensor([1])
    """

    _projects: ClassVar[bool] = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        preset: str = "official",
        lr: float = 3e-4,
        eta: float = 0.0,
        costs: Tensor | None = None,
        edges_per_node: int | str | None = "preset",
        init: float = 0.5,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if preset not in PRESETS:
            raise ValueError(f"expected preset to be one of {sorted(PRESETS)}, got {preset!r}")
        chosen = PRESETS[preset]
        if edges_per_node == "preset" and chosen["edges_per_node"] is None:
            edges_per_node = None
        self.space = space
        self._space, self._keep = space, kept_edges(space, edges_per_node)
        self._keep_value: bool = chosen["keep_value"]
        self._mask = space.selectable().to(device)
        start = torch.full((space.rows, space.options), float(init), dtype=dtype, device=device)
        a = start.masked_fill(~self._mask, 0.0).requires_grad_()
        super().__init__(a, _optimizer(a, lr, chosen))
        self._pull = _pull(a, self._mask, eta, costs)
        self._seed, self._steps = seed, 0
        self._project_()

    def _proposal(self) -> Gates:
        return selected(
            self._a.detach(),
            self._space,
            self._keep,
            self._mask,
            keep_value=self._keep_value,
            generator=self._ties(),
        )

    def _move(self, loss_fn: LossFn) -> tuple[Tensor, Tensor]:
        loss, gradient = gates_gradient(loss_fn, self.propose())
        if self._pull is not None:
            gradient = gradient + self._pull * self.propose().weight
        self._steps += 1
        return loss, gradient.masked_fill(~self._mask, 0.0)

    @torch.no_grad()
    def _project_(self) -> None:
        self._a.copy_(ops.prox_c(self._a, self._mask, generator=self._ties())[0])

    def _ties(self) -> torch.Generator | None:
        """Of this step: a resumed run breaks the same ties in the same way."""
        if self._seed is None:
            return None
        return torch.Generator().manual_seed((self._seed * 1_000_003 + self._steps) % 2**63)

    def best(self) -> Gates:
        return self.propose()

    def scores(self) -> Tensor:
        return self._a.detach().clamp_min(0.0)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "steps": self._steps, "seed": self._seed}

    def check_state(self, state: dict[str, Any], steps: int | None = None) -> None:
        super().check_state(state, steps)
        if self._projects:
            check_tensor(state["a"], self._a.detach(), "a", low=0)
        check_number(state["steps"], "steps", 0, whole=True)
        if (state["seed"] is None) != (self._seed is None):
            found, own = ("no seed" if seed is None else "a seed" for seed in (state["seed"], self._seed))
            raise ValueError(f"expected {own}, as this strategy has, found {found}")
        check_number(state["seed"], "seed", whole=True, none=True)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._steps, self._seed = state["steps"], state["seed"]


class LazyPAStrategy(PAStrategy):
    """Ā = prox_C(A), A ← A - ε ∇_Ā F(Ā): the projection is lazy, and A leaves [0, 1] (eq. 11)."""

    _projects = False

    def _project_(self) -> None:
        """A stays what the step made of it."""


def _pull(a: Tensor, mask: Tensor, eta: float, costs: Tensor | None) -> Tensor | None:
    """2 η p_rk/p̄, (R, K), which times ā_rk is the gradient of ηR (eq. 8); None for η = 0.

    Raises:  ValueError, TypeError: a weight or costs that it cannot be made of.
    """
    check_regulariser(eta, costs)
    if not eta or costs is None:
        return None
    group = {"cost": costs, "mask": mask, "edges_per_node": None}
    check_parameter(a, group)
    check_tables(a, group)
    return 2 * eta * relative_cost(costs, mask, a)


def _optimizer(a: Tensor, lr: float, preset: dict[str, Any]) -> torch.optim.Optimizer:
    if preset["adam"]:
        return torch.optim.Adam([a], lr, betas=(0.5, 0.999), weight_decay=preset["weight_decay"])
    return torch.optim.SGD([a], lr, weight_decay=preset["weight_decay"])
