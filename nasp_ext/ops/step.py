# SPDX-License-Identifier: MIT
"""The fused update of the architecture matrix (Yao et al. 2020, Alg. 2, steps 4 and 5)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nasp_ext import _C as _C  # registers torch.ops.nasp_ext
from nasp_ext.ops._native import (
    call,
    check_tensor,
    differentiable,
    mark_changed,
    register_fake,
    row_mask,
    seed_of,
)

_NASP_STEP = torch.ops.nasp_ext.nasp_step_.default


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
    """Update ``a`` along the gradient, clip it to [0, 1], select the next discrete architecture; in place.

    g = grad + 2 eta cost weight + weight_decay a (eq. 8 at the discrete point ``weight``); then the step of
    torch.optim.Adam along g if the moments are given, else a - lr g; then clip; then ``select_active``.
    Options that do not exist keep their ``a`` and moments. Autograd does not see the call.

    Args:
        a, grad, weight, exp_avg, exp_avg_sq: (R, K), all float32 or all float64, each in memory of its own;
            ``grad`` is only read.
        active: (R,) int32, overwritten.
        step: number of this update, counted from 1.
        cost: (K,) or (R, K), relative cost of each option, p_k / p̄ (eq. 8).
        node_offsets, edges_per_node, mask, keep_value, generator: as in ``select_active``.
    Raises:
        ValueError: arguments that do not fit; numbers that are not finite, negative second moments, a step
            that overflows. Nothing is changed then. On CUDA what is wrong with the entries of the tensors is
            not raised: the row stays as it was and its ``active`` is NAN_ROW.
    >>> a, weight, active = torch.tensor([[0.5, 0.5]]), torch.zeros(1, 2), torch.zeros(1, dtype=torch.int32)
    >>> nasp_step_(a, torch.tensor([[1.0, -1.0]]), weight, active, step=1, lr=0.25)
    >>> a, weight, active
    (tensor([[0.2500, 0.7500]]), tensor([[0., 1.]]), tensor([1], dtype=torch.int32))
    """
    check_tensor(a, "a")
    if grad is None or weight is None or active is None:  # the dispatcher takes None for any tensor
        raise TypeError("expected grad, weight and active to be tensors, found None")
    moments = () if exp_avg is None or exp_avg_sq is None else (exp_avg, exp_avg_sq)
    tensors = (a, grad, weight, active, exp_avg, exp_avg_sq)
    adam = (step, lr, *betas, eps, weight_decay)
    selection = (node_offsets, edges_per_node, row_mask(mask, a), keep_value, seed_of(generator))
    try:
        recorded = differentiable(a, grad, weight, *moments)
    except AttributeError:  # not a tensor: the dispatcher says which one
        recorded = False
    if recorded:  # no_grad() costs a quarter of the call
        with torch.no_grad():
            call(_NASP_STEP, *tensors, *adam, cost, eta, *selection)
    else:
        call(_NASP_STEP, *tensors, *adam, cost, eta, *selection)
    mark_changed(a, weight, active, *moments)


def _fake_step(
    a: Tensor,
    grad: Tensor,
    weight: Tensor,
    active: Tensor,
    exp_avg: Tensor | None,
    exp_avg_sq: Tensor | None,
    *others: Any,
) -> None:
    moments = {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
    for name, t in {"grad": grad, "weight": weight, **moments}.items():
        if t is not None and (t.shape != a.shape or t.dtype != a.dtype):
            raise ValueError(
                f"expected {name} of the shape and dtype of a, {tuple(a.shape)} {a.dtype}, found "
                f"{tuple(t.shape)} {t.dtype}"
            )


register_fake("nasp_step_", _fake_step)
