# SPDX-License-Identifier: MIT
"""Recurrent cells in plain PyTorch (Liu et al. 2019): the mixture of all options, and one architecture.

They name their parts as ``nasp_ext`` does, so that state_dicts fit and results can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Term = tuple[int, int, str]  # step from 1, predecessor, activation

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda h: h,
}
OPTIONS = ("none", *FUNCTIONS)  # columns of A
DROPOUTS = {"dropout": 0.75, "dropoutx": 0.75, "dropouth": 0.25, "dropouti": 0.2}  # of the papers' search
_BETA = 1e-3  # weight of the mean square of what the hidden state moves in a time step


class Batch(NamedTuple):
    """A sequence.

    Args:
        inputs: (T, B, E), or (T, B) words; targets: (T, B, E) factors of the outputs in the loss, or words.
        hidden: (B, E) before the first time step.
        masks: (B, E) each, factors of the inputs and of what enters the other products; of a cell alone.
    """

    inputs: Tensor
    targets: Tensor
    hidden: Tensor
    masks: tuple[Tensor | None, Tensor | None] = (None, None)


class PlainCell(nn.Module):
    """The weights of a cell: one product for the inputs and the hidden state, one for each step."""

    def __init__(self, size: int, steps: int, *, norm: bool = True) -> None:
        super().__init__()
        self.size, self.steps = size, steps
        self.entry = nn.Parameter(torch.empty(2 * size, 2 * size).uniform_(-0.04, 0.04))
        self.weights = nn.ParameterList(
            torch.empty(size, 2 * size).uniform_(-0.04, 0.04) for _ in range(steps)
        )
        # As in ours without running statistics, which cost the authors' form a little more.
        own = nn.BatchNorm1d(size, affine=False, track_running_stats=False)
        self.norm = own if norm else nn.Identity()


class MixedCell(PlainCell):
    """Σ_j Σ_f a_f^(j,i) (s_j + σ(c)(f(h) − s_j)), time step by time step, as its authors run it.

    All predecessors of a step go through its product and through each activation together; `none` is passed
    over.
    """

    def forward(
        self,
        x: Tensor,
        hidden: Tensor,
        mixture: Tensor,
        input_mask: Tensor | None,
        hidden_mask: Tensor | None,
    ) -> Tensor:
        """(T, B, E) -> (T, B, E). Args: mixture: (R, K), what each option counts."""
        outputs = []
        for entered in x:
            hidden = self._step(_times(entered, input_mask), hidden, mixture, hidden_mask)
            outputs.append(hidden)
        return torch.stack(outputs)

    def _step(self, x: Tensor, hidden: Tensor, mixture: Tensor, mask: Tensor | None) -> Tensor:
        c, h = (torch.cat((x, _times(hidden, mask)), -1) @ self.entry).chunk(2, -1)
        states = self.norm(hidden + c.sigmoid() * (h.tanh() - hidden))[None]
        first = 0
        for weight in self.weights:
            count = len(states)
            rows = mixture[first : first + count]
            first += count
            c, h = (_times(states, mask) @ weight).chunk(2, -1)
            gate = c.sigmoid()
            total = torch.zeros_like(hidden)
            for option, name in enumerate(OPTIONS):
                if name != "none":
                    sent = states + gate * (FUNCTIONS[name](h) - states)
                    total = total + (rows[:, option, None, None] * sent).sum(0)
            states = torch.cat((states, self.norm(total)[None]))
        hidden = states[1:].mean(0)
        return hidden


class OneHotCell(PlainCell):
    """One architecture with one predecessor for each step: only what it chose runs.

    The products of the inputs are one for all time steps.
    """

    def __init__(self, size: int, terms: Sequence[Term], *, norm: bool = True) -> None:
        super().__init__(size, len(terms), norm=norm)
        self.chosen = [(source, FUNCTIONS[name]) for _, source, name in sorted(terms)]

    def forward(
        self, x: Tensor, hidden: Tensor, input_mask: Tensor | None, hidden_mask: Tensor | None
    ) -> Tensor:
        """(T, B, E) -> (T, B, E)."""
        outputs = []
        from_hidden = self.entry[self.size :]
        for projected in (_times(x, input_mask) @ self.entry[: self.size]).unbind():
            c, h = torch.addmm(projected, _times(hidden, hidden_mask), from_hidden).chunk(2, -1)
            states = [self.norm(torch.lerp(hidden, h.tanh(), c.sigmoid()))]
            masked: dict[int, Tensor] = {}
            for (source, function), weight in zip(self.chosen, self.weights, strict=True):
                if source not in masked:
                    masked[source] = _times(states[source], hidden_mask)
                c, h = (masked[source] @ weight).chunk(2, -1)
                states.append(self.norm(torch.lerp(states[source], function(h), c.sigmoid())))
            hidden = torch.stack(states[1:]).mean(0)
            outputs.append(hidden)
        return torch.stack(outputs)


class LSTMCell(nn.LSTM):
    """An LSTM of as many units as the cells, called as they are."""

    def __init__(self, size: int) -> None:
        super().__init__(size, size)

    def forward(  # type: ignore[override]  # that of a cell
        self, x: Tensor, hidden: Tensor, input_mask: Tensor | None, hidden_mask: Tensor | None
    ) -> Tensor:
        out: Tensor = super().forward(_times(x, input_mask), (hidden[None], hidden[None]))[0]
        return out


class CellAlone(nn.Module):
    """The loss of a cell without words: Σ of its outputs times given factors."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, batch: Batch, *architecture: object) -> Tensor:
        out: Tensor = self.cell(batch.inputs, batch.hidden, *architecture, *batch.masks)
        return (out * batch.targets).sum()


class LanguageModel(nn.Module):
    """Embedding, cell and decoder, of which the first and the last share their weights; with its loss.

    Args:    dropout: with the dropouts of the papers' search, drawn for each sequence.
    """

    def __init__(self, cell: nn.Module, size: int, vocabulary: int, *, dropout: bool = True) -> None:
        super().__init__()
        self.cell, self.dropout = cell, dropout
        self.encoder = nn.Embedding(vocabulary, size)
        nn.init.uniform_(self.encoder.weight, -0.04, 0.04)
        self.decoder = nn.Linear(size, vocabulary)
        self.decoder.weight = self.encoder.weight

    def forward(self, batch: Batch, *architecture: object) -> Tensor:
        """Cross-entropy of the next words, and what a moving hidden state costs."""
        names = ("dropouti", "dropoutx", "dropouth", "dropout")
        embedding, *masks, output = [self._mask(batch.hidden, name) for name in names]
        embedded = _times(self.encoder(batch.inputs), embedding)
        out: Tensor = self.cell(embedded, batch.hidden, *architecture, *masks)
        logits = self.decoder(_times(out, output))
        return language_loss(logits, batch.targets, out)

    def _mask(self, like: Tensor, name: str) -> Tensor | None:
        """Of a dropout: the same for all time steps of a sequence."""
        kept = 1 - DROPOUTS[name]
        return torch.empty_like(like).bernoulli_(kept).div_(kept) if self.dropout else None


def language_loss(logits: Tensor, words: Tensor, out: Tensor) -> Tensor:
    """Of logits (T, B, V) for the next words (T, B), and of hidden states (T, B, E) that move."""
    moved = (out[1:] - out[:-1]).square().mean()
    return cross_entropy(logits.flatten(0, 1), words.flatten()) + _BETA * moved


def _times(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask
