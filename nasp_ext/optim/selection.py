# SPDX-License-Identifier: MIT
"""The discretised matrix Ā that an optimizer keeps beside A, and what it looks at before a step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nasp_ext import ops
from nasp_ext.ops._native import seed_of
from nasp_ext.ops.direct import DirectStep, all_finite
from nasp_ext.optim.groups import node_offsets


@dataclass
class Selection:
    """Ā of one parameter, valid while the parameter is the one it was made from."""

    weight: Tensor  # (R, K)
    active: Tensor  # (R,) int32
    made_from: tuple[int, int]  # mark() of the parameter
    _direct: DirectStep | None = field(default=None, init=False)
    _inputs: tuple[object, ...] = field(default=(None,) * 7, init=False)  # what _direct was made with

    def step(
        self,
        group: dict[str, Any],
        p: Tensor,
        grad: Tensor,
        state: dict[str, Any],
        cost: Tensor | None,
        step: int,
        seed: int | None,
    ) -> None:
        """Step number ``step`` of ``p`` along ``grad``; this selection is then that of the new ``p``."""
        exp_avg, exp_avg_sq = state.get("exp_avg"), state.get("exp_avg_sq")
        lr, betas, eps = group["lr"], group["betas"], group["eps"]
        weight_decay, eta = group["weight_decay"], group["eta"]
        direct = self._direct_step(group, p, exp_avg, exp_avg_sq, cost)
        if direct is not None and direct.still_fits(p, grad):
            ties = None if seed is None else seed_of(tie_generator(seed))
            direct(grad, step, lr, betas, eps, weight_decay, eta, ties)
        elif grad.is_sparse:
            raise TypeError("expected a dense gradient, got a sparse one")
        else:
            ops.nasp_step_(
                p.detach(),
                grad,
                self.weight,
                self.active,
                exp_avg,
                exp_avg_sq,
                step=step,
                lr=float(lr),
                betas=betas,
                eps=eps,
                weight_decay=weight_decay,
                cost=cost,
                eta=eta,
                generator=tie_generator(seed),
                **selection_options(group, p),
            )
        self.made_from = mark(p)

    def _direct_step(
        self,
        group: dict[str, Any],
        p: Tensor,
        exp_avg: Tensor | None,
        exp_avg_sq: Tensor | None,
        cost: Tensor | None,
    ) -> DirectStep | None:
        """The way past the dispatcher, made anew if an option or a tensor is another; None: there is none."""
        if torch.compiler.is_compiling():
            return None
        was = self._inputs
        if not (
            exp_avg is was[0]
            and exp_avg_sq is was[1]
            and cost is was[2]
            and group["mask"] is was[3]
            and group["nodes"] is was[4]
            and group["edges_per_node"] is was[5]
            and group["keep_value"] is was[6]
        ):
            names = ("mask", "nodes", "edges_per_node", "keep_value")
            self._inputs = exp_avg, exp_avg_sq, cost, *(group[name] for name in names)
            tensors = (p, self.weight, self.active, exp_avg, exp_avg_sq)
            self._direct = DirectStep.make(*tensors, cost=cost, **selection_options(group, p))
        return self._direct


def mark(p: Tensor) -> tuple[int, int]:
    """Changes whenever ``p`` is written to (other than through ``.data``) or given other storage."""
    return p._version, p.data_ptr()


def still_holds(p: Tensor, expected: Tensor) -> bool:
    """Whether ``p`` equals ``expected``; sees writes through ``.data``. On a GPU, assumed: no sync."""
    return p.device.type != "cpu" or torch.equal(p.detach(), expected)


def tie_generator(seed: int | None) -> torch.Generator | None:
    """What breaks the ties of one selection, from the number that the state keeps."""
    return None if seed is None else torch.Generator().manual_seed(seed)


def selection_options(group: dict[str, Any], p: Tensor) -> dict[str, Any]:
    """Keyword arguments that ``ops.select_active`` and ``ops.nasp_step_`` share, but for the generator."""
    keep, mask = group["edges_per_node"], group["mask"]
    return {
        "node_offsets": None if keep is None else node_offsets(group["nodes"], p.shape[0]),
        "edges_per_node": keep,
        "mask": None if mask is None else mask.to(p.device),
        "keep_value": group["keep_value"],
    }


def check_finite(p: Tensor, mask: Tensor | None) -> None:
    """Raise ValueError if the parameter or its gradient holds a NaN or an infinity where an option exists.

    On a GPU this would cost a sync; there the kernel marks the row and ``NASP.gates()`` raises.
    """
    assert p.grad is not None
    if p.device.type != "cpu":
        return
    for name, value in (("gradient", p.grad), ("architecture matrix", p)):
        if all_finite(value):
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
