# SPDX-License-Identifier: MIT
"""The costs of the regulariser of NASP (Yao et al. 2020, eq. 8), relative to their mean row sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def relative_cost(cost: Tensor, mask: Tensor | None, like: Tensor) -> Tensor:
    """``cost`` divided by p̄, one number for the whole matrix (eq. 8 of Yao et al. 2020).

    p̄ is the mean over the rows of their sum of costs, which is the Σ p_k of the paper where all rows have the
    same options. With a sum per row the only dear option of a row would weigh as much as a whole row of dear
    ones. Options that do not exist count neither here nor there.

    Args:
        cost: (K,) or (R, K), numbers >= 0.
        mask: None or bool, broadcastable to ``like``.
        like: the architecture matrix (R, K).
    Returns:
        (R, K) in the dtype and on the device of ``like``; all 0 if every option is free.

    >>> relative_cost(torch.tensor([[0.0, 6.0], [1.0, 1.0]]), None, torch.zeros(2, 2))
    tensor([[0.0000, 1.5000],
            [0.2500, 0.2500]])
    """
    full = cost.detach().to(like.device, torch.float64).expand(like.shape)
    if mask is not None:
        full = full.masked_fill(~mask.to(like.device), 0.0)
    mean = full.sum() / max(len(full), 1)
    return torch.where(mean > 0, full / mean, full).to(like.dtype)


class RelativeCosts:
    """``relative_cost`` of every parameter, made again when cost, mask or parameter are another."""

    def __init__(self) -> None:
        self._made: dict[Tensor, tuple[Tensor, Seen, Seen]] = {}

    def __call__(self, group: dict[str, Any], p: Tensor) -> Tensor:
        """That of ``p``, an entry of ``group``, whatever was written to cost and mask since the last time."""
        made, cost, mask = self._made.get(p), group["cost"], group["mask"]
        if (
            made is None
            or (made[0].shape, made[0].dtype, made[0].device) != (p.shape, p.dtype, p.device)
            or not made[1].holds(cost)
            or not made[2].holds(mask)
        ):
            made = self._made[p] = relative_cost(cost, mask, p), Seen(cost), Seen(mask)
        return made[0]

    def last(self, p: Tensor) -> Tensor | None:
        """What the last call gave for ``p``, unseen whether it still holds."""
        made = self._made.get(p)
        return None if made is None else made[0]

    def seen(self, p: Tensor) -> Tensor | None:
        """A copy of the costs that ``last`` was made of, if they are on the CPU."""
        return self._made[p][1].copy


class Seen:
    """A table as it was: by a copy on the CPU, elsewhere by its version, as to look would be a wait."""

    def __init__(self, t: Tensor | None) -> None:
        self._tensor, self._version = t, None if t is None else t._version
        on_cpu = t is not None and t.device.type == "cpu"
        self.copy = (
            t.detach().clone(memory_format=torch.contiguous_format) if on_cpu and t is not None else None
        )

    def holds(self, t: Tensor | None) -> bool:
        """Whether ``t`` is the table, with the entries that it had."""
        if t is None or self._tensor is None or self.copy is None:
            return t is self._tensor and (t is None or t._version == self._version)
        return t.dtype == self.copy.dtype and t.device == self.copy.device and t.equal(self.copy)
