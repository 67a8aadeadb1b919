# SPDX-License-Identifier: MIT
"""All comparisons, in the order of the report."""

from benchmarks.cases import mixture, optimizer, prox, recurrent, steps
from benchmarks.framework import Case, Settings


def all_cases(settings: Settings) -> list[Case]:
    """Every case at the sizes that the settings ask for."""
    return [
        case for module in (prox, optimizer, mixture, steps, recurrent) for case in module.cases(settings)
    ]
