# SPDX-License-Identifier: MIT
"""Dropout with one mask for all steps of a sequence (Gal & Ghahramani 2016; Merity et al. 2018)."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from nasp_ext.checks import check


@dataclass(frozen=True)
class Dropouts:
    """What is dropped in training, by the names of the field.

    Args:
        dropout: of the output of the cell.
        dropouth: of the hidden state and of every state of a step, in front of its product.
        dropoutx: of the input of the cell; dropouti: of the embedded words.
        dropoute: whole words of the embedding.
    Raises:
        ValueError: a probability outside [0, 1).
    """

    dropout: float = 0.0
    dropouth: float = 0.0
    dropoutx: float = 0.0
    dropouti: float = 0.0
    dropoute: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            check(number and 0 <= value < 1, field.name, "in [0, 1)", value)


def mask(like: Tensor, size: tuple[int, ...], probability: float) -> Tensor | None:
    """0 with this probability, else 1 / (1 - probability), of this size; None where nothing is dropped."""
    if probability == 0:
        return None
    kept = torch.bernoulli(torch.empty(size, dtype=like.dtype, device=like.device), 1 - probability)
    return kept / (1 - probability)


def times(x: Tensor, factors: Tensor | None) -> Tensor:
    """x times a mask."""
    return x if factors is None else x * factors
