# SPDX-License-Identifier: MIT
"""Image data sets as tensors: load them with ``load_data``, walk through them with ``Batches``."""

from nasp_ext.tasks.images.batches import Batches
from nasp_ext.tasks.images.images import ImageData
from nasp_ext.tasks.images.load import DATA_NAMES, load_data
from nasp_ext.tasks.images.task import ClassificationTask

__all__ = ["DATA_NAMES", "Batches", "ClassificationTask", "ImageData", "load_data"]
