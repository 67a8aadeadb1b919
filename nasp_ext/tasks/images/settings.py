# SPDX-License-Identifier: MIT
"""What a run says of image classification."""

from __future__ import annotations

from dataclasses import dataclass, fields

from nasp_ext.checks import typed
from nasp_ext.tasks.images.load import load_data
from nasp_ext.tasks.images.task import ClassificationTask
from nasp_ext.tasks.registry import register_task


@dataclass(frozen=True)
class ImageSettings:
    """The images of a run."""

    data: str = "digits"
    """digits, fashion-mnist, cifar10, or a path: a folder of IDX files or CIFAR-10 batches, an .npz file."""
    data_dir: str | None = None
    """Where to look for a named data set."""
    limit: int | None = None
    """Use at most this many images of each part."""

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
