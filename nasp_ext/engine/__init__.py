# SPDX-License-Identifier: MIT
"""One search loop and one retraining loop, with checkpoints that resume bit for bit."""

from nasp_ext.engine.derive import DeriveResult, derive_run
from nasp_ext.engine.evaluate import evaluate
from nasp_ext.engine.genotype import existing_folder, read_genotype
from nasp_ext.engine.retrain import RetrainResult, retrain
from nasp_ext.engine.search import SearchResult, search
from nasp_ext.engine.task import ClassificationTask

__all__ = [
    "ClassificationTask",
    "DeriveResult",
    "RetrainResult",
    "SearchResult",
    "derive_run",
    "evaluate",
    "existing_folder",
    "read_genotype",
    "retrain",
    "search",
]
