# SPDX-License-Identifier: MIT
"""What the settings of a search or a retraining start from, before the options of a command line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from nasp_ext.checks import shown
from nasp_ext.commands.flags import flags_of, with_values
from nasp_ext.commands.parsing import value_of
from nasp_ext.config import training_fields
from nasp_ext.engine.folder import GENOTYPE
from nasp_ext.engine.options import every_flag
from nasp_ext.engine.run import Run
from nasp_ext.engine.settings import RetrainRun, SearchRun, SpaceSettings, StrategySettings, TaskSettings

_R = TypeVar("_R", SearchRun, RetrainRun)


def stored_settings(kind: type[_R], argv: Sequence[str], out: str) -> _R | None:
    """The settings of --config-file, or of the run in the output folder that --resume goes on with.

    Args:    out: the output folder, if the words name none.
    Raises:  ValueError: they cannot be read, or are of another task than the words name.
    """
    file, folder = value_of(argv, "--config-file"), Path(value_of(argv, "--out") or out)
    if file not in (None, "None"):
        run = kind.from_file(Path(str(file)))
        _check_task(argv, run, run.check_unset)
        return run
    resume = [word for word in argv if word in ("--resume", "--no-resume")][-1:]
    if resume == ["--resume"] and Run.is_in(folder):
        run = Run.open(folder).settings_as(kind)
        _check_task(argv, run, None)
        return run
    return None


def _check_task(
    argv: Sequence[str], run: SearchRun | RetrainRun, fits: Callable[[Sequence[str], str], None] | None
) -> None:
    """Raise ValueError if the words name a task for which stored settings are of no use.

    Args:    fits: raises a ValueError if another task cannot have them; None = no other one can.
    """
    name = value_of(argv, "--task")
    if name in (None, run.task.name):
        return
    other = TaskSettings(str(name))
    with contextlib.suppress(ValueError):
        if fits is not None:
            fits(other.without, other.name)
            return
    raise ValueError(
        f"expected --task {run.task.name}, that of the stored settings, got --task {name}: start a run of "
        "another task in another folder, without --resume and --config-file"
    )


def told_task(argv: Sequence[str], task: TaskSettings) -> TaskSettings:
    """The task that the words name, with what they say of it in words; numbers are left to the parser."""
    name = value_of(argv, "--task")
    if name is not None and name != task.name:
        task = TaskSettings(name)
    flags = [flag for flag in flags_of(task.options) if flag.type in (str, str | None)]
    told = {flag: value_of(argv, f"--{flag.name.replace('_', '-')}") for flag in flags}
    none = {flag.name: None for flag, value in told.items() if value == "None" and flag.type is not str}
    return with_values(task, {flag.name: text for flag, text in told.items() if text is not None} | none)


def searched_task(source: str) -> TaskSettings | None:
    """The task of the search that a genotype is of: of a folder, or of the genotype.json in it."""
    path = Path(source)
    folder = path.parent if path.name == GENOTYPE else path
    settings = Run.open(folder).settings if Run.is_in(folder) else None
    return settings.task if isinstance(settings, SearchRun) else None


def suggested(task: TaskSettings, run: SearchRun | type[RetrainRun]) -> dict[str, Any]:
    """The flags that a task suggests, as far as a search with this strategy, or a retraining, has them.

    Raises:  ValueError: it suggests what is no flag.
    """
    known = set(run.flat() if isinstance(run, SearchRun) else training_fields(run))
    every = {
        *training_fields(SearchRun),
        *training_fields(RetrainRun),
        *SpaceSettings().flat(),
        *every_flag(),
    }
    found = task.suggested(run.kind)
    for flag in found:
        if flag == "genotype" or flag not in every | {*task.values()}:
            raise ValueError(
                f"expected {type(task.options).__name__}.suggested to give values by the names of flags of a "
                f"search, a retraining or its own, got {shown(flag)}"
            )
    return {flag: value for flag, value in found.items() if flag in known and flag not in task.values()}


def filled(task: TaskSettings, kind: str) -> TaskSettings:
    """The task with what its settings suggest of themselves for a "search" or "retrain"."""
    own = task.values()
    return with_values(task, {name: value for name, value in task.suggested(kind).items() if name in own})


def chosen_strategy(argv: Sequence[str], strategy: StrategySettings) -> StrategySettings:
    """The strategy that the words name: options of another one do not say anything of it."""
    name = value_of(argv, "--strategy")
    return strategy if name is None or name == strategy.name else StrategySettings(name)
