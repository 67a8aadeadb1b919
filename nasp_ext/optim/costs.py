# SPDX-License-Identifier: MIT
"""The costs of the regulariser of NASP (Yao et al. 2020, eq. 8), relative to their sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
    """``relative_cost`` of every parameter, computed again when cost, mask or parameter are another."""

    def __init__(self) -> None:
        self._made: dict[Tensor, tuple[tuple[object, ...], Tensor]] = {}

    def __call__(self, group: dict[str, Any], p: Tensor) -> Tensor:
        """That of ``p``, an entry of ``group``."""
        cost, mask = group["cost"], group["mask"]
        key = (_Same(cost), _Same(mask), p.dtype, p.device, p.shape)
        made = self._made.get(p)
        if made is None or made[0] != key:
            made = self._made[p] = key, relative_cost(cost, mask, p)
        return made[1]


class _Same:
    """Equal for one tensor, unchanged by PyTorch's operations in between."""

    def __init__(self, t: Tensor | None) -> None:
        self._tensor, self._version = t, None if t is None else t._version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._tensor is other._tensor and self._version == other._version

    __hash__ = None  # type: ignore[assignment]
