# SPDX-License-Identifier: MIT
"""Every variant of every case; ``python -m benchmarks.report`` times them in turns and prints ratios."""

from collections.abc import Callable

import pytest
import torch

from benchmarks.framework import Case, Prepared


def test_variant(
    case: Case, variant: str, prepared: Callable[[Case], Prepared], request: pytest.FixtureRequest
) -> None:
    before = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(before))
    torch.set_num_threads(case.threads or before)
    ready = prepared(case)
    if variant in ready.missing:
        pytest.skip(ready.missing[variant])
    benchmark = request.getfixturevalue("benchmark")
    benchmark.group = case.name

    def run() -> None:
        for phase in ready.variants[variant].values():
            phase()

    benchmark(run)
