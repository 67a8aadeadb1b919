# SPDX-License-Identifier: MIT
"""Proximal operators of the sets C, C1 and C2, and the selection built on them (Yao et al. 2020)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nasp_ext import _C as _C  # registers torch.ops.nasp_ext
from nasp_ext.ops import reference
from nasp_ext.ops._native import call, check_tensor, differentiable, record, register_fake, row_mask, seed_of
from nasp_ext.ops._transforms import by_torch_alone, refuse_batch

_PROX_C = torch.ops.nasp_ext.prox_c.default
_PROX_C1 = torch.ops.nasp_ext.prox_c1.default
_PROX_C2 = torch.ops.nasp_ext.prox_c2.default
_SELECT_ACTIVE = torch.ops.nasp_ext.select_active.default


def prox_c(
    a: Tensor, mask: Tensor | None = None, *, generator: torch.Generator | int | None = None
) -> tuple[Tensor, Tensor]:
    """Nearest point to each row among the points with one entry, in [0, 1] (Yao et al. 2020, eq. 13).

    The entry kept is the one of maximal violation, the largest unclipped entry; the gradient goes to it if
    it lies in [0, 1].

    Args:
        a: architecture matrix, (..., R, K), float32, float64, bfloat16 or float16.
        mask: bool, broadcastable to ``a``; True = the option exists.
        generator: breaks exact ties at random, a number: with this seed; without it the lowest index wins.
    Returns: values, (..., R, K), and index, (..., R) int64: the option kept, or PRUNED.
    Raises:  ValueError: a NaN in ``a`` (on CUDA the index is NAN_ROW), K = 0, a mask that does not fit.
    >>> prox_c(torch.tensor([[0.2, 1.5, 1.2]]))
    (tensor([[0., 1., 0.]]), tensor([1]))
    """
    check_tensor(a, "a")
    if by_torch_alone():
        refuse_batch("prox_c", a)
        return reference.prox_c(a, row_mask(mask, a), generator=generator)
    if mask is None and generator is None and not (a.requires_grad and torch.is_grad_enabled()):
        result: tuple[Tensor, Tensor] = call(_PROX_C, a, None, None)
        return result
    return _project(_PROX_C, a, mask, generator)


def prox_c1(
    a: Tensor, mask: Tensor | None = None, *, generator: torch.Generator | int | None = None
) -> tuple[Tensor, Tensor]:
    """Nearest point to each row among the points with one entry: the largest magnitude stays (set C1).

    Args, Returns, Raises: as ``prox_c``.
    >>> prox_c1(torch.tensor([[0.2, -1.5, 1.2]]))
    (tensor([[ 0.0000, -1.5000,  0.0000]]), tensor([1]))
    """
    check_tensor(a, "a")
    if by_torch_alone():
        refuse_batch("prox_c1", a)
        return reference.prox_c1(a, row_mask(mask, a), generator=generator)
    if mask is None and generator is None and not (a.requires_grad and torch.is_grad_enabled()):
        result: tuple[Tensor, Tensor] = call(_PROX_C1, a, None, None)
        return result
    return _project(_PROX_C1, a, mask, generator)


def prox_c2(a: Tensor, mask: Tensor | None = None) -> Tensor:
    """Nearest point of the box [0, 1] (Yao et al. 2020, set C2); options that do not exist are 0.

    Args:
        a: architecture matrix, (..., R, K), float32, float64, bfloat16 or float16.
        mask: bool, broadcastable to ``a``; True = the option exists.
    Returns: values, (..., R, K). The gradient passes where 0 <= a <= 1.
    Raises:  ValueError: a NaN in ``a`` (on CUDA the value is NaN), K = 0, a mask that does not fit.
    >>> prox_c2(torch.tensor([[-1.0, 0.5, 2.0]]))
    tensor([[0.0000, 0.5000, 1.0000]])
    """
    check_tensor(a, "a")
    rows = row_mask(mask, a)
    if by_torch_alone():
        refuse_batch("prox_c2", a)
        return reference.prox_c2(a, rows)
    result: Tensor = record(_Clip, a, rows) if differentiable(a) else call(_PROX_C2, a, rows)
    return result


def select_active(
    a: Tensor,
    node_offsets: Sequence[int] | None = None,
    edges_per_node: int | None = None,
    *,
    mask: Tensor | None = None,
    keep_value: bool = False,
    generator: torch.Generator | int | None = None,
) -> tuple[Tensor, Tensor]:
    """The discrete architecture at ``a``: an option per row, the best rows per node (Yao et al. 2020).

    Step 5 of Alg. 2. Rows compete by their selected, unclipped entry. There is no gradient: take it with
    respect to ``weight``.

    Args:
        a: architecture matrix, (R, K), float32, float64, bfloat16 or float16.
        node_offsets: row bounds of the nodes, increasing from 0 to R; (0, 2, 5, 9, 14) is a DARTS cell.
        edges_per_node: rows kept per node; None keeps all.
        mask: bool, broadcastable to ``a``; True = the option exists.
        keep_value: the active entry of ``weight`` is the clipped entry of ``a`` instead of 1.
        generator: breaks exact ties of options and of rows at random, a number: with this seed; without it
            the lowest index wins.
    Returns: weight, (R, K), and active, (R,) int32: the option of each row, PRUNED where there is none.
    Raises:  ValueError: a NaN in ``a`` (on CUDA ``active`` is NAN_ROW), arguments that do not fit.
    >>> select_active(torch.tensor([[0.1, 0.9], [0.5, 0.4], [0.2, 0.6]]), (0, 3), 2)
    (tensor([[0., 1.],
            [0., 0.],
            [0., 1.]]), tensor([ 1, -1,  1], dtype=torch.int32))
    """
    check_tensor(a, "a")
    arguments = (a, node_offsets, edges_per_node, row_mask(mask, a), keep_value, seed_of(generator))
    result: tuple[Tensor, Tensor] = (
        record(_Select, *arguments) if differentiable(a) else call(_SELECT_ACTIVE, *arguments)
    )
    return result


def _project(
    operator: Any, a: Tensor, mask: Tensor | None, generator: torch.Generator | int | None
) -> tuple[Tensor, Tensor]:
    arguments = (operator, a, row_mask(mask, a), seed_of(generator))
    result: tuple[Tensor, Tensor] = record(_Project, *arguments) if differentiable(a) else call(*arguments)
    return result


def _inside(a: Tensor) -> Tensor:
    return (a >= 0) & (a <= 1)


class _Project(torch.autograd.Function):
    """prox_c and prox_c1: the gradient of the kept entry, within the bounds where there are bounds."""

    @staticmethod
    def forward(
        ctx: Any, operator: Any, a: Tensor, mask: Tensor | None, seed: int | None
    ) -> tuple[Tensor, Tensor]:
        values, index = call(operator, a, mask, seed)
        ctx.save_for_backward(a, index)
        ctx.bounded = operator is _PROX_C
        ctx.mark_non_differentiable(index)
        return values, index

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[None, Tensor, None, None]:
        a, index = ctx.saved_tensors
        kept = torch.arange(a.shape[-1], device=a.device) == index.unsqueeze(-1)
        if ctx.bounded:
            kept = kept & _inside(a)
        return None, torch.where(kept, grads[0], 0.0), None, None


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, mask: Tensor | None) -> Tensor:
        ctx.save_for_backward(a, mask)
        values: Tensor = call(_PROX_C2, a, mask)
        return values

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        a, mask = ctx.saved_tensors
        kept = _inside(a) if mask is None else _inside(a) & mask
        return torch.where(kept, grads[0], 0.0), None


class _Select(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
        weight, active = call(_SELECT_ACTIVE, a, *arguments)
        ctx.mark_non_differentiable(active)
        return weight, active

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> None:
        raise RuntimeError(
            "select_active has no gradient with respect to a: detach a, and take the gradient with respect "
            "to the weight it returns (Yao et al. 2020, Alg. 2, step 4)"
        )


def _check_rows(a: Tensor, mask: Tensor | None) -> None:
    if not a.is_floating_point() or a.dim() == 0 or a.shape[-1] == 0:
        raise ValueError(
            f"expected numbers of shape (..., R, K), K >= 1, found {tuple(a.shape)} in {a.dtype}"
        )
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"expected mask to be bool (True = the option exists), found {mask.dtype}")


def _fake_projection(a: Tensor, mask: Tensor | None, seed: int | None) -> tuple[Tensor, Tensor]:
    _check_rows(a, mask)
    return a.new_empty(a.shape), a.new_empty(a.shape[:-1], dtype=torch.int64)


def _fake_clip(a: Tensor, mask: Tensor | None) -> Tensor:
    _check_rows(a, mask)
    return a.new_empty(a.shape)


def _fake_selection(
    a: Tensor, offsets: Any, edges: int | None, mask: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor]:
    _check_rows(a, mask)
    if a.dim() != 2:
        raise ValueError(f"expected a of shape (R, K), found {tuple(a.shape)}")
    return a.new_empty(a.shape), a.new_empty(a.shape[:1], dtype=torch.int32)


register_fake("prox_c", _fake_projection)
register_fake("prox_c1", _fake_projection)
register_fake("prox_c2", _fake_clip)
register_fake("select_active", _fake_selection)
