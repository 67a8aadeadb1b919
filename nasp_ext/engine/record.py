# SPDX-License-Identifier: MIT
"""Entries of a search's history: what of an epoch is worth a number."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.strategies import Strategy

_STATUS = Path("/proc/self/status")


def entropy(scores: Tensor) -> float:
    """Mean over the rows of the entropy, in nats, of the scores divided by their sum.

    Args:  scores: (R, K), numbers >= 0; a row of zeros counts as undecided between all its columns.
    >>> round(entropy(torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])), 4)
    0.3466
    """
    values = scores.detach().double()
    values = torch.where(values.sum(-1, keepdim=True) > 0, values, torch.ones_like(values))
    return float(torch.special.entr(values / values.sum(-1, keepdim=True)).sum(-1).mean())


def skip_connections(genotype: AnyGenotype) -> int:
    """How many edges of all cells are skip connections: many of them are the mark of a collapsed search."""
    return genotype.operations.count("skip_connect")


def plain_report(strategy: Strategy) -> dict[str, Any]:
    """What a strategy reports, as JSON gives it back, so that a resumed history equals the written one.

    Raises:  ValueError: something in it is no finite number, string, list … of JSON.
    """
    report = strategy.report()
    try:
        plain = json.loads(json.dumps(report, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected {type(strategy).__name__}.report() to fit into JSON: {error}") from error
    if not isinstance(plain, dict):
        raise ValueError(f"expected {type(strategy).__name__}.report() to be a dict, got {report!r}")
    return plain


def plain_scores(scores: Tensor) -> list[list[float]]:
    """Scores (R, K) as lists of six significant digits.

    >>> plain_scores(torch.tensor([[1 / 3, 0.5]]))
    [[0.333333, 0.5]]
    """
    return [[float(f"{value:.6g}") for value in row] for row in scores.tolist()]


def peak_memory(device: torch.device) -> int | None:
    """Bytes that this process held at most: of the GPU's allocator, or on a CPU of resident memory.

    None on a CPU where the system does not say (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _STATUS.exists():  # the maximum of rusage would count the process that started this one
        (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
