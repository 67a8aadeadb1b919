# SPDX-License-Identifier: MIT
"""A genotype as somebody names it: a file, the folder of a run, a published name, or its text."""

from __future__ import annotations

from pathlib import Path

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.genotype_text import EXAMPLE, LONGEST_TEXT
from nasp_ext.engine.folder import GENOTYPE
from nasp_ext.families.genotypes import genotype_from_text, published

_MARKS = "(|{"  # no text of a genotype is without one


def read_genotype(source: str) -> AnyGenotype:
    """A genotype from a file, from the folder of a run, a published one by name, or from its text.

    A file holds JSON, Python code or the log of a search; ``FILE:NAME`` and ``FILE:LINE`` choose one.
    Text is what ``genotype_from_text`` reads.

    Raises:  ValueError: there is none; the message says what was looked for.
    """
    known = published()
    if source in known:
        return known[source]
    folder = _existing_folder(source)
    if folder is not None:
        return _from_file(folder / GENOTYPE, None)
    if _is_file(source):
        return _from_file(Path(source), None)
    file, _, which = source.rpartition(":")
    if which and _is_file(file):
        return _from_file(Path(file), int(which) if which.isdecimal() and len(which) < 18 else which)
    if any(mark in source for mark in _MARKS):
        return genotype_from_text(source)
    raise ValueError(
        "expected a genotype: a file (JSON, Python code or a log), the folder of a finished search, one of "
        f"{', '.join(known)}, or text like {EXAMPLE}; found no file {source[:200]!r}"
    )


def _existing_folder(source: str) -> Path | None:
    """The folder of that name, if there is one."""
    try:
        return Path(source) if Path(source).is_dir() else None
    except (OSError, ValueError):  # a text is too long for a name, or holds a zero byte
        return None


def _is_file(source: str) -> bool:
    try:
        return Path(source).is_file()
    except (OSError, ValueError):
        return False


def _from_file(file: Path, which: str | int | None) -> AnyGenotype:
    try:
        if not file.is_file():
            raise ValueError("expected the genotype of a finished search, found no file")
        if file.stat().st_size > LONGEST_TEXT:
            raise ValueError(
                f"expected a file of at most {LONGEST_TEXT:,} bytes, got {file.stat().st_size:,}"
            )
        return genotype_from_text(file.read_text(encoding="utf-8-sig"), which)
    except OSError as error:
        raise ValueError(f"{file}: expected a readable file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: expected a text file in UTF-8: {error}") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
