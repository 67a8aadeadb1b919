# SPDX-License-Identifier: MIT
"""What a benchmark is: variants that were first shown to give equal results, then timed in turns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

Phases = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Settings:
    """Sizes and device of a run.

    Args:
        quick: small sizes and no compilation: shows that everything runs, says nothing about speed.
        device: "cpu" or "cuda".
        batch: batch sizes of the network cases.
        spaces: their search spaces; edges: edges kept per node, 0 = all; architectures: how many random
            ones.
        threads: of PyTorch in the cases that are measured with several numbers of them.
    """

    quick: bool = False
    device: str = "cpu"
    batch: tuple[int, ...] = (16, 64)
    spaces: tuple[str, ...] = ("darts",)
    edges: tuple[int, ...] = (2, 0)
    architectures: int = 3
    threads: tuple[int, ...] = (1, 2)

    def generator(self, seed: int = 0) -> torch.Generator:
        return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Prepared:
    """A case ready to be timed.

    Args:
        variants: name -> its phases in order; a single phase is called "". The first variant is ours,
            the others are divided by it.
        missing: name -> why that variant cannot run here.
    """

    variants: dict[str, Phases]
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One comparison. ``build`` checks that the variants agree, and raises AssertionError if they do not.

    Args:    threads: of PyTorch, 0 = as they are; seconds: at most for a variant, see ``measure``.
    """

    name: str
    variants: tuple[str, ...]
    build: Callable[[], Prepared]
    threads: int = 0
    seconds: float = math.inf


def assert_equal(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Raise AssertionError unless they differ by at most ``tolerance`` times the largest expected entry."""
    if actual.shape != expected.shape:
        raise AssertionError(f"{what}: expected shape {tuple(expected.shape)}, got {tuple(actual.shape)}")
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    error = float((actual - expected).abs().max()) if expected.numel() else 0.0
    if not error <= tolerance * max(scale, 1e-30):
        raise AssertionError(f"{what}: the results differ by {error:.3g} at a scale of {scale:.3g}")


def try_compile(
    function: Callable[..., object], *example: object
) -> tuple[Callable[..., object] | None, str]:
    """``torch.compile(function)`` as one graph, or why that does not work."""
    try:
        compiled = torch.compile(function, fullgraph=True)
        compiled(*example)
    except Exception as error:  # the compiler's own errors have no common type
        return None, f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    return compiled, ""
