# SPDX-License-Identifier: MIT
"""A witness of the fused engine, and one thread: these networks are so small that others only wait."""

from collections.abc import Iterator

import pytest
import torch

from nasp_ext.nn import cell, chains, fused, mixed_op, network, wired


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def fused_runs(monkeypatch) -> list[str]:
    """Grows by the name of the file each time that a cell, a block, a MixedOp or a stem runs fused."""
    runs: list[str] = []
    for user in (cell, chains, mixed_op, network, wired):

        def counted(*arguments, user=user, **options):
            runs.append(user.__name__.rpartition(".")[2])
            return fused.run_cell(*arguments, **options)

        monkeypatch.setattr(user, "run_cell", counted)
    return runs
