# SPDX-License-Identifier: MIT
"""A small corpus that every Python brings along: the help texts of its language reference.

It is read where it is installed, and differs from one version of Python to the next, so perplexities of two
versions say nothing of each other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import import_module

from nasp_ext.tasks.language.corpus import PARTS, Corpus, as_tensor
from nasp_ext.tasks.language.text import Piece, encode
from nasp_ext.tasks.language.vocabulary import END, UNKNOWN, ClosedNumbers, Vocabulary

PYDOC = "pydoc"
NUMBER = "N"  # every number, as in the Penn Treebank of language models; other words are in lower case

_SHARES = {"train": 8, "valid": 1, "test": 1}
_AT_LEAST = 3  # times that a word of the vocabulary occurs in the training part
# A word (also __name__), a number, up to three times the same sign; longer runs are underlines and tables.
_WORD = re.compile(r"(?P<word>[^\W\d]\w*)|(?P<number>\d\w*(?:\.\w+)*)|(?P<sign>[^\w\s])(?P=sign)*")


def pydoc_corpus(vocabulary: Vocabulary | None = None, limit: int | None = None) -> Corpus:
    """The topics of ``pydoc``, about 100,000 words: 8/10 to train on, a tenth each to validate and test.

    Args:
        vocabulary: the words; None = ``<unk>`` and those that are three times or more in the training part.
        limit: at most this many words of each part.
    Raises:
        ValueError: this Python came without the texts, or has words that ``vocabulary`` does not have.
    """
    sentences = {part: list(_sentences(topics)) for part, topics in split(_topics()).items()}
    if vocabulary is None:
        counts = Counter(word for sentence in sentences["train"] for word in sentence)
        vocabulary = Vocabulary((UNKNOWN, END, *(word for word in counts if counts[word] >= _AT_LEAST)))
    numbers = ClosedNumbers(vocabulary.numbers)
    ids = {
        part: encode(
            (Piece(line, words, True) for line, words in enumerate(sentences[part], 1)),
            numbers,
            f"pydoc, {part} part",
            limit,
        )
        for part in PARTS
    }
    return Corpus(PYDOC, vocabulary, **{part: as_tensor(found) for part, found in ids.items()})


def split(topics: Mapping[str, str]) -> dict[str, list[str]]:
    """Whole topics for each part: the longest first, each to the part that lacks most of its share.

    >>> {part: len(texts) for part, texts in split({name: "a b c" for name in "abcdefghij"}).items()}
    {'train': 8, 'valid': 1, 'test': 1}
    """
    sizes = {name: sum(map(len, _sentences([topics[name]]))) for name in sorted(topics)}
    whole, shares = sum(sizes.values()), sum(_SHARES.values())
    lacking = {part: whole * share / shares for part, share in _SHARES.items()}
    part_of = {}
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        part_of[name] = max(PARTS, key=lacking.__getitem__)
        lacking[part_of[name]] -= sizes[name]
    return {part: [topics[name] for name in sizes if part_of[name] == part] for part in PARTS}


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, with signs as words of their own and one word for all numbers.

    >>> words_of("The value of x**2 == 3.5, __name__ ------")
    ['the', 'value', 'of', 'x', '**', 'N', '==', 'N', ',', '__name__']
    """
    found = (match for match in _WORD.finditer(text) if not (match["sign"] and len(match[0]) > 3))
    return [NUMBER if match["number"] else match[0].lower() for match in found]


def _sentences(topics: list[str]) -> Iterator[list[str]]:
    """The words of each paragraph."""
    for topic in topics:
        for paragraph in re.split(r"\n\s*\n", topic):
            if words := words_of(paragraph):
                yield words


def _topics() -> dict[str, str]:
    try:
        topics: dict[str, str] = import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise ValueError(
            "expected the texts of pydoc (pydoc_data.topics) in this Python, found none: name the folder of "
            "another corpus with --data"
        ) from error
    return topics
