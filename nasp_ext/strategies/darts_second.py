# SPDX-License-Identifier: MIT
"""DARTS, second order: Liu, Simonyan & Yang, ICLR 2019, eq. 6-8 (one unrolled step of the weights)."""

from __future__ import annotations

from torch import Tensor

from nasp_ext.arch.gates import Gates
from nasp_ext.strategies.base import LossFn
from nasp_ext.strategies.darts import DARTSStrategy
from nasp_ext.strategies.gradients import unrolled_gradient


class SecondOrderDARTSStrategy(DARTSStrategy):
    """As ``DARTSStrategy``, with the gradient of L_val(w - ξ ∇_w L_train(w, A), A).

    ``step`` needs a loss function with ``unrolled_gradient``, as a search has one, and returns L_val after
    the virtual step.
    """

    def _gates_gradient(self, loss_fn: LossFn, gates: Gates) -> tuple[Tensor, Tensor]:
        return unrolled_gradient(loss_fn, gates)
