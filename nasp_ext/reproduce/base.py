# SPDX-License-Identifier: MIT
"""What an experiment is, and what experiments print."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Say = Callable[[str], None]


@dataclass(frozen=True)
class Experiment(ABC):
    """A frozen dataclass that validates itself; each field with a default and a docstring is an option.

    The first line of the docstring is what ``nasp-ext reproduce`` lists.
    """

    @abstractmethod
    def run(self, say: Say) -> Sequence[Path]:
        """Do it; ``say`` prints a line. Returns the files that were written."""


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table with aligned columns: the first one to the left, numbers to the right.

    Args:  rows: the first one is the heading.

    >>> for line in table([["eta", "parameters"], ["0.1", "1,204"]]):
    ...     print(line)
    eta  parameters
    0.1       1,204
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def check_steps(name: str, values: Sequence[float]) -> None:
    """Raise ValueError unless these are different finite numbers > 0, at least one."""
    different = bool(values) and len(set(values)) == len(values)
    if not different or not all(0 < value < math.inf for value in values):
        raise ValueError(f"expected different {name} > 0, at least one, got {values}")
