# SPDX-License-Identifier: MIT
"""A recurrent cell of any wiring: of a supernet another one at each call, of a derived network the same."""

import torch
from torch import Tensor, nn

from nasp_ext.families.recurrent.dropout import times
from nasp_ext.families.recurrent.native import Layers, run_native, why_plain
from nasp_ext.families.recurrent.plain import run_plain
from nasp_ext.families.recurrent.wiring import Wiring
from nasp_ext.nn.fused.policy import Fusion

RANGE = 0.04  # of the uniform start values, as in Liu et al. 2019


class RecurrentCell(nn.Module):
    """All time steps of a recurrent cell whose steps 1 … N have one product each, whatever they read.

    With [c; h] = x_t W0[:E] + h_(t-1) W0[E:] state 0 is h_(t-1) + sigmoid(c) (tanh(h) - h_(t-1)), and with
    [c; h] = s_j W_i step i adds up s_j + sigmoid(c) (f(h) - s_j) over its predecessors j and activations f
    (Liu et al. 2019; Yao et al. 2020, section 4.2). The mean of some states is the new hidden state.

    Args:
        size: E, of inputs, states and the hidden state; steps: N.
        norm: a BatchNorm1d(affine=False) follows every state, as in a search, always with the statistics of
            the batch. Liu et al. 2019 evaluate with running statistics of all states together: they are none
            of any state, and most cells at one-hot gates grow without bound then.
    """

    def __init__(self, size: int, steps: int, *, norm: bool) -> None:
        super().__init__()
        self.size, self.steps = size, steps
        self.entry = nn.Parameter(torch.empty(2 * size, 2 * size).uniform_(-RANGE, RANGE))
        self.weights = nn.ParameterList(
            torch.empty(size, 2 * size).uniform_(-RANGE, RANGE) for _ in range(steps)
        )
        self.norm = nn.BatchNorm1d(size, affine=False, track_running_stats=False) if norm else None
        self._fusion = Fusion()

    def forward(
        self,
        x: Tensor,
        hidden: Tensor,
        wiring: Wiring,
        input_mask: Tensor | None = None,
        hidden_mask: Tensor | None = None,
    ) -> Tensor:
        """(T, B, E) -> the hidden states (T, B, E).

        Args:
            hidden: (B, E) before the first time step; wiring: of the N steps.
            input_mask, hidden_mask: (B, E) factors of the inputs, and of the hidden state and every state in
                front of their products; None = 1.
        Raises:  ValueError: the weights have other shapes, or there is not one for each step of the wiring.
        """
        whole, weights = self.entry, list(self.weights)  # once: a parametrization makes others each time
        self._check(whole, weights, wiring)
        projected = times(x, input_mask) @ whole[: self.size]
        arguments = (projected, hidden, wiring, hidden_mask, whole[self.size :], weights)
        if why_plain(self, *arguments) is None:
            return run_native(self, *arguments)
        return run_plain(*arguments, self._normed)

    def _check(self, entry: Tensor, weights: list[Tensor], wiring: Wiring) -> None:
        """Refuse weights that were replaced by others, which would be broadcast or left out."""
        size, found = self.size, [tuple(t.shape) for t in (entry, *weights)]
        if found != [(2 * size, 2 * size)] + [(size, 2 * size)] * wiring.steps:
            raise ValueError(
                f"expected an entry {(2 * size, 2 * size)} and {wiring.steps} weights {(size, 2 * size)}, "
                f"got {', '.join(map(str, found))}"
            )

    def _normed(self, state: Tensor) -> Tensor:
        out: Tensor = state if self.norm is None else self.norm(state)
        return out

    def _plan(self) -> Layers:
        """Raises NotFusedError."""
        return Layers(self)
