# SPDX-License-Identifier: MIT
"""A recurrent cell over a whole sequence, its backward, and the inner products of the terms that did not run.

s_0 is made of the input and the hidden state, s_1 … s_N of terms (node, source, activation), see
``recurrent_forward``. They are building blocks without a gradient, like those of ``blocks``: a call that
autograd would record raises a RuntimeError. Shapes: T time steps, B rows of a batch, H units (also of the
input), N nodes (1 to 32), P terms; float32 or float64, everything in one dtype on one device.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nasp_ext import _C as _C  # registers torch.ops.nasp_ext
from nasp_ext.ops._native import register_fake
from nasp_ext.ops.blocks import run_operator

_RECURRENT_FORWARD = torch.ops.nasp_ext.recurrent_forward.default
_RECURRENT_BACKWARD = torch.ops.nasp_ext.recurrent_backward.default
_RECURRENT_DOTS = torch.ops.nasp_ext.recurrent_dots.default
_ACTIVATIONS = 4


def recurrent_forward(
    projected: Tensor,
    hidden: Tensor,
    entry: Tensor,
    weights: Sequence[Tensor],
    mask: Tensor | None,
    terms: Sequence[int],
    coefficients: Tensor | None,
    outputs: Sequence[int],
    norm: bool,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run a recurrent cell (Liu et al. 2019, app. A; Yao et al. 2020, sec. 4.2) over T time steps.

    In each, [c; h] = projected + (h' mask) entry gives s_0 = h' + σ(c) (tanh(h) − h') of the hidden state
    h'; a term gives s_j + σ(c) (f(h) − s_j) with [c; h] = (s_j mask) W_i; s_i is the sum of its terms, 0
    without any; with ``norm`` each s is followed by a BatchNorm without an affine map. The next hidden
    state is the mean of ``outputs``.

    Args:
        projected: (T, B, 2H), the products of the inputs.
        hidden: (B, H), in front of the first time step.
        entry: (H, 2H); weights: N of (H, 2H).
        mask: (B, H), what h' and every s_j count times in their products; None = 1.
        terms: 3P numbers: node 1 … N, source 0 … node − 1, activation (0 tanh, 1 relu, 2 sigmoid, 3
            identity) of each, sorted by node; no node and source twice.
        coefficients: (P,), what each term counts times; None = 1.
        outputs: states 0 … N, ascending.
        mean, var: (N + 1, H), the statistics of the BatchNorm of each state; None: those of the batch.
        keep: whether a backward follows. Else memory is that of one time step, and only ``out`` and
            ``norms`` have elements.
    Returns:
        out (T, B, H), the hidden states; states (N + 1, T, B, H); masked, as states, times the mask, and
        entered (T, B, H), the hidden states h' times it: no elements without a mask; products (P + 1, T, B,
        2H), [c; h] of the entry, then of each term; norms (T, N + 1, 2, H), mean and biased variance
        of the batch: no elements if there are none.
    Raises:  ValueError: for arguments that do not fit.
    >>> tape = recurrent_forward(torch.zeros(2, 3, 8), torch.ones(3, 4), torch.zeros(4, 8),
    ...     [torch.zeros(4, 8)], None, [1, 0, 3], None, [1], False, None, None, 1e-5, True)
    >>> tape[0][:, 0, 0]
    tensor([0.2500, 0.0625])
    """
    result: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor] = run_operator(
        _RECURRENT_FORWARD,
        *(projected, hidden, entry, weights, mask, terms, coefficients, outputs),
        *(norm, mean, var, eps, keep),
    )
    return result


