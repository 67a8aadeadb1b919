# SPDX-License-Identifier: MIT
"""A corpus in memory: the numbers of its words, and nothing else of the texts."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nasp_ext.checks import checked
from nasp_ext.tasks.language.vocabulary import Vocabulary

PARTS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text to train on, one to validate with, one to test on, and the words they are made of.

    Args:
        name: what reports call it.
        vocabulary: the words.
        train, valid, test: (N,) int32, numbers of words.
    Raises:
        TypeError: a part is no such tensor, or the name or the vocabulary is none.
        ValueError: a part is shorter than two words, or has a number that no word has.

    >>> words = Vocabulary(("to", "be", "<eos>"))
    >>> text = torch.tensor([0, 1, 2], dtype=torch.int32)
    >>> Corpus("bard", words, text, text, text).sentence("train", 2)
    'to be'
    """

    name: str
    vocabulary: Vocabulary
    train: Tensor
    valid: Tensor
    test: Tensor

    def __post_init__(self) -> None:
        checked("the name of a corpus", self.name, str)
        checked("the vocabulary of a corpus", self.vocabulary, Vocabulary)
        for part in PARTS:
            ids, where = self.part(part), f"{self.name}, {part} part"
            check_ids(where, ids)
            if len(ids) < 2:
                raise ValueError(f"{where}: expected two words or more, got {len(ids)}")
            low, high = int(ids.min()), int(ids.max())
            if low < 0 or high >= len(self.vocabulary):
                raise ValueError(
                    f"{where}: expected numbers in [0, {len(self.vocabulary)}), found {low} to {high}"
                )

    def part(self, part: str) -> Tensor:
        """The numbers (N,) int32 of "train", "valid" or "test"."""
        if part not in PARTS:
            raise ValueError(f"expected part train, valid or test, got {part!r}")
        ids: Tensor = getattr(self, part)
        return ids

    def sentence(self, part: str, count: int) -> str:
        """The first ``count`` words of a part, to look at."""
        return " ".join(self.vocabulary.words[number] for number in self.part(part)[:count].tolist())


def check_ids(where: str, ids: object) -> None:
    """Raise TypeError unless these are numbers of words (N,) int32."""
    if not isinstance(ids, Tensor) or ids.dtype != torch.int32 or ids.dim() != 1:
        kind = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise TypeError(f"{where}: expected numbers of words (N,) int32, got {kind}")


def as_tensor(numbers: array[int]) -> Tensor:
    """(N,) int32 in the memory of the array, if there is a number in it."""
    return torch.from_numpy(np.frombuffer(numbers, dtype=np.int32)) if numbers else torch.empty(0).int()
