# SPDX-License-Identifier: MIT
"""The output folder of a run: refused before any work if it cannot be used, consistent at every moment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nasp_ext.config import TrainingConfig
from nasp_ext.engine.checkpoint import load_checkpoint, save_checkpoint, write_atomic
from nasp_ext.engine.lock import locked_folder

CONFIG, HISTORY, CHECKPOINT, GENOTYPE = "config.json", "history.jsonl", "checkpoint.pt", "genotype.json"
ATTENTION = "attention.svg"
_OWN = (CONFIG, HISTORY, CHECKPOINT, GENOTYPE)


def check_output(path: Path, *, resume: bool, overwrite: bool) -> None:
    """Raise ValueError if a run cannot write to ``path``; changes nothing, so it can come first."""
    if resume and overwrite:
        raise ValueError("expected resume or overwrite, got both")
    try:
        present = [file.name for file in _present(path)]
        existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    except OSError as error:
        raise ValueError(f"{path}: expected a folder to write to: {error.strerror}") from error
    if present and not (resume or overwrite):
        raise ValueError(
            f"{path}: expected an empty output folder, found {', '.join(present)} of another run: "
            "choose another folder, or use --resume or --overwrite"
        )
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{path}: expected a folder to write to, found that {existing} is none")


@contextmanager
def run_folder(
    path: Path, kind: str, config: TrainingConfig, *, resume: bool = False, overwrite: bool = False
) -> Iterator[RunFolder]:
    """The folder of a run, which no other run writes to inside; nothing in it is touched yet.

    Args:
        path: made if it does not exist.
        kind: "search" or "retrain".
        config: of the run.
        resume: go on from the checkpoint, if there is one.
        overwrite: the files of an earlier run may be removed.
    Raises:
        ValueError: another run is in there (and neither resume nor overwrite) or at work in there, the
            checkpoint cannot be read, or the folder cannot be written.
    """
    check_output(path, resume=resume, overwrite=overwrite)
    with locked_folder(path):
        check_output(path, resume=resume, overwrite=overwrite)  # another run may just have ended
        try:
            yield RunFolder(path, kind, config, resume=resume)
        except OSError as error:
            if error.filename is None or not Path(str(error.filename)).is_relative_to(path):
                raise
            raise ValueError(f"{path}: expected a folder to write to: {error.strerror}") from error


class RunFolder:
    """config.json, checkpoint.pt, history.jsonl and whatever the run adds; ``run_folder`` makes it.

    The checkpoint holds the history too and is the truth: history.jsonl is made equal to it on resuming, so
    that no line is lost or doubled wherever the run was cut.
    """

    def __init__(self, path: Path, kind: str, config: TrainingConfig, *, resume: bool) -> None:
        self.path, self.file = path, path / CHECKPOINT
        self._kind, self._config = kind, config
        self.checkpoint = load_checkpoint(self.file, kind) if resume and self.file.exists() else None

    def begin(self, history: Sequence[dict[str, Any]]) -> None:
        """Write config.json and the history so far; without a checkpoint to go on from, remove other files.

        Comes after the checkpoint was accepted: until then nothing is written.
        """
        if self.checkpoint is None:
            for file in self.files():
                file.unlink()
        self.write(CONFIG, self._config.to_json())
        self.write(HISTORY, "".join(json.dumps(line) + "\n" for line in history))

    def write(self, name: str, text: str) -> None:
        """Write one text file atomically."""
        write_atomic(self.path / name, text.encode("utf-8"))

    def end_epoch(self, checkpoint: dict[str, Any], line: dict[str, Any]) -> None:
        """Save the checkpoint, then add the line of the epoch it ends."""
        save_checkpoint(self.path / CHECKPOINT, {"kind": self._kind, **checkpoint})
        with open(self.path / HISTORY, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def files(self) -> list[Path]:
        """The files of the run that exist."""
        return _present(self.path)


def _present(folder: Path) -> list[Path]:
    """The files of a run in a folder."""
    cells = sorted(folder.glob("cell_*.svg"))  # normal, reduce, recurrent, of a layer
    found = (*(folder / name for name in _OWN), *cells, folder / ATTENTION)
    return [file for file in found if file.exists()]


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's history.jsonl, an epoch each.

    Raises:  ValueError: if it cannot be read, or a line is no JSON object; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"{path}: expected a readable history: {error.strerror}") from error
    history = []
    for number, line in enumerate(lines, 1):
        try:
            history.append(dict(json.loads(line)))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{path}: expected a JSON object in line {number}, found {line[:40]!r}"
            ) from error
    return history
