# SPDX-License-Identifier: MIT
"""What strategies share that hold one matrix A and move it along the gradient of its gates."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from nasp_ext import ops
from nasp_ext.arch.gates import Gates
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.optim.selection import kept_rows
from nasp_ext.states import check_keys, check_optimizer, check_tensor
from nasp_ext.strategies.base import LossFn, Strategy


def kept_edges(space: SearchSpace, edges_per_node: int | str | None) -> int | None:
    """Rows kept per node: the number given, None for all, or with "preset" the space's own.

    Raises:  ValueError: anything else.
    """
    keep = space.edges_per_node if edges_per_node == "preset" else edges_per_node
    if keep is not None and (not isinstance(keep, int) or keep < 1):
        raise ValueError(f"expected edges_per_node to be None, 'preset' or a number >= 1, got {keep!r}")
    return keep


def selected(
    a: Tensor,
    space: SearchSpace,
    edges_per_node: int | None,
    mask: Tensor,
    *,
    keep_value: bool = False,
    generator: torch.Generator | None = None,
) -> Gates:
    """Discrete gates at ``a``, as ``ops.select_active`` makes them; one device-to-host copy."""
    weight, active = ops.select_active(
        a, space.node_offsets, edges_per_node, mask=mask, keep_value=keep_value, generator=generator
    )
    host = (kept_rows(weight, active) if keep_value else active).tolist()
    ops.check_selection(host)
    return Gates(weight, tuple(host), unit=not keep_value)


def check_matrix(found: Any, expected: Tensor, name: str) -> None:
    """Raise ValueError unless ``found`` may stand in the place of the architecture matrix ``expected``."""
    if isinstance(found, Tensor) and found.shape != expected.shape:
        raise ValueError(
            f"expected the state of a {tuple(expected.shape)} architecture matrix, found "
            f"{tuple(found.shape)}: it is of another search space"
        )
    check_tensor(found, expected.detach(), name)


class MatrixStrategy(Strategy):
    """A (R, K), a PyTorch optimizer that holds it, and the gates that follow from it.

    Subclasses say how gates come from A and how A follows the gradient.

    Args:
        a: the matrix to start from; it is the only parameter of ``optimizer``.
    """

    needs_gradient = True

    def __init__(self, a: Tensor, optimizer: torch.optim.Optimizer) -> None:
        self._a, self._optimizer = a, optimizer
        self._gates: Gates | None = None

    @abstractmethod
    def _proposal(self) -> Gates:
        """The gates of the present A."""

    @abstractmethod
    def _move(self, loss_fn: LossFn) -> tuple[Tensor, Tensor]:
        """The detached loss at the proposal, and the gradient of A, (R, K)."""

    def _project_(self) -> None:
        """Put A back where it may be, after a step of the optimizer."""

    def propose(self) -> Gates:
        if self._gates is None:
            self._gates = self._proposal()
        return self._gates

    def step(self, loss_fn: LossFn) -> Tensor:
        loss, self._a.grad = self._move(loss_fn)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._project_()
        self._gates = None
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"a": self._a.detach().clone(), "optimizer": copy.deepcopy(self._optimizer.state_dict())}

    def check_state(self, state: dict[str, Any], steps: int | None = None) -> None:
        check_keys(state, self.state_dict(), "the state")
        check_matrix(state["a"], self._a, "a")
        adam = isinstance(self._optimizer, torch.optim.Adam)
        slots: dict[str, float | None] = {"step": None, "exp_avg": None, "exp_avg_sq": 0.0} if adam else {}
        parameters = sum(len(group["params"]) for group in self._optimizer.param_groups)
        needed = range(parameters if adam and steps else 0)
        check_optimizer(state["optimizer"], self._optimizer, "optimizer", slots, needed)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.check_state(state)
        with torch.no_grad():
            self._a.copy_(state["a"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._gates = None
