# SPDX-License-Identifier: MIT
"""Shared by all tests: tolerances, seeds, and the rule that a missing GPU skips with a reason."""

import os

import pytest
import torch

# The one table of tolerances: dtype -> (relative, absolute) for a single operator against its reference.
TOLERANCE = {
    torch.float64: (1e-12, 1e-12),
    torch.float32: (1e-5, 1e-5),
    torch.float16: (2e-3, 2e-3),
    torch.bfloat16: (2e-2, 2e-2),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def assert_close():
    """Compare two tensors with the tolerance of their dtype."""

    def check(actual: torch.Tensor, expected: torch.Tensor) -> None:
        rtol, atol = TOLERANCE[actual.dtype]
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)

    return check


@pytest.fixture(scope="session")
def assert_near():
    """Compare sums: within the tolerance of their dtype of the largest entry, or of the largest sum of the
    magnitudes of ``terms`` where terms may cancel. NaN and infinities stand in the same places."""

    def check(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype, terms=()) -> None:
        assert found.shape == expected.shape
        if not found.numel():
            return
        ordinary = expected.isfinite()
        scale = max(
            [t.double().abs().max().item() for t in (expected[ordinary], *terms) if t.numel()] + [0.0]
        )
        rtol = TOLERANCE[dtype][0]
        torch.testing.assert_close(
            found.double(), expected.double(), rtol=0, atol=rtol * scale + 1e-300, equal_nan=True
        )

    return check


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    if os.environ.get("NASP_REQUIRE_CUDA") == "1":
        raise pytest.UsageError("NASP_REQUIRE_CUDA=1, but PyTorch sees no CUDA device")
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
