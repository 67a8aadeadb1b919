# SPDX-License-Identifier: MIT
"""A run that was written to a folder, finished or not: what it was told, what it found."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.checks import shown
from nasp_ext.config import RetrainConfig, SearchConfig, TrainingConfig, json_object, training_fields
from nasp_ext.engine.checkpoint import load_checkpoint
from nasp_ext.engine.folder import CHECKPOINT, CONFIG, HISTORY, read_history
from nasp_ext.engine.genotype import read_genotype
from nasp_ext.engine.settings import RetrainRun, SearchRun

_C = TypeVar("_C", bound=TrainingConfig)
_KINDS: dict[str, tuple[type[TrainingConfig], type[TrainingConfig]]] = {
    "search": (SearchConfig, SearchRun),
    "retrain": (RetrainConfig, RetrainRun),
}


class Run:
    """The folder of a search or a retraining, to read; ``search`` and ``retrain`` write it.

    Each attribute is read from its file when it is asked for, so that a run which is at work shows how far it
    has come.

    Attributes:
        folder: where it is.
        kind: "search" or "retrain".
        settings: a ``SearchRun`` or ``RetrainRun`` of the command line, with its task, space and strategy; of
            a call from Python the ``SearchConfig`` or ``RetrainConfig`` it was given.
    """

    def __init__(self, folder: Path, settings: TrainingConfig) -> None:
        self.folder, self.settings, self.kind = folder, settings, settings.kind

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """The run in a folder, of this version or an older one.

        Raises:  ValueError: there is none, or its settings cannot be read; says what was looked for.
        """
        folder = Path(folder)
        if not cls.is_in(folder):
            raise ValueError(
                f"{folder}: expected the folder of a search or a retraining, found no {CONFIG} in it"
            )
        file = folder / CONFIG
        try:
            text = file.read_text(encoding="utf-8")
            return cls(folder, _class_of(json_object(text)).from_json(text))
        except OSError as error:
            raise ValueError(f"{file}: expected a readable configuration file: {error.strerror}") from error
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error

    @staticmethod
    def is_in(folder: Path | str) -> bool:
        """Whether a folder holds a run."""
        try:
            return (Path(folder) / CONFIG).is_file()
        except (OSError, ValueError):  # no name that a folder could have
            return False

    def settings_as(self, kind: type[_C]) -> _C:
        """The settings, if they are of this class.

        Raises:  ValueError: the run is of another kind, or was started from Python.
        """
        if not isinstance(self.settings, kind):
            by = "a command" if self.kind == kind.kind else f"a {kind.kind}"
            found = "a call from Python" if self.kind == kind.kind else f"a {self.kind}"
            raise ValueError(f"{self.folder}: expected the run of {by}, found that of {found}")
        return self.settings

    @property
    def history(self) -> list[dict[str, Any]]:
        """A mapping for each epoch that is done.

        Raises:  ValueError: a line is damaged; names it.
        """
        file = self.folder / HISTORY
        return read_history(file) if file.exists() else []

    @property
    def genotype(self) -> AnyGenotype:
        """What a finished search found, or a retraining trains.

        Raises:  ValueError: the search is not finished, or the file is damaged.
        """
        return read_genotype(str(self.folder))

    @property
    def checkpoint(self) -> dict[str, Any]:
        """The state after the last epoch: plain values and tensors on the CPU; nothing in it is executed.

        Raises:  ValueError: there is none yet, or it is damaged, or of another kind of run.
        """
        return load_checkpoint(self.folder / CHECKPOINT, self.kind)


def _class_of(values: dict[str, Any]) -> type[TrainingConfig]:
    """Of the settings in a config.json, where older versions named neither kind nor task."""
    former = "retrain" if "drop_path" in values or "genotype" in values else "search"
    kind = values.get("kind", former)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"expected kind to be one of {', '.join(_KINDS)}, got {shown(kind)}")
    plain, whole = _KINDS[kind]
    own = {*whole().nested(), *whole().flat()} - {*plain().nested(), *training_fields(plain)}
    return plain if own.isdisjoint(values) else whole