def recurrent_backward(
    grad: Tensor,
    hidden: Tensor,
    entry: Tensor,
    weights: Sequence[Tensor],
    mask: Tensor | None,
    terms: Sequence[int],
    coefficients: Tensor | None,
    outputs: Sequence[int],
    norm: bool,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    out: Tensor,
    states: Tensor,
    masked: Tensor,
    entered: Tensor,
    products: Tensor,
    norms: Tensor,
    need_inputs: bool,
    need_weights: bool,
    need_nodes: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of a recurrent cell; see ``recurrent_forward``, whose results it takes and never changes.

    Args:    grad: (T, B, H), of ``out``.
    Returns:
        grad_projected (T, B, 2H) and grad_hidden (B, H) with ``need_inputs``; grad_entry (H, 2H) and
        grad_weights (N, H, 2H) with ``need_weights``; grad_nodes (N, T, B, H), of the sums in front of
        the BatchNorms, with ``need_nodes``; no elements else.
    Raises:  ValueError: for arguments that do not fit.
    """
    result: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = run_operator(
        _RECURRENT_BACKWARD,
        *(grad, hidden, entry, weights, mask, terms, coefficients, outputs, norm, mean, var, eps),
        *(out, states, masked, entered, products, norms, need_inputs, need_weights, need_nodes),
    )
    return result


def recurrent_dots(
    grad_nodes: Tensor,
    states: Tensor,
    masked: Tensor,
    products: Tensor,
    weights: Sequence[Tensor],
    terms: Sequence[int],
) -> Tensor:
    """The gradient of every coefficient that a cell could have: of all nodes, sources and activations.

    For each node i, source j < i and activation f it is the inner product of ``grad_nodes[i]`` with what the
    term would have added; the terms that ran are read from ``products``, each other pair takes one product
    over all time steps.

    Args:    as ``recurrent_forward`` and ``recurrent_backward`` give them.
    Returns: (N (N + 1) / 2, 4), row (i − 1) i / 2 + j, summed in float64, in the dtype of the states.
    Raises:  ValueError: for arguments that do not fit.
    """
    dots: Tensor = run_operator(_RECURRENT_DOTS, grad_nodes, states, masked, products, weights, terms)
    return dots


def _fake_forward(
    projected: Tensor,
    hidden: Tensor,
    entry: Tensor,
    weights: list[Tensor],
    mask: Tensor | None,
    terms: list[int],
    coefficients: Tensor | None,
    outputs: list[int],
    norm: bool,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    keep: bool,
) -> tuple[Tensor, ...]:
    if projected.dim() != 3 or hidden.dim() != 2:
        raise ValueError(
            "expected projected of shape (T, B, 2H) and hidden of shape (B, H), found "
            f"{tuple(projected.shape)} and {tuple(hidden.shape)}"
        )
    steps, (batch, size), states = projected.shape[0], hidden.shape, len(weights) + 1
    masked = keep and mask is not None
    return (
        hidden.new_empty((steps, batch, size)),
        _new(hidden, keep, (states, steps, batch, size)),
        _new(hidden, masked, (states, steps, batch, size)),
        _new(hidden, masked, (steps, batch, size)),
        _new(hidden, keep, (len(terms) // 3 + 1, steps, batch, 2 * size)),
        _new(hidden, norm and mean is None, (steps, states, 2, size)),
    )


def _fake_backward(grad: Tensor, hidden: Tensor, entry: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    if grad.dim() != 3 or hidden.dim() != 2:
        raise ValueError(
            "expected grad of shape (T, B, H) and hidden of shape (B, H), found "
            f"{tuple(grad.shape)} and {tuple(hidden.shape)}"
        )
    nodes, steps, (batch, size) = len(arguments[0]), grad.shape[0], hidden.shape
    need_inputs, need_weights, need_nodes = arguments[-3:]
    return (
        _new(hidden, need_inputs, (steps, batch, 2 * size)),
        _new(hidden, need_inputs, (batch, size)),
        _new(hidden, need_weights, (size, 2 * size)),
        _new(hidden, need_weights, (nodes, size, 2 * size)),
        _new(hidden, need_nodes, (nodes, steps, batch, size)),
    )


def _fake_dots(
    grad_nodes: Tensor, states: Tensor, masked: Tensor, products: Tensor, weights: list[Tensor], *_: Any
) -> Tensor:
    nodes = len(weights)
    return grad_nodes.new_empty((nodes * (nodes + 1) // 2, _ACTIVATIONS))


def _new(like: Tensor, there: bool, size: tuple[int, ...]) -> Tensor:
    return like.new_empty(size if there else (0,))


register_fake("recurrent_forward", _fake_forward)
register_fake("recurrent_backward", _fake_backward)
register_fake("recurrent_dots", _fake_dots)
