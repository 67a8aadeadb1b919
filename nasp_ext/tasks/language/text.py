# SPDX-License-Identifier: MIT
"""Text to numbers of words, piece by piece: never more than a line, or a part of one, as words in memory."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from nasp_ext.checks import shown
from nasp_ext.tasks.language.vocabulary import END, UNKNOWN, OpenNumbers, Vocabulary

_CHARACTERS = 1 << 16  # of a line that are read at once; no word is longer


class Piece(NamedTuple):
    """Words that stand in one line.

    Args:    line: its number, from 1; words: some of it, in order; ends: whether the line ends after them.
    """

    line: int
    words: list[str]
    ends: bool


def read_pieces(path: Path) -> Iterator[Piece]:
    """The words of a text file, separated by white space.

    Raises:
        ValueError: it cannot be read, is no text in UTF-8, or has a word of more than 65,536 characters.
    """
    line, rest, open_line = 1, "", False
    try:
        with path.open(encoding="utf-8-sig") as file:  # without the mark that some editors put first
            while text := file.readline(_CHARACTERS):
                if "\0" in text:
                    raise ValueError("expected a text, found a file with zero bytes (a binary file)")
                open_line = not text.endswith("\n")
                whole = not open_line or text[-1].isspace()
                words = (rest + text).split()
                rest = "" if whole or not words else words.pop()
                if len(rest) > _CHARACTERS:
                    raise ValueError(
                        f"expected words separated by white space, found one of more than {_CHARACTERS:,} "
                        "characters"
                    )
                yield Piece(line, words, not open_line)
                line += not open_line
        if open_line:  # the file does not end with a new line
            yield Piece(line, [rest] if rest else [], True)
    except UnicodeDecodeError as error:
        line += error.object[: error.start].count(b"\n")  # of what was read ahead
        raise ValueError(f"{path}, line {line}: expected a text in UTF-8, found other bytes") from error
    except OSError as error:
        raise ValueError(f"{path}: expected a text that can be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}, line {line}: {error}") from error


def encode(
    pieces: Iterable[Piece], numbers: Mapping[str, int], where: str, limit: int | None = None
) -> array[int]:
    """The numbers of words, int32, with ``<eos>`` at the end of each line.

    Args:
        numbers: ``OpenNumbers``, which learn the words of all pieces, or ``ClosedNumbers`` of a vocabulary.
        where: the text, for messages.
        limit: keep at most this many.
    Raises:
        ValueError: there is no word, or one that the vocabulary does not have.
    """
    found: array[int] = array("i")
    learning, any_word = isinstance(numbers, OpenNumbers), False
    number_of = numbers.__getitem__  # of a subclass of dict: asks __missing__
    for line, words, ends in pieces:
        any_word = any_word or bool(words)
        full = limit is not None and len(found) >= limit
        if full and not learning:
            break
        kept = deque[int](maxlen=0) if full else found
        try:
            kept.extend(map(number_of, [*words, END] if ends else words))
        except KeyError as error:
            raise ValueError(
                f"{where}, line {line}: expected words of the vocabulary, found {shown(error.args[0])}: add "
                f"it, or {UNKNOWN} for all others, to the vocabulary"
            ) from error
    if not any_word:
        raise ValueError(f"{where}: expected a text, found no word in it")
    if limit is not None:
        del found[limit:]
    return found


def read_vocabulary(path: Path) -> Vocabulary:
    """The words of a text file, one in each line.

    Raises:  ValueError: it cannot be read, or a line holds no word, two, or one that was there before.
    """
    lines: dict[str, int] = {}
    words: list[str] = []
    for line, part, ends in read_pieces(path):
        words += part
        where = f"{path}, line {line}"
        if len(words) > 1 or (ends and not words):
            raise ValueError(
                f"{where}: expected one word, found {shown(' '.join(words)) if words else 'none'}"
            )
        if not ends:
            continue
        before = lines.setdefault(words[0], line)
        if before != line:
            raise ValueError(
                f"{where}: expected different words, found {shown(words[0])} as in line {before}"
            )
        words = []
    try:
        return Vocabulary(tuple(lines))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
