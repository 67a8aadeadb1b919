# SPDX-License-Identifier: MIT
"""PyTorch's LSTM in the place of a recurrent cell: the baseline of language models."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasp_ext.arch.family import Family
from nasp_ext.arch.gates import Gates
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.checks import MOST_CELLS, check_whole
from nasp_ext.families.recurrent.cell import RANGE
from nasp_ext.families.recurrent.dropout import Dropouts, mask, times
from nasp_ext.families.recurrent.network import LanguageModel, check_fits, shape_of


@dataclass(frozen=True)
class LSTMGenotype(AnyGenotype):
    """No cell that was searched but layers of ``torch.nn.LSTM``; two are about as large as a cell of 8 steps.

    Args:    layers: one on the other, all of the embedding's size.
    Raises:  TypeError, ValueError: another number of layers.
    """

    kind: ClassVar[str] = "lstm"
    layers: int = 2

    def __post_init__(self) -> None:
        check_whole("layers", self.layers, 1, MOST_CELLS)

    @property
    def operations(self) -> tuple[str, ...]:
        return ("lstm",) * self.layers

    def counts(self) -> dict[str, int]:
        """What a history counts: nothing, for nothing was chosen."""
        return {}

    def to_json(self) -> str:
        return json.dumps({"kind": self.kind, "layers": self.layers})


LSTM = LSTMGenotype()


class LSTMNetwork(LanguageModel):
    """A language model of LSTM layers, called ``net(tokens, hidden)``; dropouth falls between the layers.

    The state is a pair (h, c) of (layers, B, E) each.
    """

    def __init__(self, genotype: LSTMGenotype, vocabulary: int, embedding: int, dropouts: Dropouts) -> None:
        super().__init__(vocabulary, embedding, dropouts)
        self.genotype = genotype
        self.layers = nn.ModuleList(nn.LSTM(embedding, embedding) for _ in range(genotype.layers))
        for parameter in self.layers.parameters():
            nn.init.uniform_(parameter, -RANGE, RANGE)

    def forward(self, tokens: Tensor, hidden: Any = None) -> tuple[Tensor, Any]:
        """(T, B) int64 -> logits (T, B, V) and the state."""
        reading = self.read(tokens, hidden=hidden)
        return self.decode(reading.dropped), reading.hidden

    def _layer(self, x: Tensor, gates: Gates | None, hidden: Any, drop: Dropouts) -> tuple[Tensor, Any]:
        if gates is not None:
            raise ValueError("expected no gates for a derived network, got some: its architecture is fixed")
        size = (x.shape[1], self.embedding)
        zeros = x.new_zeros((len(self.layers), *size))
        state = (zeros, zeros) if hidden is None else hidden
        if not isinstance(state, tuple | list):
            raise ValueError(f"expected a state of two {tuple(zeros.shape)}, got {type(state).__name__}")
        found = [shape_of(part) for part in state]
        if found != [tuple(zeros.shape)] * 2:
            raise ValueError(
                f"expected a state of two {tuple(zeros.shape)}, got {' and '.join(map(str, found))}"
            )
        h, c = state
        check_fits("a state", h, x)
        check_fits("a state", c, x)
        x = times(x, mask(x, size, drop.dropoutx))
        states = []
        for number, layer in enumerate(self.layers):
            if number:
                x = times(x, mask(x, size, drop.dropouth))
            x, state = layer(x, (h[number : number + 1].contiguous(), c[number : number + 1].contiguous()))
            states.append(state)
        after = tuple(torch.cat([state[part] for state in states]) for part in (0, 1))
        return x, after


class LSTMFamily(Family):
    """LSTM layers, for comparison; no space has them."""

    kind: ClassVar[str] = "lstm"

    @property
    def published(self) -> Mapping[str, AnyGenotype]:
        return {"LSTM": LSTM}

    def supernet(self, space: Any, *sizes: Any, **options: Any) -> nn.Module:
        raise TypeError("expected a space to search, got LSTM layers, which are none")

    def derived(
        self,
        genotype: LSTMGenotype,
        vocabulary: int,
        embedding: int = 850,
        *,
        dropout: float = 0.0,
        dropouth: float = 0.0,
        dropoutx: float = 0.0,
        dropouti: float = 0.0,
        dropoute: float = 0.0,
    ) -> LSTMNetwork:
        """See ``nasp_ext.derived_network``."""
        drop = Dropouts(dropout, dropouth, dropoutx, dropouti, dropoute)
        return LSTMNetwork(genotype, vocabulary, embedding, drop)

    def derive(self, supernet: Any, gates: Gates, *, inherit_weights: bool) -> nn.Module:
        raise TypeError("expected a supernet to derive from, got LSTM layers")

    def drawings(self, genotype: LSTMGenotype) -> dict[str, str]:
        return {}

    def read(self, data: Mapping[str, Any]) -> AnyGenotype:
        if set(data) - {"layers"}:
            raise ValueError(f"expected the fields layers of an LSTM, got {', '.join(map(str, data))}")
        return LSTMGenotype(**data)
