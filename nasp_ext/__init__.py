# SPDX-License-Identifier: MIT
# ruff: noqa: E402  something has to come before the imports that take seconds
"""Neural architecture search by proximal iterations, with fused C++ and CUDA kernels for PyTorch."""

from pkgutil import extend_path as _extend_path

__path__ = _extend_path(__path__, __name__)  # in a source tree after a plain install: find the installed _C

from ._command import quiet_interrupts as _quiet_interrupts

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

from . import nn, ops, strategies
from .config import RetrainConfig, SearchConfig
from .data import load_data
from .derive import derive, genotype_of
from .engine import ClassificationTask, retrain, search
from .gates import PRUNED, Gates
from .genotypes import GENOTYPES, Genotype
from .nn import MixedOp, derived_network, supernet
from .optim import ASNG, NASP
from .space import SearchSpace, Space, WiredSpace, register_space, space
from .strategies import strategy

__all__ = [
    "ASNG",
    "GENOTYPES",
    "NASP",
    "PRUNED",
    "ClassificationTask",
    "Gates",
    "Genotype",
    "MixedOp",
    "RetrainConfig",
    "SearchConfig",
    "SearchSpace",
    "Space",
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
