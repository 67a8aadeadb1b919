# SPDX-License-Identifier: MIT
"""NASP as a search strategy: Yao et al., AAAI 2020, Alg. 2, steps 3-5."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.optim import NASP
from nasp_ext.optim.groups import FROM_PRESET, PRESETS
from nasp_ext.states import check_generator, check_groups, check_keys, check_number, check_tensor, place
from nasp_ext.strategies.base import LossFn, Strategy
from nasp_ext.strategies.gradients import gates_gradient
from nasp_ext.strategies.matrix import check_matrix

_BETAS = (0.5, 0.999)  # the authors'


class NASPStrategy(Strategy):
    """Holds A for one search space and moves it by the exact gradient at Ā.

    One device-to-host copy per iteration: the R small integers of the new selection.

    Args:
        space: the search space; ``none`` is never selected unless ``allow_none``.
        preset, lr, weight_decay, eta, keep_value: as in ``NASP``.
        betas: of Adam; the preset "paper" has no Adam and takes no others.
        edges_per_node: rows kept per node, None = all; "preset" = the space's number or, in the paper's, all.
        costs: (R, K) numbers >= 0 for the regulariser, e.g. ``net.option_costs()``.
        init: start value of every entry of A.
        seed: breaks exact ties at random; None = lowest option (at a constant A, always the first one).
        dtype, device: of A.

    >>> from nasp_ext.arch import space
    >>> search = NASPStrategy(space("nasp"))
    >>> target = torch.rand(28, 8)
    >>> loss = search.step(lambda gates: ((gates.weight - target) ** 2).sum())
    >>> len(search.propose().active)
    28
    """

    needs_gradient = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        preset: str = "official",
        lr: float = 3e-4,
        betas: tuple[float, float] = _BETAS,
        weight_decay: float | None = None,
        eta: float = 0.0,
        costs: Tensor | None = None,
        edges_per_node: int | Literal["preset"] | None = "preset",
        keep_value: bool | None = None,
        allow_none: bool = False,
        init: float = 0.5,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.space = space
        exists = space.mask()
        selectable = exists if allow_none else space.selectable()
        start = torch.full(exists.shape, float(init), dtype=dtype).masked_fill(~selectable, 0.0)
        self._a = start.to(device).requires_grad_()
        offsets = space.node_offsets
        if edges_per_node == FROM_PRESET and PRESETS.get(preset, {}).get("edges_per_node") is not None:
            edges_per_node = space.edges_per_node
        self._optimizer = NASP(
            [self._a],
            lr=lr,
            preset=preset,
            betas=betas,
            weight_decay=weight_decay,
            eta=eta,
            cost=costs if eta else None,
            nodes=[high - low for low, high in pairwise(offsets)],
            edges_per_node=edges_per_node,
            mask=selectable.to(device),
            keep_value=keep_value,
            generator=None if seed is None else torch.Generator().manual_seed(seed),
        )
        if not self._optimizer.param_groups[0]["adam"] and tuple(betas) != _BETAS:
            raise ValueError(f"expected no betas with preset {preset!r}, whose step is plain, got {betas!r}")
        self._gates: Gates | None = None

    def propose(self) -> Gates:
        if self._gates is None:
            self._gates = self._optimizer.gates()[0]
        return self._gates

    def step(self, loss_fn: LossFn) -> Tensor:
        loss, self._a.grad = gates_gradient(loss_fn, self.propose())
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._gates = None
        self.propose()
        return loss

    def best(self) -> Gates:
        return self.propose()

    def scores(self) -> Tensor:
        return self._a.detach().clone()

    @property
    def optimizer(self) -> NASP:
        """The optimizer that holds A, e.g. for a learning rate scheduler."""
        return self._optimizer

    def state_dict(self) -> dict[str, Any]:
        return {"a": self._a.detach().clone(), "optimizer": copy.deepcopy(self._optimizer.state_dict())}

    def check_state(self, state: dict[str, Any], steps: int | None = None) -> None:
        check_keys(state, self.state_dict(), "the state")
        check_matrix(state["a"], self._a, "a")
        if steps and not bool(((state["a"] >= 0) & (state["a"] <= 1)).all()):
            raise ValueError("expected a to hold numbers in [0, 1], where each step leaves it, found others")
        own, found = self._optimizer.state_dict(), state["optimizer"]
        check_keys(found, own, "optimizer")
        check_groups(found["param_groups"], own["param_groups"], "optimizer.param_groups")
        if (found["generator"] is None) != (own["generator"] is None):
            has, needs = ("no", "a") if found["generator"] is None else ("a", "no")
            raise ValueError(f"expected optimizer with {needs} tie-break generator, found {has} one")
        seeded = found["generator"] is not None
        if seeded:
            check_generator(found["generator"], "optimizer.generator")
        # A is the only matrix; there is nothing of it before the first selection.
        check_keys(found["state"], [0] if steps else [], "optimizer.state", optional=[0])
        if found["state"]:
            self._check_entry(found["state"][0], "optimizer.state[0]", seeded)

    def _check_entry(self, found: Any, name: str, seeded: bool) -> None:
        """What the optimizer keeps of A: the number of steps, the seed of its ties, from the first step on
        the moments if it is Adam."""
        counted, moments = {"step", "tie_seed"}, {"exp_avg": None, "exp_avg_sq": 0.0}
        check_keys(found, counted, name, optional=moments)
        check_number(found["step"], place(name, "step"), 0, 2**53, whole=True)
        if seeded:
            check_number(found["tie_seed"], place(name, "tie_seed"), 0, 2**63 - 1, whole=True)
        elif found["tie_seed"] is not None:
            raise ValueError(f"expected {place(name, 'tie_seed')} to be None without a generator, found one")
        adam = self._optimizer.param_groups[0]["adam"] and found["step"] > 0
        check_keys(found, [*counted, *(moments if adam else ())], name)
        for moment, low in moments.items() if adam else ():
            check_tensor(found[moment], self._a.detach(), place(name, moment), low)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.check_state(state)
        self._optimizer.load_state_dict(state["optimizer"])  # before A: it has more to refuse
        with torch.no_grad():
            self._a.copy_(state["a"])
        self._gates = None
