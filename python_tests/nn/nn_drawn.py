# SPDX-License-Identifier: MIT
"""Random architectures, and the mixture written out."""

from itertools import pairwise

import torch

from nasp_ext.arch.gates import MIXED, Gates
from nasp_ext.nn import MixedOp


def random_gates(cells, generator, *, edges=2, value=None, mixed=0.0, dtype=torch.float64):
    """One random option per row, or all options with probability `mixed`; `edges` random incoming edges kept
    per node, None = all."""
    weight = torch.zeros(cells.rows, cells.options, dtype=dtype)
    active = [-1] * cells.rows
    bounds = cells.node_offsets
    for start, stop in pairwise(bounds):
        kept = range(start, stop)
        if edges is not None:
            kept = (start + torch.randperm(stop - start, generator=generator)[:edges]).tolist()
        for row in kept:
            options = len(cells.choices(row))
            active[row] = int(torch.randint(options, (1,), generator=generator))
            weight[row, active[row]] = 1.0 if value is None else float(torch.rand(1, generator=generator))
            if mixed and float(torch.rand(1, generator=generator)) < mixed:
                weight[row, :options] = torch.rand(options, generator=generator, dtype=dtype)
                active[row] = MIXED
    return Gates(weight, tuple(active), unit=value is None)


def mixture(op: MixedOp, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The specification: every branch runs."""
    return sum(weight * branch(x) for weight, branch in zip(weights, op._ops, strict=True))
