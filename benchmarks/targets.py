# SPDX-License-Identifier: MIT
"""What the steps of recurrent cells are to reach, beside what a report found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.cases.recurrent import FLOOR, MIXTURE, OURS, PLAIN, SECOND
from benchmarks.rows import Row

_ARCHITECTURE, _WEIGHT, _ITERATION = "architecture step", "weight step", "iteration"
_PHASES = (_ARCHITECTURE, _WEIGHT, _ITERATION)
_LOSS = "no target: the loss of the words is no product"


@dataclass(frozen=True)
class Target:
    """A ratio of two variants in a phase.

    Args:
        variant: divided by ours; or ours by it if ``at_most``.
        case: the beginning of its name.
        bound: of the ratio; 0 = it is only shown, with a remark.
    """

    variant: str
    phase: str
    case: str
    bound: float = 0.0
    at_most: bool = False
    remark: str = ""

    def line(self, row: Row) -> str:
        ratio, low, high = row.ratio, row.ratio_low or row.ratio, row.ratio_high or row.ratio
        if self.at_most:
            ratio, low, high = 1 / ratio, 1 / high, 1 / low
        names = (OURS, self.variant) if self.at_most else (self.variant, OURS)
        met = ratio <= self.bound if self.at_most else ratio >= self.bound
        wanted = f"target {'<=' if self.at_most else '>='} {self.bound:g}: {'met' if met else 'MISSED'}"
        found = f"{' / '.join(names)} {ratio:.2f} [{low:.2f}, {high:.2f}]"
        return f"{row.case}, {self.phase}: {found}, {wanted if self.bound else self.remark}"


TARGETS = (
    *(Target(FLOOR, phase, "recurrent, cell only", 1.25, at_most=True) for phase in _PHASES),
    *(Target(FLOOR, phase, "recurrent, whole step", at_most=True, remark=_LOSS) for phase in _PHASES),
    Target(FLOOR, _WEIGHT, "recurrent, retraining", 1.25, at_most=True),
    Target(PLAIN, _WEIGHT, "recurrent, cell only, batch 64", 1.5),
    Target(MIXTURE, _WEIGHT, "recurrent, cell only", 4.0),
    Target(MIXTURE, _ARCHITECTURE, "recurrent, cell only", 2.5),
    Target(MIXTURE, _ITERATION, "recurrent, cell only", 3.5),
    Target(SECOND, _ITERATION, "recurrent, ", remark="5 in the paper, of a whole search"),
    Target(MIXTURE, _ARCHITECTURE, "peak memory, recurrent, cell only", 6.0),
)


def target_lines(rows: Sequence[Row]) -> Iterator[str]:
    """A line for every target and every row that it is about."""
    for target in TARGETS:
        for row in rows:
            about = (row.variant, row.phase) == (target.variant, target.phase) and not row.missing
            if about and row.case.startswith(target.case):
                yield target.line(row)
