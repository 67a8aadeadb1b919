# SPDX-License-Identifier: MIT
"""What networks are searched for: the seam that the engine sees, and a folder for each task."""

from nasp_ext.tasks.base import DataPart, Metric, Outcome, SearchData, Task
from nasp_ext.tasks.registry import TaskKind, register_task, task_kind, task_kinds

__all__ = [
    "DataPart",
    "Metric",
    "Outcome",
    "SearchData",
    "Task",
    "TaskKind",
    "register_task",
    "task_kind",
    "task_kinds",
]
