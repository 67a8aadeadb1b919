# SPDX-License-Identifier: MIT
"""The operators of ``nasp_ext.ops`` in plain PyTorch and Python loops: slow, obvious, the specification."""

import math
from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace

import torch
from torch import Tensor

from nasp_ext.ops._native import PRUNED, seed_of
from nasp_ext.ops.reference.blocks import (
    block_backward,
    block_forward,
    node_gradient_sums,
    node_sum_,
    pool_backward_,
    pool_forward,
    update_statistics_,
)
from nasp_ext.ops.reference.cell import CellInterpreter
from nasp_ext.ops.reference.recurrent import recurrent_backward, recurrent_dots, recurrent_forward
from nasp_ext.ops.reference.source import source_dots

__all__ = [
    "block_backward",
    "block_forward",
    "branch_dots",
    "cell_backward",
    "cell_forward",
    "mixed_sum",
    "nasp_step_",
    "node_gradient_sums",
    "node_sum_",
    "pool_backward_",
    "pool_forward",
    "prox_c",
    "prox_c1",
    "prox_c2",
    "recurrent_backward",
    "recurrent_dots",
    "recurrent_forward",
    "select_active",
    "source_dots",
    "update_statistics_",
]

_CELL = CellInterpreter(
    SimpleNamespace(
        block_backward=block_backward,
        block_forward=block_forward,
        node_gradient_sums=node_gradient_sums,
        node_sum_=node_sum_,
        pool_backward_=pool_backward_,
        pool_forward=pool_forward,
        source_dots=source_dots,
        update_statistics_=update_statistics_,
    )
)
cell_forward, cell_backward = _CELL.forward, _CELL.backward

_MASK64 = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15


def prox_c(
    a: Tensor, mask: Tensor | None = None, *, generator: torch.Generator | int | None = None
) -> tuple[Tensor, Tensor]:
    """Keep the largest entry of each row, clipped to [0, 1]."""
    index = _select(a, a, mask, seed_of(generator))
    return _keep(_clip(a), index), index


def prox_c1(
    a: Tensor, mask: Tensor | None = None, *, generator: torch.Generator | int | None = None
) -> tuple[Tensor, Tensor]:
    """Keep the entry of largest magnitude of each row."""
    index = _select(a, a.abs(), mask, seed_of(generator))
    return _keep(a, index), index


def prox_c2(a: Tensor, mask: Tensor | None = None) -> Tensor:
    """Clip to [0, 1]; options that do not exist are 0."""
    exists = _exists(a, mask)
    if bool(torch.isnan(a)[exists].any()):
        raise ValueError("expected numbers, found NaN")
    return torch.where(exists, _clip(a), 0.0)


def select_active(
    a: Tensor,
    node_offsets: Sequence[int] | None = None,
    edges_per_node: int | None = None,
    *,
    mask: Tensor | None = None,
    keep_value: bool = False,
    generator: torch.Generator | int | None = None,
) -> tuple[Tensor, Tensor]:
    """One option per row, then the best rows of each node, ranked by their selected entry."""
    seed = seed_of(generator)
    a = a.detach()
    active = _select(a, a, mask, seed)
    if edges_per_node is not None:
        if node_offsets is None:
            raise ValueError("expected node_offsets with edges_per_node")
        for begin, end in pairwise(node_offsets):
            rows = [r for r in range(begin, end) if active[r] >= 0]
            rows.sort(key=lambda r: (-float(a[r, active[r]]), -_tie_key(seed, r, PRUNED), r))
            active[rows[edges_per_node:]] = PRUNED
    kept = a.clamp(0, 1) if keep_value else torch.ones_like(a)
    return _keep(kept, active), active.to(torch.int32)


