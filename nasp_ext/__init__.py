# SPDX-License-Identifier: MIT
# ruff: noqa: E402  something has to come before the imports that take seconds
"""Neural architecture search by proximal iterations, with fused C++ and CUDA kernels for PyTorch."""

from pkgutil import extend_path as _extend_path

__path__ = _extend_path(__path__, __name__)  # in a source tree after a plain install: find the installed _C

from nasp_ext._command import quiet_interrupts as _quiet_interrupts

_quiet_interrupts()

import torch as _torch

try:
    import nasp_ext._C  # noqa: F401  registers torch.ops.nasp_ext
except ImportError as error:
    raise ImportError(
        f"nasp_ext's compiled part did not load ({error}). Build it against the installed PyTorch "
        f"{_torch.__version__}: run `pip install .` in the source tree."
    ) from error

__version__ = "0.1.0"

from nasp_ext import nn, ops, strategies
from nasp_ext.arch.gates import PRUNED, Gates
from nasp_ext.arch.registry import register_space, space
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.config import RetrainConfig, SearchConfig
from nasp_ext.engine import retrain, search
from nasp_ext.engine.run import Run
from nasp_ext.families.cells.genotype import Genotype
from nasp_ext.families.cells.published import GENOTYPES
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.derivation import derive, genotype_of
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.families.recurrent.genotype import RecurrentGenotype
from nasp_ext.families.recurrent.space import RecurrentSpace
from nasp_ext.families.topology.space import WiredSpace
from nasp_ext.nn import MixedOp
from nasp_ext.optim import ASNG, NASP
from nasp_ext.strategies import strategy
from nasp_ext.tasks.images.load import load_data
from nasp_ext.tasks.images.task import ClassificationTask

__all__ = [
    "ASNG",
    "GENOTYPES",
    "NASP",
    "PRUNED",
    "CellSpace",
    "ClassificationTask",
    "Gates",
    "Genotype",
    "MixedOp",
    "RecurrentGenotype",
    "RecurrentSpace",
    "RetrainConfig",
    "Run",
    "SearchConfig",
    "SearchSpace",
    "WiredSpace",
    "derive",
    "derived_network",
    "genotype_of",
    "load_data",
    "nn",
    "ops",
    "register_space",
    "retrain",
    "search",
    "space",
    "strategies",
    "strategy",
    "supernet",
]
