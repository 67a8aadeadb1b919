# SPDX-License-Identifier: MIT
"""Sums over the candidate operations of an edge: the mixture, and the inner products of its gradient."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nasp_ext import _C as _C  # registers torch.ops.nasp_ext
from nasp_ext.ops import reference
from nasp_ext.ops._native import call, check_tensor, differentiable, record, register_fake
from nasp_ext.ops._transforms import by_torch_alone, is_of_batch

_BRANCH_DOTS = torch.ops.nasp_ext.branch_dots.default
_MIXED_SUM = torch.ops.nasp_ext.mixed_sum.default
_MIXED_SUM_BACKWARD = torch.ops.nasp_ext.mixed_sum_backward.default


def branch_dots(grad: Tensor, outputs: Sequence[Tensor]) -> Tensor:
    """The inner products of ``grad`` with every output, in one pass over ``grad``.

    They are the gradient of a mixture with respect to its weights (Yao et al. 2020, eq. 7). The summation
    tree is fixed, so the bits depend neither on the number of threads nor on the device.

    Args:
        grad: any shape, float32, float64, bfloat16 or float16.
        outputs: 1 to 64 tensors of the shape, dtype and device of ``grad``.
    Returns: (K,), float32 for half inputs, else their dtype. Differentiable.
    Raises:  ValueError: outputs that do not fit.
    >>> branch_dots(torch.tensor([1.0, 2.0]), [torch.tensor([3.0, 4.0]), torch.tensor([5.0, 6.0])])
    tensor([11., 17.])
    """
    check_tensor(grad, "grad")
    outputs = _checked(outputs)
    if by_torch_alone() or is_of_batch(grad, *outputs):
        return reference.branch_dots(grad, outputs)
    result: Tensor = (
        record(_BranchDots, grad, *outputs)
        if differentiable(grad, *outputs)
        else call(_BRANCH_DOTS, grad, outputs)
    )
    return result


def mixed_sum(outputs: Sequence[Tensor], weights: Tensor) -> Tensor:
    """The mixture sum_k weights[k] outputs[k] (Yao et al. 2020, eq. 7); its backward is one fused pass.

    Args:
        outputs: 1 to 64 tensors of one shape, dtype and device; half types are summed in float32.
        weights: (K,), in the dtype of the outputs or, for half outputs, float32.
    Returns: the shape and dtype of an output. Differentiable in outputs and weights, twice too.
    Raises:  ValueError: outputs or weights that do not fit.
    >>> mixed_sum([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])], torch.tensor([0.5, 2.0]))
    tensor([6.5000, 9.0000])
    """
    check_tensor(weights, "weights")
    outputs = _checked(outputs)
    if by_torch_alone() or is_of_batch(weights, *outputs):
        return reference.mixed_sum(outputs, weights)
    if weights.dtype in (torch.bfloat16, torch.float16) and weights.dtype == outputs[0].dtype:
        weights = weights.float()
    result: Tensor = (
        record(_MixedSum, weights, *outputs)
        if differentiable(weights, *outputs)
        else call(_MIXED_SUM, outputs, weights)
    )
    return result


def _checked(outputs: Sequence[Tensor]) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        raise TypeError("expected outputs to be a list of tensors, found one tensor; unbind it first")
    if not outputs:
        raise ValueError("expected 1 to 64 outputs, found none")
    for index, output in enumerate(outputs):
        check_tensor(output, f"outputs[{index}]")
    return list(outputs)


class _BranchDots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, *outputs: Tensor) -> Tensor:
        ctx.save_for_backward(grad, *outputs)
        dots: Tensor = call(_BRANCH_DOTS, grad, outputs)
        return dots

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (upstream,) = grads
        grad, *outputs = ctx.saved_tensors
        to_grad = mixed_sum(outputs, upstream) if ctx.needs_input_grad[0] else None
        scaled = (
            _scaled(grad, upstream[k]) if needed else None
            for k, needed in enumerate(ctx.needs_input_grad[1:])
        )
        return to_grad, *scaled


class _MixedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, *outputs: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(weights, *outputs)
        mixture: Tensor = call(_MIXED_SUM, outputs, weights)
        return mixture

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (upstream,) = grads
        weights, *outputs = ctx.saved_tensors
        if upstream is None:  # nothing that the loss is made of reads the mixture
            return torch.zeros_like(weights), *(None for _ in outputs)
        to_weights, *to_outputs = ctx.needs_input_grad
        if to_weights and all(to_outputs) and not (torch.is_grad_enabled() or is_of_batch(upstream)):
            grad_outputs, grad_weights = call(_MIXED_SUM_BACKWARD, upstream, outputs, weights)
            return grad_weights, *grad_outputs
        scaled = (_scaled(upstream, weights[k]) if needed else None for k, needed in enumerate(to_outputs))
        return branch_dots(upstream, outputs) if to_weights else None, *scaled


def _scaled(x: Tensor, factor: Tensor) -> Tensor:
    """x times a number that is kept in the arithmetic type of x; in the dtype of x."""
    return (x.to(factor.dtype) * factor).to(x.dtype)


def _fake_dots(grad: Tensor, outputs: list[Tensor]) -> Tensor:
    dtype = torch.float64 if grad.dtype == torch.float64 else torch.float32
    return grad.new_empty((len(outputs),), dtype=dtype)


def _fake_mixture(outputs: list[Tensor], weights: Tensor) -> Tensor:
    return _dense_like(outputs[0], outputs)


def _fake_mixture_backward(
    grad: Tensor, outputs: list[Tensor], weights: Tensor
) -> tuple[list[Tensor], Tensor]:
    return [_dense_like(grad, outputs) for _ in outputs], torch.empty_like(weights)


def _dense_like(first: Tensor, others: list[Tensor]) -> Tensor:
    """The layout the kernels choose: that of all tensors if they share a dense one, else contiguous."""
    layout = torch.empty_like(first)  # keeps the strides of a dense tensor only
    shared = all(t.stride() == layout.stride() for t in (first, *others))
    return layout if shared else torch.empty_like(first, memory_format=torch.contiguous_format)


register_fake("branch_dots", _fake_dots)
register_fake("mixed_sum", _fake_mixture)
register_fake("mixed_sum_backward", _fake_mixture_backward)
