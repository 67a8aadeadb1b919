# SPDX-License-Identifier: MIT
"""The steps of architecture matrices: each is checked in full, or repeats one that was."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from nasp_ext.optim.costs import RelativeCosts, Seen
from nasp_ext.optim.groups import check_options, check_parameter, check_tables
from nasp_ext.optim.moments import Moments, check_count, check_gradient, check_memory, fitted_moments
from nasp_ext.optim.selection import STARTED, Selection
from nasp_ext.optim.ties import TieBreaks
from nasp_ext.optim.undo import Undo

Matrix = tuple[dict[str, Any], Tensor, dict[str, Any], int]


class Stepper:
    """Knows the present Ā of each matrix. A matrix is given as its group, itself, its state and its number.

    Args:
        ties: what breaks exact ties.
    """

    def __init__(self, ties: TieBreaks) -> None:
        self.ties = ties
        self._selections: dict[Tensor, Selection] = {}
        self._costs = RelativeCosts()
        self._tables: dict[Tensor, tuple[Seen, Seen]] = {}  # mask and cost that were checked
        self._idle = 0  # steps without a gradient
        self._still: dict[Tensor, int] = {}  # steps along gradients of zeros

    def trust(self, group: dict[str, Any], p: Tensor) -> None:
        """Remember that the entries of mask and cost were looked at: on a GPU that is a wait."""
        self._tables[p] = Seen(group["mask"]), Seen(group["cost"])

    def update_all(self, matrices: list[Matrix]) -> None:
        """A step of each of them; none has changed if one is refused."""
        for matrix in matrices:
            if matrix[1].device.type != "cpu":  # there a step that has begun is never refused
                self._check(*matrix[:3])
        ties, undos = self.ties.state(), []
        try:
            for matrix in sorted(matrices, key=lambda m: m[1].device.type != "cpu"):
                if matrix[1].device.type == "cpu":
                    undos.append((matrix[1], Undo(*matrix[1:3])))
                self.update(*matrix)
        except BaseException:
            for p, undo in undos:
                undo()
                self._selections.pop(p, None)
            self.ties.restore(ties)
            raise

    def update(self, group: dict[str, Any], p: Tensor, state: dict[str, Any], number: int) -> None:
        """A step of one; it has not changed if the step is refused."""
        grad, ties, fresh = p.grad, self.ties.state() if self.ties.drawn else None, not state
        assert grad is not None
        try:
            moments: Moments = state.get("exp_avg"), state.get("exp_avg_sq")
            cost = self._costs.last(p) if group["eta"] else None
            selection = self._selections.get(p)
            usual = selection is not None and selection.repeats(group, p, grad, *moments, cost)
            if selection is None or not usual:
                selection, moments, cost = self._prepare(group, p, state, number)
            step, seed = state["step"] + 1, self.ties.next(state["tie_seed"])
            moves = selection.step(group, p, grad, moments, cost, step, self.ties.of(seed))
            if moves is None:  # A, mask or costs were changed behind their version counters
                selection, moments, cost = self._prepare(group, p, state, number)
                moves = selection.step(group, p, grad, moments, cost, step, self.ties.of(seed))
        except BaseException as error:
            self.ties.restore(ties)
            if fresh:
                state.clear()
            if isinstance(error, Exception):
                self._check(group, p, state)  # what was spoilt since, in its own words
            raise
        if not usual and group["adam"]:
            state["exp_avg"], state["exp_avg_sq"] = moments
        state["step"], state["tie_seed"] = step, seed
        if not moves and step <= STARTED:
            self._note_still(group, p)

    def _check(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        """Raise for all that a step cannot be made of, but for the entries of A, gradient and moments."""
        check_options(group)
        check_parameter(p, group)
        check_memory(p, "an architecture matrix")
        self._check_tables(group, p)
        check_gradient(p)
        if state:
            check_count(state)
            self.ties.check_seed(state.get("tie_seed"))
            fitted_moments(state, p, group["adam"])

    def _check_tables(self, group: dict[str, Any], p: Tensor) -> None:
        """Raise for entries of mask and cost that cannot be, unless they are those that were checked."""
        checked = self._tables.get(p)
        if checked is None or not (checked[0].holds(group["mask"]) and checked[1].holds(group["cost"])):
            check_tables(p, group)
            self.trust(group, p)

    def _prepare(
        self, group: dict[str, Any], p: Tensor, state: dict[str, Any], number: int
    ) -> tuple[Selection, Moments, Tensor | None]:
        """What a step needs if something is not as in the last one."""
        self._check(group, p, state)
        grad, cost = p.grad, self._costs(group, p) if group["eta"] else None
        assert grad is not None
        selection = self._selections.get(p)
        known = selection is not None and selection.fits(p) and selection.knows_mask(group)
        if selection is None or cost is not None or not known:
            selection = self.select(group, p, state, number)
        self._begin(state, number)
        moments = fitted_moments(state, p, group["adam"])
        selection.prepare(group, p, grad, moments, cost, None if cost is None else self._costs.seen(p))
        return selection, moments, cost

    def select(self, group: dict[str, Any], p: Tensor, state: dict[str, Any], number: int) -> Selection:
        """The present Ā: from the last step, or made anew if A, its mask or its options changed since."""
        check_memory(p, "an architecture matrix")
        selection = self._selections.get(p)
        if selection is None or not selection.holds(group, p):
            self._check_tables(group, p)
            self._begin(state, number)
            seed = self.ties.of(state["tie_seed"])
            selection = self._selections[p] = Selection(group, p, seed)
        return selection

    def _begin(self, state: dict[str, Any], number: int) -> None:
        if not state:
            state.update(step=0, tie_seed=self.ties.first(number))

    def note_idle(self, states: Iterable[dict[str, Any]]) -> None:
        """A step in which no matrix had a gradient: say so if it was the same in all of the first steps."""
        self._idle += 1
        if self._idle == STARTED and not any(state.get("step") for state in states):
            warnings.warn(
                f"no architecture matrix had a gradient in the first {STARTED} steps (all .grad are None): "
                "run forward and backward inside discrete(), on the tensors that NASP was given, and let "
                "them require a gradient",
                stacklevel=_level_of_the_caller(),
            )

    def _note_still(self, group: dict[str, Any], p: Tensor) -> None:
        """Say so if nothing has ever reached ``p``; the regulariser moves A on its own."""
        still = self._still[p] = self._still.get(p, 0) + 1
        if still == STARTED and not group["eta"] and p.numel():
            warnings.warn(
                f"the gradient of an architecture matrix, {tuple(p.shape)}, was exactly zero in its first "
                f"{STARTED} steps: nothing of the loss reaches it. If an option is `none`, pass "
                "options=(names of the options) or a mask= without it, so that no row selects it; if the "
                "matrix has no part in the loss, leave it out of NASP",
                stacklevel=_level_of_the_caller(),
            )


def _level_of_the_caller() -> int:
    """The ``stacklevel`` of who called ``step``: schedulers and hooks of PyTorch may be in between."""
    frame, level, between = sys._getframe(1), 1, ("nasp_ext.", "torch.")
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(between):
        frame, level = frame.f_back, level + 1
    return level
