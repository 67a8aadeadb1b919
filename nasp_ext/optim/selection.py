# SPDX-License-Identifier: MIT
"""The discretised matrix Ā that an optimizer keeps beside A, and the step from one to the next."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nasp_ext import ops
from nasp_ext.ops.direct import DirectStep
from nasp_ext.optim.moments import Moments
from nasp_ext.optim.nodes import node_offsets

_is_compiling = torch.compiler.is_compiling
STARTED = 3  # steps after which a gradient that was always zero is no accident


class Selection:
    """Ā of one parameter, with what it was made from: A itself on the CPU, its version elsewhere.

    Args:
        group: the options of the parameter.
        p: A, (R, K).
        seed: breaks the ties, None: the lowest index.
    Raises:  ValueError: A holds a NaN, or is no matrix of numbers at all.
    """

    def __init__(self, group: dict[str, Any], p: Tensor, seed: int | None) -> None:
        if p.is_meta:
            raise ValueError(
                f"expected an architecture matrix that holds numbers, found {tuple(p.shape)} on meta: give "
                "it memory first, e.g. by module.to_empty(device=...) and a start value"
            )
        a, mask = p.detach(), group["mask"]
        self.weight, self.active = ops.select_active(a, generator=seed, **selection_options(group, p))
        self._seen, self._seen_mask = _copy_on_cpu(a), None if mask is None else _copy_on_cpu(mask)
        self._options = _options(group)
        self._inputs: tuple[object, ...] = ()  # what _direct was made with
        self._direct: DirectStep | None = None
        self._version, self._address = mark(p)

    def renew(self, p: Tensor) -> None:
        """Remember that ``p`` is what this selection was made from, though it was written to."""
        address, (self._version, self._address) = self._address, mark(p)
        if address != self._address:
            self._direct = None  # of the memory that ``p`` had

    def holds(self, group: dict[str, Any], p: Tensor) -> bool:
        """Whether it is that of ``p`` as it is now, however ``p`` and its mask were written to.

        Outside the CPU a write through ``.data`` goes unseen: to look would be to wait for the device.
        """
        return (
            self.fits(p)
            and self._options == _options(group)
            and self.knows_mask(group)
            and (mark(p) == (self._version, self._address) if self._seen is None else p.equal(self._seen))
        )

    def knows_mask(self, group: dict[str, Any]) -> bool:
        """Whether the mask, if it is on the CPU, has the entries that it had."""
        return self._seen_mask is None or _equal(group["mask"], self._seen_mask)

    def fits(self, p: Tensor) -> bool:
        """Whether ``p`` still has the shape, dtype and device that it had."""
        w = self.weight
        return (w.shape, w.dtype, w.device) == (p.shape, p.dtype, p.device)

    def repeats(
        self,
        group: dict[str, Any],
        p: Tensor,
        grad: Tensor,
        exp_avg: Tensor | None,
        exp_avg_sq: Tensor | None,
        cost: Tensor | None,
    ) -> bool:
        """Whether the next step can go past the dispatcher with the addresses of the last one."""
        was, direct = self._inputs, self._direct
        return (
            direct is not None
            and p._version == self._version
            and p.data_ptr() == self._address
            and exp_avg is was[0]
            and exp_avg_sq is was[1]
            and cost is was[2]
            and group["mask"] is was[3]
            and group["cost"] is was[4]
            and group["nodes"] is was[5]
            and group["edges_per_node"] is was[6]
            and group["keep_value"] is was[7]
            and direct.still_fits(p, grad, exp_avg, exp_avg_sq)
            and not _is_compiling()
        )

    def prepare(
        self,
        group: dict[str, Any],
        p: Tensor,
        grad: Tensor,
        moments: Moments,
        cost: Tensor | None,
        seen_cost: Tensor | None,
    ) -> None:
        """Look for the way past the dispatcher, for the next step and those like it.

        Args:
            cost: relative, (R, K); seen_cost: a copy of the costs that it was made of.
        """
        names = ("mask", "cost", "nodes", "edges_per_node", "keep_value")
        self._inputs = *moments, cost, *(group[name] for name in names)
        source = None if cost is None else group["cost"]
        seen = (self._seen, self._seen_mask, source, seen_cost)
        self._direct = None
        if not _is_compiling():
            direct = DirectStep.make(
                *(p, self.weight, self.active, *moments, cost, *seen), **selection_options(group, p)
            )
            if direct is not None and direct.still_fits(p, grad, *moments):
                self._direct = direct

    def step(
        self,
        group: dict[str, Any],
        p: Tensor,
        grad: Tensor,
        moments: Moments,
        cost: Tensor | None,
        step: int,
        seed: int | None,
    ) -> bool | None:
        """Step number ``step`` of ``p`` along ``grad``; this selection is then that of the new ``p``.

        Returns:
            Whether ``grad`` is not zero everywhere (assumed where that is no use or a wait); None if mask or
            costs were written to, or with costs ``p``, since they were looked at: nothing was done.
        """
        lr, betas, eps = group["lr"], group["betas"], group["eps"]
        weight_decay, eta = group["weight_decay"], group["eta"]
        if self._direct is not None:
            moves = self._direct(grad, step, lr, betas, eps, weight_decay, eta, seed)
            self._version += moves is not None
            return moves
        moves = step > STARTED or p.device.type != "cpu" or not grad.equal(torch.zeros_like(grad))
        ops.nasp_step_(
            p.detach(),
            grad,
            self.weight,
            self.active,
            *moments,
            step=step,
            lr=float(lr),
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            cost=cost,
            eta=eta,
            generator=seed,
            **selection_options(group, p),
        )
        if self._seen is not None:
            self._seen.copy_(p.detach())
        self.renew(p)
        return moves


def mark(p: Tensor) -> tuple[int, int]:
    """Changes whenever ``p`` is written to (other than through ``.data``) or given other storage."""
    return p._version, p.data_ptr()


def restore(p: Tensor, a: Tensor) -> None:
    """Write ``a`` to ``p``, which may have been converted since, or given another shape by ``.data``."""
    if p.shape == a.shape:
        p.detach().copy_(a)
    else:
        p.data = a.to(p.device, p.dtype)


def kept_rows(weight: Tensor, active: Tensor) -> Tensor:
    """The option of each row that is searched: PRUNED also for one without a positive entry.

    Such a row is zero where kept entries have their values (Yao et al. 2020, C1 ∩ C2), so it has no edge.

    Args:    weight: (R, K), active: (R,) int32, as ``ops.select_active`` gives them; rows of NaN stay marked.

    >>> kept_rows(torch.tensor([[0.0, 0.5], [0.0, 0.0]]), torch.tensor([1, 0]))
    tensor([ 1, -1])
    """
    return active.masked_fill((weight == 0).all(-1) & (active >= 0), ops.PRUNED)


def still_holds(p: Tensor, expected: Tensor) -> bool:
    """Whether ``p`` equals ``expected``; sees writes through ``.data``. On a GPU, assumed: no sync."""
    return p.device.type != "cpu" or _equal(p, expected)


def selection_options(group: dict[str, Any], p: Tensor) -> dict[str, Any]:
    """Keyword arguments that ``ops.select_active`` and ``ops.nasp_step_`` share, but for the generator."""
    keep, mask = group["edges_per_node"], group["mask"]
    return {
        "node_offsets": None if keep is None else node_offsets(group["nodes"], p.shape[0], keep),
        "edges_per_node": keep,
        "mask": None if mask is None else mask.to(p.device),
        "keep_value": group["keep_value"],
    }


def _options(group: dict[str, Any]) -> tuple[object, ...]:
    """What a selection depends on besides A; a mask on the CPU by its entries, which are kept beside."""
    mask = group["mask"]
    by_version = None if mask is None or mask.device.type == "cpu" else (id(mask), mask._version)
    return mask is None, by_version, *(group[name] for name in ("nodes", "edges_per_node", "keep_value"))


def _copy_on_cpu(t: Tensor) -> Tensor | None:
    return t.clone(memory_format=torch.contiguous_format) if t.device.type == "cpu" else None


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.device == other.device and one.equal(other)
