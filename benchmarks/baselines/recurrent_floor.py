# SPDX-License-Identifier: MIT
"""The matrix products of the steps of a recurrent cell and nothing else, into memory that is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.baselines.recurrent import Term


class Products:
    """Which products there are, in units of B·E·2E for each time step, N steps of one predecessor each.

    Forward N + 2, of which the inputs' is one call for all time steps. Weight step: again as many for the
    gradients of what entered, and as many for those of the weights, each of these one call. Architecture
    step: N + 1 for the gradients of what entered, and one call for each pair of states that was not chosen.

    Args:
        terms: of the architecture; length, batch, size: T, B, E; vocabulary: of the decoder, 0 = none.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        length: int,
        batch: int,
        size: int,
        vocabulary: int,
        device: str,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        def made(*shape: int) -> Tensor:
            return torch.full(shape, 0.01, dtype=dtype, device=device)

        steps = len(terms)
        self.in_search = True
        self.sources = [source for _, source, _ in sorted(terms)]
        self.others = [(i, j) for i in range(steps) for j in range(i + 1) if j != self.sources[i]]
        self.x, self.grad_x = made(length * batch, size), made(length * batch, size)
        self.states, self.grad_states = made(steps + 1, length, batch, size), made(steps, batch, size)
        self.hidden, self.grad_hidden = made(length, batch, size), made(batch, size)
        self.entry = made(2, size, 2 * size)  # of the inputs and of the hidden state
        self.weights = made(steps, size, 2 * size)
        self.grad_entry, self.grad_weights = torch.empty_like(self.entry), torch.empty_like(self.weights)
        self.projected = made(length * batch, 2 * size)
        self.products = made(steps + 1, length, batch, 2 * size)
        self.grad_products = made(steps + 1, length, batch, 2 * size)
        self.scratch = made(length * batch, 2 * size)
        self.decoder, self.grad_decoder = made(vocabulary, size), made(vocabulary, size)
        self.logits = made(length * batch, vocabulary)
        # The views are made once, as a step in C++ has only pointers.
        self._forward = [
            [(self.hidden[t], self.entry[1], self.products[0, t])]
            + [
                (self.states[source, t], self.weights[i], self.products[i + 1, t])
                for i, source in enumerate(self.sources)
            ]
            for t in range(length)
        ]
        self._backward = [
            [
                (self.grad_products[i + 1, t], self.weights[i].t(), self.grad_states[i])
                for i in reversed(range(steps))
            ]
            + [(self.grad_products[0, t], self.entry[1].t(), self.grad_hidden)]
            for t in reversed(range(length))
        ]

    @property
    def phases(self) -> dict[str, Callable[[], object]]:
        """What is timed."""
        search = {"architecture step": self.architecture_step} if self.in_search else {}
        return {**search, "weight step": self.weight_step}

    @torch.no_grad()
    def architecture_step(self) -> None:
        self._run_forward()
        if len(self.decoder):
            torch.mm(self.logits, self.decoder, out=self.grad_x)
        for calls in self._backward:
            for left, right, out in calls:
                torch.mm(left, right, out=out)
        for i, j in self.others:
            torch.mm(self.states[j].flatten(0, 1), self.weights[i], out=self.scratch)

    @torch.no_grad()
    def weight_step(self) -> None:
        self._run_forward()
        if len(self.decoder):
            torch.mm(self.logits, self.decoder, out=self.grad_x)
            torch.mm(self.logits.t(), self.x, out=self.grad_decoder)
        for calls in self._backward:
            for left, right, out in calls:
                torch.mm(left, right, out=out)
        of_entry = self.grad_products[0].flatten(0, 1)
        torch.mm(of_entry, self.entry[0].t(), out=self.grad_x)
        for number, entered in enumerate((self.x, self.hidden.flatten(0, 1))):
            torch.mm(entered.t(), of_entry, out=self.grad_entry[number])
        for i, source in enumerate(self.sources):
            entered, grad = self.states[source].flatten(0, 1), self.grad_products[i + 1].flatten(0, 1)
            torch.mm(entered.t(), grad, out=self.grad_weights[i])

    def _run_forward(self) -> None:
        torch.mm(self.x, self.entry[0], out=self.projected)
        for calls in self._forward:
            for left, right, out in calls:
                torch.mm(left, right, out=out)
        if len(self.decoder):
            torch.mm(self.x, self.decoder.t(), out=self.logits)
