# SPDX-License-Identifier: MIT
"""Untimed (--benchmark-disable) the cases are small: they show that every variant runs and agrees."""

from collections.abc import Callable

import pytest
import torch

from benchmarks.cases import all_cases
from benchmarks.framework import Case, Prepared, Settings


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        quick = bool(metafunc.config.getoption("benchmark_disable"))
        cases = all_cases(Settings(quick=quick, batch=(16,), threads=(1,)))
        pairs = [(case, variant) for case in cases for variant in case.variants]
        names = [f"{case.name}: {variant}" for case, variant in pairs]
        metafunc.parametrize("case, variant", pairs, ids=names)


@pytest.fixture(scope="session")
def prepared() -> Callable[[Case], Prepared]:
    """Each case built once, whichever of its variants runs first; only the last is kept in memory."""
    held: dict[str, Prepared] = {}

    def prepare(case: Case) -> Prepared:
        if case.name not in held:
            held.clear()
            torch.manual_seed(0)
            held[case.name] = case.build()
        return held[case.name]

    return prepare
