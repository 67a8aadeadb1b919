# SPDX-License-Identifier: MIT
"""A recurrent cell in PyTorch's operators, for every case that the native calls do not take."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nasp_ext.families.recurrent.activations import FUNCTIONS
from nasp_ext.families.recurrent.dropout import times
from nasp_ext.families.recurrent.wiring import Source, Wiring

Norm = Callable[[Tensor], Tensor]


def run_plain(
    projected: Tensor,
    hidden: Tensor,
    wiring: Wiring,
    mask: Tensor | None,
    entry: Tensor,
    weights: Sequence[Tensor],
    norm: Norm,
) -> Tensor:
    """The hidden states (T, B, E) of all time steps.

    Args:
        projected: (T, B, 2E), what the inputs add to the products of state 0.
        mask: (B, E) factors in front of every product, None = 1; entry: (E, 2E) for the hidden state.
        weights: (E, 2E) of each step; norm: follows every state.
    """
    if wiring.gates is not None:
        wiring = wiring.whole()
    factors = None if wiring.weights is None else wiring.weights.to(hidden.dtype)
    sources = wiring.sources
    outputs = []
    for step in projected.unbind():
        c, h = (step + times(hidden, mask) @ entry).chunk(2, -1)
        states = [norm(hidden + c.sigmoid() * (h.tanh() - hidden))]
        masked = [times(states[0], mask)]
        for weight, of_step in zip(weights, sources, strict=True):
            states.append(norm(_sum(states, masked, weight, of_step, factors)))
            masked.append(times(states[-1], mask))
        hidden = torch.stack([states[state] for state in wiring.concat]).mean(0)
        outputs.append(hidden)
    return torch.stack(outputs)


def _sum(
    states: list[Tensor],
    masked: list[Tensor],
    weight: Tensor,
    sources: tuple[Source, ...],
    factors: Tensor | None,
) -> Tensor:
    """What the predecessors of a step send, (B, E), before its norm."""
    if not sources:
        return torch.zeros_like(states[0])
    product = torch.cat([masked[source.state] for source in sources]) @ weight
    c, h = product.view(len(sources), -1, product.shape[-1]).chunk(2, -1)
    gate = c.sigmoid()
    before = torch.stack([states[source.state] for source in sources])
    if len({source.names for source in sources}) == 1:  # a mixture, or one activation for all
        return _mixed(before, gate, h, sources[0].names, _of(factors, [source.terms for source in sources]))
    parts = [
        _mixed(before[i : i + 1], gate[i : i + 1], h[i : i + 1], source.names, _of(factors, [source.terms]))
        for i, source in enumerate(sources)
    ]
    return torch.stack(parts).sum(0)


def _of(factors: Tensor | None, terms: list[tuple[int, ...]]) -> Tensor | None:
    """(predecessors, activations, 1, 1) of these terms."""
    if factors is None:
        return None
    return factors[torch.tensor(terms, device=factors.device)][..., None, None]


def _mixed(before: Tensor, gate: Tensor, h: Tensor, names: tuple[str, ...], factors: Tensor | None) -> Tensor:
    """Σ_j Σ_f a (s_j + σ(c) (f(h) - s_j)), (B, E).

    Args:    before, gate, h: (predecessors, B, E); factors: (predecessors, activations, 1, 1), None = 1.
    """
    sent: Tensor | None = None
    for number, name in enumerate(names):
        value = FUNCTIONS[name](h)
        value = value if factors is None else factors[:, number] * value
        sent = value if sent is None else sent + value
    assert sent is not None
    kept = before * len(names) if factors is None else factors.sum(1) * before
    return (kept + gate * (sent - kept)).sum(0)
