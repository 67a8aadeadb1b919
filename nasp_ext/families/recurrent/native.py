# SPDX-License-Identifier: MIT
"""A recurrent cell as native calls: all time steps forward, all backward, and what was not chosen at once.

At one-hot gates the terms that are not chosen send nothing back to states and weights. Of them only the
gradients of the gates are needed, <G_i, s_j + sigmoid(c) (f(h) - s_j)> with G_i = dL/dz_i before the norm of
step i: their products are one for each pair of states, over all time steps, and leave no graph (Yao et al.
2020, eq. 7 at one-hot rows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from nasp_ext import ops
from nasp_ext.families.recurrent.activations import ACTIVATIONS
from nasp_ext.families.recurrent.norm import why_norm_plain
from nasp_ext.families.recurrent.plain import run_plain
from nasp_ext.families.recurrent.wiring import Wiring, numbers, scattered
from nasp_ext.nn.fused.asked import aliases, runs
from nasp_ext.nn.fused.lowering import NotFusedNowError
from nasp_ext.nn.fused.policy import why_not_native
from nasp_ext.nn.fused.second_order import gradients_with_graph, graph_wanted

if TYPE_CHECKING:
    from nasp_ext.families.recurrent.cell import RecurrentCell

_PLAIN_TENSORS = (Tensor, nn.Parameter)


class Layers:
    """That the native calls can take the place of the layers of a cell, as long as nobody asks again.

    Raises:  NotFusedNowError: they cannot.
    """

    def __init__(self, cell: RecurrentCell) -> None:
        reason = why_norm_plain(cell.norm)
        if reason is not None:
            raise NotFusedNowError(reason)

    def is_current(self, active: Sequence[int] | None = None) -> bool:
        """It is asked anew each time, and so keeps no cell alive."""
        return False


def why_plain(
    cell: RecurrentCell,
    projected: Tensor,
    hidden: Tensor,
    wiring: Wiring,
    mask: Tensor | None,
    entry: Tensor,
    weights: Sequence[Tensor],
) -> str | None:
    """Why a call runs PyTorch's operators; None if it runs the native ones.

    Args:    as ``run_plain``.
    """
    reason = why_not_native(projected, "recurrent_forward", "(T, B, 2E)")
    reason = why_norm_plain(cell.norm) if reason is None else reason
    if reason is not None:
        return reason
    if not wiring.one_each:
        return "several activations between the same two states are PyTorch's"
    factors = wiring.weights if wiring.gates is None else None
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (mask, factors)):
        return "the gradients of masks, and of factors that are no gates, are PyTorch's"
    if cell.norm is not None and projected.shape[1] == 1:
        return "BatchNorm has an error of its own for a batch of one"
    tensors = [t for t in (hidden, mask, entry, *weights) if t is not None]
    like = (projected.dtype, projected.device)
    if not all((t.dtype, t.device) == like and type(t) in _PLAIN_TENSORS for t in tensors):
        return "native operators take plain tensors of one dtype on one device"
    return None


@dataclass(frozen=True)
class _Call:
    """What the calls of a sequence take beside the tensors that autograd follows.

    Args:    eps: of the norm that follows every state, with statistics of the batch; None = there is none.
    """

    wiring: Wiring
    terms: list[int]
    eps: float | None
    keep: bool

    def normed(self, state: Tensor) -> Tensor:
        """The norm in PyTorch's operators."""
        return state if self.eps is None else F.batch_norm(state, None, None, training=True, eps=self.eps)


def run_native(
    cell: RecurrentCell,
    projected: Tensor,
    hidden: Tensor,
    wiring: Wiring,
    mask: Tensor | None,
    entry: Tensor,
    weights: Sequence[Tensor],
) -> Tensor:
    """As ``run_plain``."""
    norm = cell.norm
    reached, used = wiring.reached, wiring.used
    if 0 not in reached:
        projected, hidden, entry = projected.detach(), hidden.detach(), entry.detach()
    weights = aliases([w if step in used else w.detach() for step, w in enumerate(weights, 1)])
    factors = None if wiring.weights is None else wiring.weights.detach().to(projected)
    tensors = (projected, hidden, entry, *weights, *(() if wiring.gates is None else (wiring.gates,)))
    call = _Call(
        wiring,
        numbers(wiring, ACTIVATIONS),
        None if norm is None else norm.eps,
        torch.is_grad_enabled() and any(t.requires_grad for t in tensors),
    )
    out: Tensor = _Sequence.apply(  # type: ignore[no-untyped-call]
        call, wiring.gates, projected.contiguous(), hidden.contiguous(), mask, factors, entry, *weights
    )
    return out


