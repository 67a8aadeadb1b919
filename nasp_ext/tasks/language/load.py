# SPDX-License-Identifier: MIT
"""From a name or a folder to a ``Corpus``."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from nasp_ext.checks import check_whole, shown
from nasp_ext.tasks.language.corpus import PARTS, Corpus, as_tensor
from nasp_ext.tasks.language.pydoc import PYDOC, pydoc_corpus
from nasp_ext.tasks.language.text import encode, read_pieces, read_vocabulary
from nasp_ext.tasks.language.vocabulary import ClosedNumbers, OpenNumbers, Vocabulary

_PART_OF = {**dict.fromkeys(("valid", "val", "validation", "dev"), "valid"), "train": "train", "test": "test"}


def load_corpus(
    name_or_path: str | os.PathLike[str] = PYDOC,
    vocabulary: str | os.PathLike[str] | None = None,
    limit: int | None = None,
) -> Corpus:
    """Read a corpus: the words of three text files, separated by white space, ``<eos>`` at each line's end.

    Args:
        name_or_path: "pydoc" (comes with Python), or a folder with a file for each part, which stands in its
            name between dots, dashes or underscores: train.txt, ptb.valid.txt, wiki.test.tokens; valid may be
            val, validation or dev.
        vocabulary: a file with a word in each line; None = the words of the whole training text in order of
            first appearance. Words that are not in it are ``<unk>``, if that is.
        limit: at most this many words of each part, the first ones.

    Raises:
        FileNotFoundError: there is no such folder, or no file of a part in it.
        ValueError: two files for a part, one that is empty or no text, a word that is not in the vocabulary,
            or a ``limit`` below 2.
        TypeError: an argument is of another type.

    >>> load_corpus().name
    'pydoc'
    """
    for what, value in (("name_or_path", name_or_path), ("vocabulary", vocabulary)):
        if not isinstance(value, str | os.PathLike) and (value is not None or what == "name_or_path"):
            raise TypeError(
                f"expected {what} to be a name or a path, got {type(value).__name__}: {shown(value)}"
            )
    if limit is not None:
        check_whole("limit", limit, 2, sys.maxsize)
    files = None if name_or_path == PYDOC else part_files(Path(name_or_path))
    known = None if vocabulary is None else read_vocabulary(Path(vocabulary))
    if files is None:
        return pydoc_corpus(known, limit)
    numbers = OpenNumbers() if known is None else ClosedNumbers(known.numbers)
    train = _read(files["train"], numbers, limit)
    words = Vocabulary(tuple(numbers)) if known is None else known
    others = {part: _read(files[part], ClosedNumbers(words.numbers), limit) for part in ("valid", "test")}
    return Corpus(_name(Path(name_or_path).resolve()), words, train, **others)


def _name(folder: Path) -> str:
    """What a corpus in this folder is called: never as the one of pydoc, which has networks of its own."""
    return folder.name if folder.name != PYDOC else str(folder)


def _read(file: Path, numbers: Mapping[str, int], limit: int | None) -> Tensor:
    return as_tensor(encode(read_pieces(file), numbers, str(file), limit))


def part_files(folder: Path) -> dict[str, Path]:
    """The file of each part in a folder.

    Raises:
        FileNotFoundError: no such folder, or no file of a part.
        ValueError: a file in place of the folder, or two for one part.
    """
    if not folder.exists():
        raise FileNotFoundError(
            f"expected {PYDOC}, or a folder with texts to train, validate and test with, found nothing at "
            f"{shown(str(folder))}"
        )
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: expected a folder with texts to train, validate and test with, found a file: name "
            "the folder that it is in"
        )
    found: dict[str, list[str]] = {part: [] for part in PARTS}
    for name in sorted(file.name for file in folder.iterdir() if file.is_file()):
        if name.startswith("."):  # hidden
            continue
        words = re.split(r"[._-]", name.lower())
        parts = list(dict.fromkeys(_PART_OF[word] for word in words if word in _PART_OF))
        if len(parts) > 1:
            raise ValueError(
                f"{folder}: expected a text for each part, found {name} named as {' and '.join(parts)}"
            )
        if parts:
            found[parts[0]].append(name)
    for part, names in found.items():
        if not names:
            raise FileNotFoundError(
                f"{folder}: expected a text named {part}.txt, or with {part} between dots, dashes or "
                f"underscores, found none: rename it, or name another folder"
            )
        if len(names) > 1:
            raise ValueError(
                f"{folder}: expected one text named {part}, found {', '.join(names[:8])}: leave one "
                "of them there"
            )
    return {part: folder / names[0] for part, names in found.items()}