def nasp_step_(
    a: Tensor,
    grad: Tensor,
    weight: Tensor,
    active: Tensor,
    exp_avg: Tensor | None = None,
    exp_avg_sq: Tensor | None = None,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.5, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    cost: Tensor | None = None,
    eta: float = 0.0,
    node_offsets: Sequence[int] | None = None,
    edges_per_node: int | None = None,
    mask: Tensor | None = None,
    keep_value: bool = False,
    generator: torch.Generator | int | None = None,
) -> None:
    """Gradient of the regularised loss, Adam or a plain step, clip, select."""
    if not all(math.isfinite(x) and x >= 0 for x in (lr, eps, weight_decay, eta)):
        raise ValueError("expected lr, eps, weight_decay and eta to be finite numbers >= 0")
    exists = _exists(a, mask)
    with torch.no_grad():
        g = grad + weight_decay * a
        if cost is not None:
            g = g + 2 * eta * cost * weight
        made = [grad, a, g]
        if exp_avg is None or exp_avg_sq is None:
            moved = a - lr * g
        else:
            first = betas[0] * exp_avg + (1 - betas[0]) * g
            second = betas[1] * exp_avg_sq + (1 - betas[1]) * g * g
            unbiased = second / (1 - betas[1] ** step)
            moved = a - lr * (first / (1 - betas[0] ** step)) / (unbiased.sqrt() + eps)
            made += [exp_avg_sq.sqrt(), first, second]  # the root of a negative number is NaN
        made.append(moved.clamp(0, 1))
        if not all(bool(torch.isfinite(x)[exists].all()) for x in made):
            raise ValueError("expected finite numbers that a step leaves finite")
        if exp_avg is not None and exp_avg_sq is not None:
            exp_avg.copy_(torch.where(exists, first, exp_avg))
            exp_avg_sq.copy_(torch.where(exists, second, exp_avg_sq))
        a.copy_(torch.where(exists, moved.clamp(0, 1), a))
        chosen = select_active(
            a, node_offsets, edges_per_node, mask=mask, keep_value=keep_value, generator=generator
        )
        weight.copy_(chosen[0])
        active.copy_(chosen[1])


def branch_dots(grad: Tensor, outputs: Sequence[Tensor]) -> Tensor:
    """<grad, output> for every output."""
    arithmetic = torch.float64 if grad.dtype == torch.float64 else torch.float32
    return torch.stack([(grad.to(arithmetic) * y.to(arithmetic)).sum() for y in outputs])


def mixed_sum(outputs: Sequence[Tensor], weights: Tensor) -> Tensor:
    """sum_k weights[k] outputs[k]."""
    arithmetic = torch.float64 if outputs[0].dtype == torch.float64 else torch.float32
    terms = [w * y.to(arithmetic) for w, y in zip(weights.to(arithmetic), outputs, strict=True)]
    return torch.stack(terms).sum(0).to(outputs[0].dtype)


def _clip(a: Tensor) -> Tensor:
    """Nearest point of [0, 1]; the gradient passes on the bounds too (clamp: not since torch 2.14)."""
    return torch.where((a >= 0) & (a <= 1), a, a.detach().clamp(0, 1))


def _exists(a: Tensor, mask: Tensor | None) -> Tensor:
    return torch.ones_like(a, dtype=torch.bool) if mask is None else mask.expand(a.shape)


def _keep(values: Tensor, index: Tensor) -> Tensor:
    """``values`` at the selected options, 0 elsewhere."""
    options = torch.arange(values.shape[-1], device=values.device)
    return torch.where(options == index.unsqueeze(-1), values, 0.0)


def _select(a: Tensor, scores: Tensor, mask: Tensor | None, seed: int | None) -> Tensor:
    """The option of the largest score of each row; ties by key, then by the lowest index."""
    if a.shape[-1] == 0:
        raise ValueError("expected at least one option per row")
    options = a.shape[-1]
    index = torch.full((a.numel() // options,), PRUNED, dtype=torch.int64)
    table = scores.detach().reshape(-1, options).tolist()
    exists = _exists(a, mask).reshape(-1, options).tolist()
    for row, numbers in enumerate(table):
        candidates = [k for k in range(options) if exists[row][k]]
        if any(numbers[k] != numbers[k] for k in candidates):
            raise ValueError(f"expected numbers, found NaN in row {row}")
        if candidates:
            ranked = [(numbers[k], _tie_key(seed, row, k), -k) for k in candidates]
            index[row] = -max(ranked)[2]
    return index.reshape(a.shape[:-1]).to(a.device)


def _tie_key(seed: int | None, row: int, option: int) -> int:
    """A hash of (seed, row, option), equal for all without a seed."""
    if seed is None:
        return 0
    return _mix(_mix(seed + _GOLDEN * (row + 1)) + _GOLDEN * (option + 1))


def _mix(x: int) -> int:
    """The 64-bit finaliser of SplitMix64."""
    x &= _MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)