class _Sequence(Function):
    @staticmethod
    def forward(
        ctx: Any,
        call: _Call,
        gates: Tensor | None,
        projected: Tensor,
        hidden: Tensor,
        mask: Tensor | None,
        factors: Tensor | None,
        entry: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        out, *kept = ops.recurrent_forward(
            projected,
            hidden,
            entry,
            weights,
            mask,
            call.terms,
            factors,
            call.wiring.concat,
            call.eps is not None,
            None,
            None,
            call.eps or 0.0,
            call.keep,
        )
        ctx.call, ctx.gates_leaf = call, gates is not None and gates.is_leaf
        if call.keep:
            ctx.save_for_backward(gates, projected, hidden, mask, factors, entry, out, *kept, *weights)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.compiler.is_compiling():  # the step of a compiled caller: torch leaves `disable` untyped
            return torch.compiler.disable(_gradients)(ctx, grad)  # type: ignore[no-untyped-call, no-any-return]
        return _gradients(ctx, grad)


def _gradients(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    """Of every argument of the forward."""
    call: _Call = ctx.call
    gates, projected, hidden, mask, factors, entry, out, *rest = ctx.saved_tensors
    states, masked, entered, products, norms, *weights = rest
    if grad is None:  # nothing that the loss is made of reads the output
        return (None,) * len(ctx.needs_input_grad)
    functions = [function for function, _ in ctx.next_functions]
    asked_gates = gates is not None and (ctx.gates_leaf or runs(functions[0]))
    functions = functions[gates is not None :]
    behind = functions[2 + (mask is not None) + (factors is not None) :]
    if graph_wanted(grad):
        return (None, *_with_graph(call, gates, projected, hidden, mask, factors, entry, weights, grad))
    with torch.no_grad():
        asked_weights = any(map(runs, behind))
        *found, nodes = ops.recurrent_backward(
            grad.contiguous(),
            hidden,
            entry,
            weights,
            mask,
            call.terms,
            factors,
            call.wiring.concat,
            call.eps is not None,
            None,
            None,
            call.eps or 0.0,
            out,
            states,
            masked,
            entered,
            products,
            norms,
            any(map(runs, functions[:2])),
            asked_weights,
            asked_gates,
        )
        grad_projected, grad_hidden, grad_entry, grad_weights = (g if g.numel() else None for g in found)
        grad_gates = None
        if asked_gates:
            dots = ops.recurrent_dots(nodes, states, masked, products, weights, call.terms)
            grad_gates = scattered(dots, call.wiring, ACTIVATIONS).to(gates.dtype)
    own = (None,) * len(weights) if grad_weights is None else grad_weights.unbind()
    return (None, grad_gates, grad_projected, grad_hidden, None, None, grad_entry, *own)


def _with_graph(
    call: _Call,
    gates: Tensor | None,
    projected: Tensor,
    hidden: Tensor,
    mask: Tensor | None,
    factors: Tensor | None,
    entry: Tensor,
    weights: Sequence[Tensor],
    grad: Tensor,
) -> list[Tensor | None]:
    """The gradients of the tensors that autograd follows, with their graph."""

    def output(projected: Tensor, hidden: Tensor, entry: Tensor, *others: Tensor) -> Tensor:
        own = others if gates is None else others[:-1]
        wiring = replace(call.wiring, weights=factors, gates=None if gates is None else others[-1])
        return run_plain(projected, hidden, wiring, mask, entry, own, call.normed)

    tensors = [projected, hidden, entry, *weights, *(() if gates is None else (gates,))]
    with torch.autocast(grad.device.type, enabled=False):
        found = gradients_with_graph(output, tensors, grad)
    grad_gates = None if gates is None else found.pop()
    first, second, third, *own = found
    return [grad_gates, first, second, None, None, third, *own]
