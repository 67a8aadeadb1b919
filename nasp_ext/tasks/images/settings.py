# SPDX-License-Identifier: MIT
"""What a run says of image classification."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from nasp_ext.checks import typed
from nasp_ext.tasks.images.load import load_data
from nasp_ext.tasks.images.task import ClassificationTask
from nasp_ext.tasks.registry import register_task

# On the 8×8 digits a search and a retraining take about a minute on two cores. One thread: the operators on
# such images are too small for two.
_DIGITS: dict[str, dict[str, Any]] = {
    "search": {
        "cells": 3,
        "channels": 8,
        "epochs": 20,
        "batch": 64,
        "lr": 0.1,
        "arch_lr": 3e-3,
        "threads": 1,
    },
    "retrain": {
        "cells": 4,
        "channels": 16,
        "epochs": 30,
        "batch": 32,
        "lr": 0.1,
        "weight_decay": 2e-3,
        "auxiliary": 0.0,
        "drop_path": 0.1,
        "cutout": 2,
        "threads": 1,
    },
}


@dataclass(frozen=True)
class ImageSettings:
    """The images of a run."""

    data: str = "digits"
    """digits, fashion-mnist, cifar10, or a path: a folder of IDX files or CIFAR-10 batches, an .npz file."""
    data_dir: str | None = None
    """Where to look for a named data set."""
    limit: int | None = None
    """Use at most this many images of each part."""

    def suggested(self, kind: str) -> dict[str, Any]:
        """What a command starts from on these images for a "search" or "retrain", by its flags.

        >>> ImageSettings("cifar10").suggested("search")
        {}
        """
        return dict(_DIGITS[kind]) if self.data == "digits" else {}

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(
                self, field.name, typed(field.name, str(field.type), getattr(self, field.name))
            )


def classification(settings: ImageSettings) -> ClassificationTask:
    """The task, with its images read.

    Raises:  as ``load_data``.
    """
    return ClassificationTask(load_data(settings.data, settings.data_dir, settings.limit))


register_task("images", ImageSettings, classification)
