# SPDX-License-Identifier: MIT
"""The fused architecture update against Adam, clamp and a discretisation, vectorised or row by row."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.baselines.prox import CompositeStep, LoopStep
from benchmarks.framework import Case, Prepared, Settings, assert_equal
from nasp_ext import ops
from nasp_ext.optim import NASP

_OPTIONS = 8
_LR, _DECAY = 3e-4, 1e-3
_OURS, _OP = "NASP.step", "nasp_step_"
_COMPOSITE, _LOOP = "Adam(fused), clamp, scatter", "Adam(fused), clamp, loop over rows"


def cases(settings: Settings) -> list[Case]:
    sizes = (14, 1000) if settings.quick else (14, 1000, 1_000_000)
    vectorised = [_all_edges(settings, rows) for rows in sizes]
    return [*vectorised, _best_edges(settings, 14), _best_edges(settings, 1000)]


def _all_edges(settings: Settings, rows: int) -> Case:
    """One option per row, every edge kept: what a vectorised composite can do."""

    def build() -> Prepared:
        a, gradient = _start(settings, rows)
        ours, op, composite = _nasp(a, None, None), _Op(a, None, None), CompositeStep(a, _LR, _DECAY)
        _check(_run(ours, gradient), _run(op, gradient), _run(composite, gradient))
        return Prepared(
            {
                _OURS: {"": ours.step},
                _OP: {"": lambda: op.step(gradient)},
                _COMPOSITE: {"": lambda: composite.step(gradient)},
            }
        )

    return Case(f"update, all edges, {rows}x{_OPTIONS}", (_OURS, _OP, _COMPOSITE), build)


def _best_edges(settings: Settings, rows: int) -> Case:
    """The best two edges per node as well: a Python loop in the authors' style."""
    offsets = (0, 2, 5, 9, 14) if rows == 14 else tuple(range(0, rows + 1, 5))

    def build() -> Prepared:
        a, gradient = _start(settings, rows)
        ours, op = _nasp(a, offsets, 2), _Op(a, offsets, 2)
        loop = LoopStep(a, _LR, _DECAY, offsets, 2)
        _check(_run(ours, gradient), _run(op, gradient), _run(loop, gradient))
        return Prepared(
            {
                _OURS: {"": ours.step},
                _OP: {"": lambda: op.step(gradient)},
                _LOOP: {"": lambda: loop.step(gradient)},
            }
        )

    return Case(f"update, best 2 edges per node, {rows}x{_OPTIONS}", (_OURS, _OP, _LOOP), build)


def _start(settings: Settings, rows: int) -> tuple[Tensor, Tensor]:
    generator = settings.generator()
    a = torch.rand(rows, _OPTIONS, generator=generator)
    gradient = torch.randn(rows, _OPTIONS, generator=generator)
    return a.to(settings.device), gradient.to(settings.device)


def _nasp(a: Tensor, offsets: tuple[int, ...] | None, edges: int | None) -> NASP:
    nodes = None if offsets is None else [high - low for low, high in pairwise(offsets)]
    return NASP([a.clone().requires_grad_()], _LR, nodes=nodes, edges_per_node=edges)


class _Op:
    """The operator on its own, without the optimizer's bookkeeping."""

    def __init__(self, a: Tensor, offsets: tuple[int, ...] | None, edges: int | None) -> None:
        self.a = a.clone()
        self.weight, self.active = (
            torch.zeros_like(a),
            torch.zeros(len(a), dtype=torch.int32, device=a.device),
        )
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(a), torch.zeros_like(a)
        self.offsets, self.edges, self.count = offsets, edges, 0

    def step(self, gradient: Tensor) -> None:
        self.count += 1
        ops.nasp_step_(
            self.a,
            gradient,
            self.weight,
            self.active,
            self.exp_avg,
            self.exp_avg_sq,
            step=self.count,
            lr=_LR,
            weight_decay=_DECAY,
            node_offsets=self.offsets,
            edges_per_node=self.edges,
        )


def _run(stepper: NASP | _Op | CompositeStep, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """A and the one-hot rows after three steps."""
    for _ in range(3):
        if isinstance(stepper, NASP):
            (a,) = stepper.param_groups[0]["params"]
            a.grad = gradient
            stepper.step()
        else:
            stepper.step(gradient)
    if isinstance(stepper, NASP):
        return a.detach().clone(), stepper.gates()[0].weight
    return stepper.a.detach().clone(), stepper.weight.clone()


def _check(ours: tuple[Tensor, Tensor], *others: tuple[Tensor, Tensor]) -> None:
    for a, weight in others:
        assert_equal(ours[0], a, 1e-5, "A after three steps")
        # Where the two best entries differ by rounding only, either may be selected.
        first, second = a.topk(2, -1).values.unbind(-1)
        clear = bool((first - second).min() > 1e-6)
        same = (ours[1] == weight).all(-1).double().mean()
        if (clear and same < 1) or same < 0.999:
            raise AssertionError(f"selected rows: only {float(same):.2%} agree after three steps")
