# SPDX-License-Identifier: MIT
"""Language models of one recurrent layer: the supernet of a search and the derived network."""

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.checks import MOST_CHANNELS, MOST_CLASSES, check_whole
from nasp_ext.families.recurrent.cell import RANGE, RecurrentCell
from nasp_ext.families.recurrent.dropout import Dropouts, mask, times
from nasp_ext.families.recurrent.genotype import RecurrentGenotype
from nasp_ext.families.recurrent.space import RecurrentSpace
from nasp_ext.families.recurrent.wiring import Wiring, wiring_of_gates, wiring_of_genotype
from nasp_ext.nn.foreign import UnwrappedNames


class Reading(NamedTuple):
    """What a language model makes of a segment of text.

    Args:
        raw: (T, B, E) outputs of the recurrent layer; dropped: the same behind their dropout.
        hidden: the state behind the last word.
    """

    raw: Tensor
    dropped: Tensor
    hidden: Any


def shape_of(found: object) -> tuple[int, ...] | str:
    """Of a tensor; the type of what is none."""
    return tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__


def check_device(name: str, found: Tensor, x: Tensor) -> None:
    """Raise ValueError unless it is on the device of x."""
    if found.device != x.device:
        raise ValueError(f"expected {name} on {x.device}, as the network, got {found.device}")


def check_fits(name: str, state: Tensor, x: Tensor) -> None:
    """Raise ValueError unless a state has the device of x, and its dtype if autocast does not choose it."""
    check_device(name, state, x)
    if state.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(f"expected {name} of {x.dtype}, as the network, got {state.dtype}")


class LanguageModel(UnwrappedNames):
    """An embedding, a recurrent layer, and a decoder that shares the embedding's weights.

    Attributes: ``vocabulary``, ``embedding``; ``dropouts``, which may be set anew at any time; ``space`` of a
    supernet, else None; ``genotype`` of a derived network, else None.
    """

    def __init__(self, vocabulary: int, embedding: int, dropouts: Dropouts) -> None:
        super().__init__()
        check_whole("vocabulary", vocabulary, 1, MOST_CLASSES)
        check_whole("embedding", embedding, 1, MOST_CHANNELS)
        self.vocabulary, self.embedding, self.dropouts = vocabulary, embedding, dropouts
        self.space: RecurrentSpace | None = None
        self.genotype: AnyGenotype | None = None
        self.encoder = nn.Embedding(vocabulary, embedding)
        nn.init.uniform_(self.encoder.weight, -RANGE, RANGE)
        self.decoder = nn.Linear(embedding, vocabulary)
        self.decoder.weight = self.encoder.weight
        nn.init.zeros_(self.decoder.bias)

    @property
    def dropouts(self) -> Dropouts:
        """What is dropped in training; another one may be set at any time, TypeError if it is none."""
        return self._dropouts

    @dropouts.setter
    def dropouts(self, dropouts: Dropouts) -> None:
        if not isinstance(dropouts, Dropouts):
            raise TypeError(
                f"expected dropouts to be families.recurrent.dropout.Dropouts, got {type(dropouts).__name__}"
            )
        self._dropouts = dropouts

    def read(self, tokens: Tensor, gates: Gates | None = None, hidden: Any = None) -> Reading:
        """The outputs for a segment of text.

        Args:
            tokens: (T, B) int64, numbers of words; gates: the architecture, for a supernet only.
            hidden: the state behind the segment before, None = zeros.
        Raises:
            TypeError: tokens that are no tensor; ValueError: tokens, gates or a state of another form.
        """
        if not isinstance(tokens, Tensor):
            raise TypeError(f"expected tokens to be a tensor (T, B) int64, got {type(tokens).__name__}")
        if tokens.dim() != 2 or tokens.dtype != torch.int64 or not tokens.numel():
            raise ValueError(
                f"expected tokens (T, B) int64, one or more, got {tuple(tokens.shape)} of {tokens.dtype}"
            )
        drop = self.dropouts if self.training else Dropouts()
        embedded: Tensor = self.encoder(tokens)
        like, batch = self.encoder.weight, tokens.shape[1]
        words = mask(like, (self.vocabulary, 1), drop.dropoute)
        if words is not None:
            embedded = embedded * F.embedding(tokens, words)
        embedded = times(embedded, mask(like, (batch, self.embedding), drop.dropouti))
        raw, hidden = self._layer(embedded, gates, hidden, drop)
        return Reading(raw, times(raw, mask(raw, (batch, self.embedding), drop.dropout)), hidden)

    def decode(self, dropped: Tensor) -> Tensor:
        """(…, E) -> logits (…, V)."""
        logits: Tensor = self.decoder(dropped)
        return logits

    @abstractmethod
    def _layer(self, x: Tensor, gates: Gates | None, hidden: Any, drop: Dropouts) -> tuple[Tensor, Any]:
        """(T, B, E) -> (T, B, E) and the state behind it."""


