# SPDX-License-Identifier: MIT
"""What several commands print: genotypes, files, metrics."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.engine.measures import headline
from nasp_ext.tasks.base import Metric


def print_genotype(genotype: AnyGenotype) -> None:
    """The genotype as JSON, and as a table of trained cells writes it, if one can."""
    print(f"genotype: {genotype.to_json()}")
    with contextlib.suppress(ValueError):  # most have no such text
        print(f"cell: {genotype.to_arch()}")


def print_files(files: Sequence[Path]) -> None:
    """Each file that was written."""
    for file in files:
        print(f"wrote {file}")


def print_test(metrics: Sequence[Metric], means: Mapping[str, float], of: str = "") -> None:
    """What a network reaches on the test part."""
    for metric in headline(metrics):
        print(f"test {metric.name}{of}: {precise(metric, means[metric.name])}")


def precise(metric: Metric, value: float) -> str:
    """A mean as the result of a run: with one digit more than in the line of an epoch.

    >>> precise(Metric("accuracy", ".1%"), 0.91234)
    '91.23%'
    """
    return format(value, re.sub(r"\.(\d+)", lambda digits: f".{int(digits[1]) + 1}", metric.format))
