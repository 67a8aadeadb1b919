# SPDX-License-Identifier: MIT
"""Image data sets as tensors: load them with ``load_data``, walk through them with ``Batches``."""

from nasp_ext.data.batches import Batches
from nasp_ext.data.images import ImageData
from nasp_ext.data.load import DATA_NAMES, load_data

__all__ = ["DATA_NAMES", "Batches", "ImageData", "load_data"]
