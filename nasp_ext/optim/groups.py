# SPDX-License-Identifier: MIT
"""Options of one NASP parameter group: presets, checks, and what the fused step needs of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

# What each preset says where the caller is silent; "adam" is not an option of its own.
PRESETS: dict[str, dict[str, Any]] = {
    "official": {"adam": True, "weight_decay": 1e-3, "edges_per_node": 2, "keep_value": False},
    "paper": {"adam": False, "weight_decay": 0.0, "edges_per_node": None, "keep_value": True},
}
FROM_PRESET = "preset"
_DTYPES = (torch.float32, torch.float64)


def complete_group(group: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The group with every option filled in from its preset and checked against its parameters.

    Args:
        group: a parameter group as the caller gave it; ``params`` and any option.
        defaults: the options given to the optimizer itself.
    Raises:
        ValueError, TypeError: an option that cannot be used, saying what was expected.
    """
    full = {**defaults, **group}
    if isinstance(full["params"], Tensor):
        full["params"] = [full["params"]]
    full["params"] = list(full["params"])
    preset = full["preset"]
    if preset not in PRESETS:
        raise ValueError(f"expected preset to be one of {sorted(PRESETS)}, got {preset!r}")
    for name, value in PRESETS[preset].items():
        if full.get(name, FROM_PRESET) == FROM_PRESET:
            full[name] = value
    _check_numbers(full)
    for p in full["params"]:
        _check_parameter(p[1] if isinstance(p, tuple) else p, full)
    if full["nodes"] is not None:
        full["nodes"] = tuple(int(n) for n in full["nodes"])
    return full


def _check_numbers(group: dict[str, Any]) -> None:
    for name in ("lr", "eps", "weight_decay", "eta"):
        value = group[name]
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"expected {name} to be a finite number >= 0, got {value}")
    betas = group["betas"]
    if len(betas) != 2 or not all(0.0 <= b < 1.0 for b in betas):
        raise ValueError(f"expected betas to be two numbers in [0, 1), got {betas}")
    if group["eta"] and group["cost"] is None:
        raise ValueError(
            f"eta = {group['eta']} needs cost=, the parameters (or time) of each option, (K,) or (R, K)"
        )
    keep = group["edges_per_node"]
    if keep is not None and keep < 1:
        raise ValueError(f"expected edges_per_node to be None (all edges) or >= 1, got {keep}")


def _check_parameter(p: Any, group: dict[str, Any]) -> None:
    if not isinstance(p, Tensor):
        raise TypeError(f"expected architecture parameters to be tensors, got {type(p).__name__}")
    if p.ndim != 2 or p.shape[1] == 0:
        raise ValueError(f"expected an architecture matrix (R, K) with K >= 1, got shape {tuple(p.shape)}")
    if p.dtype not in _DTYPES:
        raise TypeError(f"expected an architecture matrix of float32 or float64, got {p.dtype}")
    if group["edges_per_node"] is not None:
        node_offsets(group["nodes"], p.shape[0])
    for name in ("cost", "mask"):
        value = group[name]
        if value is not None and not _broadcasts(value.shape, p.shape):
            raise ValueError(
                f"expected {name} to fit the matrix {tuple(p.shape)} as (K,) or (R, K), "
                f"got {tuple(value.shape)}"
            )
    if group["mask"] is not None and group["mask"].dtype != torch.bool:
        raise TypeError(f"expected mask to be bool (True = the option exists), got {group['mask'].dtype}")
    if group["cost"] is not None and not bool((group["cost"] >= 0).all()):
        raise ValueError("expected cost to hold numbers >= 0, found a negative one or a NaN")


def _broadcasts(shape: Sequence[int], target: Sequence[int]) -> bool:
    return len(shape) in (1, 2) and all(
        s in (1, t) for s, t in zip(reversed(shape), reversed(target), strict=False)
    )


def node_offsets(nodes: Iterable[int] | None, rows: int) -> tuple[int, ...]:
    """Row bounds of the nodes: given, or inferred for a DARTS-shaped matrix (2 + 3 + 4 + 5 … rows).

    >>> node_offsets(None, 14)
    (0, 2, 5, 9, 14)
    >>> node_offsets((1, 2), 3)
    (0, 1, 3)
    """
    return _node_offsets(None if nodes is None else tuple(nodes), rows)


@lru_cache(maxsize=64)
def _node_offsets(nodes: tuple[int, ...] | None, rows: int) -> tuple[int, ...]:
    if nodes is None:
        offsets = [0]
        while offsets[-1] < rows:
            offsets.append(offsets[-1] + len(offsets) + 1)
        if offsets[-1] == rows:
            return tuple(offsets)
        raise ValueError(
            f"edges_per_node needs to know which rows enter which node, and {rows} rows are not of the form "
            "2 + 3 + 4 + 5 …: pass nodes=(rows of node 0, rows of node 1, …), e.g. nodes=(2, 3, 4, 5, 2, 3, "
            "4, 5) for two DARTS cells in one matrix, or edges_per_node=None to keep every edge"
        )
    if any(n < 0 for n in nodes) or sum(nodes) != rows:
        raise ValueError(
            f"expected nodes to be row counts that sum to {rows}, got {nodes} with sum {sum(nodes)}"
        )
    return (0, *accumulate(nodes))


def relative_cost(cost: Tensor, mask: Tensor | None, like: Tensor) -> Tensor:
    """``cost`` divided by p̄, its sum over the options that exist, row by row (eq. 8 of Yao et al. 2020).

    Args:
        cost: (K,) or (R, K), numbers >= 0.
        mask: None or bool, broadcastable to ``like``.
        like: the architecture matrix (R, K).
    Returns:
        (R, K) in the dtype and on the device of ``like``; a row of free options is all 0.
    """
    full = cost.detach().to(like.device, torch.float64).expand(like.shape)
    if mask is not None:
        full = full.masked_fill(~mask.to(like.device), 0.0)
    total = full.sum(-1, keepdim=True)
    return torch.where(total > 0, full / total, full).to(like.dtype)


class RelativeCosts:
    """``relative_cost`` of every parameter, computed again when its cost or mask is another tensor."""

    def __init__(self) -> None:
        self._made: dict[Tensor, tuple[Tensor, Tensor | None, Tensor]] = {}

    def __call__(self, group: dict[str, Any], p: Tensor) -> Tensor:
        """That of ``p``, an entry of ``group``."""
        made, cost, mask = self._made.get(p), group["cost"], group["mask"]
        if made is None or made[0] is not cost or made[1] is not mask:
            made = self._made[p] = cost, mask, relative_cost(cost, mask, p)
        return made[2]
