# SPDX-License-Identifier: MIT
"""A witness of the fused engine, and one thread: these networks are so small that others only wait."""

from collections.abc import Iterator

import pytest
import torch

from nasp_ext.families.cells import cell, network
from nasp_ext.families.topology import cell as wired
from nasp_ext.nn import mixed_op
from nasp_ext.nn.fused import autograd as fused
from nasp_ext.nn.fused import chains


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def fused_runs(monkeypatch) -> list[str]:
    """Grows by the name of the part each time that a cell, a block, a MixedOp or a stem runs fused."""
    runs: list[str] = []
    users = {"cell": cell, "chains": chains, "mixed_op": mixed_op, "network": network, "wired": wired}
    for name, user in users.items():

        def counted(*arguments, name=name, **options):
            runs.append(name)
            return fused.run_cell(*arguments, **options)

        monkeypatch.setattr(user, "run_cell", counted)
    return runs
