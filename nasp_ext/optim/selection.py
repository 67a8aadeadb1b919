# SPDX-License-Identifier: MIT
"""The discretised matrix Ā that an optimizer keeps beside A, and the checks before a step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nasp_ext.optim.groups import node_offsets


@dataclass
class Selection:
    """Ā of one parameter, valid while the parameter is the one it was made from."""

    weight: Tensor  # (R, K)
    active: Tensor  # (R,) int32
    made_from: tuple[int, int]  # mark() of the parameter


def mark(p: Tensor) -> tuple[int, int]:
    """Changes whenever ``p`` is written to (other than through ``.data``) or given other storage."""
    return p._version, p.data_ptr()


def still_holds(p: Tensor, expected: Tensor) -> bool:
    """Whether ``p`` equals ``expected``; sees writes through ``.data``. On a GPU, assumed: no sync."""
    return p.device.type != "cpu" or torch.equal(p.detach(), expected)


def selection_options(group: dict[str, Any], p: Tensor, seed: int | None) -> dict[str, Any]:
    """Keyword arguments that ``ops.select_active`` and ``ops.nasp_step_`` share."""
    keep, mask = group["edges_per_node"], group["mask"]
    return {
        "node_offsets": None if keep is None else node_offsets(group["nodes"], p.shape[0]),
        "edges_per_node": keep,
        "mask": None if mask is None else mask.to(p.device),
        "keep_value": group["keep_value"],
        "generator": None if seed is None else torch.Generator().manual_seed(seed),
    }


def check_finite(p: Tensor, mask: Tensor | None) -> None:
    """Raise ValueError if the parameter or its gradient holds a NaN or an infinity where an option exists.

    On a GPU this would cost a sync; there the kernel marks the row and ``NASP.gates()`` raises.
    """
    assert p.grad is not None
    if p.device.type != "cpu":
        return
    for name, value in (("gradient", p.grad), ("architecture matrix", p.detach())):
        if math.isfinite(value.sum()):  # one reduction tells in the usual case; it may overflow
            continue
        bad = ~value.isfinite()
        if mask is not None:
            bad = bad & mask
        if bool(bad.any()):
            raise ValueError(
                f"expected finite numbers, found NaN or infinity in row {int(bad.any(-1).nonzero()[0])} of "
                f"the {name} {tuple(value.shape)}; the matrix is left as it was: "
                "look at the loss, lower lr or clip"
            )