class RecurrentNetwork(LanguageModel):
    """A language model of a recurrent cell: ``net(tokens, gates, hidden)``, or ``net(tokens, hidden)``.

    Built by ``supernet`` and ``derived_network``, whose space or genotype says what the cell computes.

    Args:
        of: the space of a supernet, or the genotype of a derived network.
        norm: a BatchNorm1d follows every state; coefficients: (P,) factors of the genotype's pairs.
    """

    coefficients: Tensor | None

    def __init__(
        self,
        of: RecurrentSpace | RecurrentGenotype,
        vocabulary: int,
        embedding: int,
        dropouts: Dropouts,
        *,
        norm: bool,
        coefficients: Tensor | None = None,
    ) -> None:
        super().__init__(vocabulary, embedding, dropouts)
        self.cell = RecurrentCell(embedding, of.steps, norm=norm)
        if isinstance(of, RecurrentSpace):
            self.space = of
        else:
            self.genotype = of
            if coefficients is not None and shape_of(coefficients) != (len(of.terms),):
                raise ValueError(
                    f"expected coefficients ({len(of.terms)},), one for each pair of the genotype, "
                    f"got {shape_of(coefficients)}"
                )
        self.register_buffer("coefficients", coefficients)

    def forward(self, tokens: Tensor, *arguments: Any, **named: Any) -> tuple[Tensor, Tensor]:
        """(T, B) int64 -> logits (T, B, V) and the hidden state (B, E).

        Args:    gates (a supernet alone), hidden: as ``read``.
        Raises:  ValueError: as ``read``; TypeError: another number of arguments.
        """
        reading = self.read(tokens, **self._arguments(*arguments, **named))
        return self.decode(reading.dropped), reading.hidden

    def _arguments(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        known = ("hidden",) if self.space is None else ("gates", "hidden")
        given = dict(zip(known, arguments, strict=False)) | named
        if len(arguments) > len(known) or len(given) < len(arguments) + len(named) or given.keys() - {*known}:
            raise TypeError(
                f"expected tokens and {', '.join(known)}, got {len(arguments)} and {[*named]} behind tokens"
            )
        return given

    def _layer(self, x: Tensor, gates: Gates | None, hidden: Any, drop: Dropouts) -> tuple[Tensor, Tensor]:
        size = (x.shape[1], self.embedding)
        if hidden is None:
            hidden = x.new_zeros(size)
        elif shape_of(hidden) != size:
            raise ValueError(f"expected a hidden state {size}, got {shape_of(hidden)}")
        check_fits("a hidden state", hidden, x)
        wiring = self._wired(gates)
        if wiring.weights is not None or wiring.gates is not None:
            weight = wiring.weights if wiring.gates is None else wiring.gates
            assert weight is not None
            check_device("gates", weight, x)
        masks = [mask(x, size, p) for p in (drop.dropoutx, drop.dropouth)]
        out: Tensor = self.cell(x, hidden, wiring, *masks)
        return out, out[-1]

    def _wired(self, gates: Gates | None) -> Wiring:
        if self.space is not None:
            return wiring_of_gates(self.space, gates)
        if gates is not None:
            raise ValueError("expected no gates for a derived network, got some: its architecture is fixed")
        assert isinstance(self.genotype, RecurrentGenotype)
        return wiring_of_genotype(self.genotype, self.coefficients)
