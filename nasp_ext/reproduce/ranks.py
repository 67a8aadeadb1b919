# SPDX-License-Identifier: MIT
"""Rank correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, equal values sharing the mean of theirs.

    >>> ranks([3.0, 1.0, 3.0])
    [2.5, 1.0, 2.5]
    """
    order = sorted(values)
    first = {value: order.index(value) for value in set(values)}
    return [first[value] + (order.count(value) + 1) / 2 for value in values]


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rank correlation: Pearson's of the ranks; NaN if all of one side are equal.

    Raises:  ValueError: two lengths, or fewer than two pairs.

    >>> spearman([1, 2, 3], [10, 5, 1])
    -1.0
    """
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"expected two lists of one length >= 2, got {len(x)} and {len(y)} values")
    a, b = ([rank - (len(x) + 1) / 2 for rank in ranks(values)] for values in (x, y))
    spread = math.sqrt(sum(v * v for v in a) * sum(v * v for v in b))
    return sum(v * w for v, w in zip(a, b, strict=True)) / spread if spread else math.nan
