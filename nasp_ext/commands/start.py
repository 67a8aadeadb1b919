# SPDX-License-Identifier: MIT
"""What the settings of a search or a retraining start from, before the options of a command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from nasp_ext.commands.flags import flags_of, with_values
from nasp_ext.commands.parsing import value_of
from nasp_ext.config import training_fields
from nasp_ext.engine.run import Run
from nasp_ext.engine.settings import RetrainRun, SearchRun, StrategySettings, TaskSettings

_R = TypeVar("_R", SearchRun, RetrainRun)


def stored_settings(kind: type[_R], argv: Sequence[str], out: str) -> _R | None:
    """The settings of --config-file, or of the run in the output folder that --resume goes on with.

    Args:    out: the output folder, if the words name none.
    """
    file, folder = value_of(argv, "--config-file"), Path(value_of(argv, "--out") or out)
    if file not in (None, "None"):
        return kind.from_file(Path(str(file)))
    resume = [word for word in argv if word in ("--resume", "--no-resume")][-1:]
    if resume == ["--resume"] and Run.is_in(folder):
        return Run.open(folder).settings_as(kind)
    return None


def told_task(argv: Sequence[str], task: TaskSettings) -> TaskSettings:
    """The task that the words name, with what they say of it in words; numbers are left to the parser."""
    name = value_of(argv, "--task")
    if name is not None and name != task.name:
        task = TaskSettings(name)
    texts = [flag.name for flag in flags_of(task.options) if flag.type is str]
    told = {text: value_of(argv, f"--{text.replace('_', '-')}") for text in texts}
    return with_values(task, {text: value for text, value in told.items() if value is not None})


def suggested(task: TaskSettings, run: SearchRun | type[RetrainRun]) -> dict[str, Any]:
    """The flags that a task suggests, as far as a search with this strategy, or a retraining, has them."""
    known = set(run.flat() if isinstance(run, SearchRun) else training_fields(run))
    return {flag: value for flag, value in task.suggested(run.kind).items() if flag in known}


def chosen_strategy(argv: Sequence[str], strategy: StrategySettings) -> StrategySettings:
    """The strategy that the words name: options of another one do not say anything of it."""
    name = value_of(argv, "--strategy")
    return strategy if name is None or name == strategy.name else StrategySettings(name)
