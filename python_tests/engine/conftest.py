# SPDX-License-Identifier: MIT
"""Fixtures of the engine tests."""

import pytest
from engine_helpers import run

from nasp_ext.engine import SearchResult


@pytest.fixture(scope="session")
def whole_run() -> SearchResult:
    """The uninterrupted run that resumed ones are compared with."""
    return run()
