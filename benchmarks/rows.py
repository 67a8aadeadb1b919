# SPDX-License-Identifier: MIT
"""What a report consists of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table: a median with its quartiles and the ratio to ours, or why there is none.

    The ratio is one of medians; of timings ``ratio_low`` and ``ratio_high`` are the quartiles of the ratios
    of single rounds.
    """

    case: str
    phase: str
    variant: str
    median: float = 0.0
    low: float = 0.0
    high: float = 0.0
    samples: int = 0
    unit: str = "s"
    ratio: float = 0.0
    ratio_low: float = 0.0
    ratio_high: float = 0.0
    missing: str = ""
