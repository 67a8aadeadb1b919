# SPDX-License-Identifier: MIT
"""The words of a corpus and their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from nasp_ext.checks import shown

END, UNKNOWN = "<eos>", "<unk>"  # the end of a line; every word that the vocabulary does not have


@dataclass(frozen=True)
class Vocabulary:
    """Different words, each with its place as its number.

    Args:
        words: with ``<eos>``, and with ``<unk>`` if there are texts with other words than these.
    Raises:
        ValueError: a word is there twice, or is none (empty, or with white space in it); there are fewer than
            two, or no ``<eos>``.

    >>> Vocabulary(("a", "<eos>")).numbers["<eos>"]
    1
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.words, tuple) or not all(isinstance(word, str) for word in self.words):
            raise TypeError(f"expected the words of a vocabulary as a tuple of str, got {shown(self.words)}")
        for word in self.words:
            if word.split() != [word]:
                raise ValueError(f"expected words without white space in a vocabulary, got {shown(word)}")
        if len(self.numbers) < len(self.words):
            twice = next(word for place, word in enumerate(self.words) if self.numbers[word] != place)
            raise ValueError(f"expected different words in a vocabulary, got {shown(twice)} twice")
        if END not in self.numbers or len(self.words) < 2:
            raise ValueError(
                f"expected a vocabulary of two words or more with {END}, the end of a line, "
                f"got {len(self.words)}: {shown(self.words[:8])}"
            )

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each word."""
        return {word: place for place, word in enumerate(self.words)}


class OpenNumbers(dict[str, int]):
    """Numbers of words, where a new word gets the next one: a vocabulary in order of first appearance."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


class ClosedNumbers(dict[str, int]):
    """Numbers of the words of a vocabulary; every other word is ``<unk>``.

    Raises:  KeyError: for another word, if the vocabulary has no ``<unk>``.
    """

    def __missing__(self, word: str) -> int:
        number = self.get(UNKNOWN)
        if number is None:
            raise KeyError(word)
        return number
