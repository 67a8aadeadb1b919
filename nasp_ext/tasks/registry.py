# SPDX-License-Identifier: MIT
"""The tasks by name. Each is a folder here whose ``settings.py`` registers it: no other line knows of it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any

from nasp_ext.checks import shown
from nasp_ext.tasks.base import Task


@dataclass(frozen=True)
class TaskKind:
    """A task that a run may name.

    Args:
        name: of the task; settings: the dataclass of what a run says of it, all with defaults.
        make: from these settings to the task, with its data.
    """

    name: str
    settings: type[Any]
    make: Callable[[Any], Task]


_KINDS: dict[str, TaskKind] = {}


def register_task(name: str, settings: type[Any], make: Callable[[Any], Task]) -> None:
    """Make a task known by its name; registering the same one again is allowed.

    Args:    settings: a dataclass whose fields all have defaults; make: from one of them to the task.
    Raises:
        ValueError: the name belongs to another task. TypeError: ``settings`` is no dataclass.
    """
    if not isinstance(settings, type) or not is_dataclass(settings):
        raise TypeError(f"expected the settings of task {name!r} to be a dataclass, got {settings!r:.80}")
    new = TaskKind(name, settings, make)
    if _KINDS.setdefault(name, new) != new:
        raise ValueError(f"expected a new name for a task, got {name!r}, which is taken")


def task_kinds() -> dict[str, TaskKind]:
    """Every task by name: those of this package, found by their folders, then one's own.

    >>> task_kinds()["images"].settings().data
    'digits'
    """
    package = importlib.import_module(__name__.rpartition(".")[0])
    for found in pkgutil.iter_modules(package.__path__):
        if found.ispkg:
            importlib.import_module(f"{package.__name__}.{found.name}.settings")
    return dict(_KINDS)


def task_kind(name: str) -> TaskKind:
    """The registered task of that name.

    Raises:  ValueError: if there is none; the message lists the names.
    """
    kinds = task_kinds()
    if not isinstance(name, str) or name not in kinds:
        raise ValueError(f"expected the name of a task, one of {', '.join(kinds)}, got {shown(name)}")
    return kinds[name]
