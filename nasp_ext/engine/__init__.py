# SPDX-License-Identifier: MIT
"""One search loop and one retraining loop, with checkpoints that resume bit for bit."""

from nasp_ext.engine.derive import DeriveResult, derive_run
from nasp_ext.engine.evaluation import evaluate
from nasp_ext.engine.genotype import read_genotype
from nasp_ext.engine.retraining import RetrainResult, retrain
from nasp_ext.engine.run import Run
from nasp_ext.engine.searching import SearchResult, search

__all__ = [
    "DeriveResult",
    "RetrainResult",
    "Run",
    "SearchResult",
    "derive_run",
    "evaluate",
    "read_genotype",
    "retrain",
    "search",
]
