# SPDX-License-Identifier: MIT
"""A recurrent cell as native calls: all time steps forward, all backward, and what was not chosen at once.

At one-hot gates the terms that are not chosen send nothing back to states and weights. Of them only the
gradients of the gates are needed, <G_i, s_j + sigmoid(c) (f(h) - s_j)> with G_i = dL/dz_i before the norm of
step i: their products are one for each pair of states, over all time steps, and leave no graph (Yao et al.
2020, eq. 7 at one-hot rows).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from nasp_ext import ops
from nasp_ext.families.recurrent.activations import ACTIVATIONS
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
    """What the native calls rely on in the layers of a cell.

    Raises:  NotFusedNowError: they cannot take their place.
    """

    def __init__(self, cell: RecurrentCell) -> None:
        self._cell = cell
        reason = _why_not(cell)
        if reason is not None:
            raise NotFusedNowError(reason)

    def is_current(self, active: Sequence[int] | None = None) -> bool:
        """Whether that still holds."""
        return _why_not(self._cell) is None


def _why_not(cell: RecurrentCell) -> str | None:
    norms = _norms(cell)
    if len(norms) not in (0, cell.steps + 1):
        return f"{len(norms)} norms: expected one for each of {cell.steps + 1} states"
    for norm in norms:
        if type(norm) is not nn.BatchNorm1d or norm.affine or "forward" in vars(norm):
            return f"{type(norm).__name__}: expected BatchNorm1d(affine=False) as the norm of a state"
        if norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks or norm._backward_pre_hooks:
            return "BatchNorm1d: a hook watches it"
    if len({(norm.eps, norm.momentum, norm.training, norm.running_mean is None) for norm in norms}) > 1:
        return "the norms of the states differ in their settings"
    return None


def _norms(cell: RecurrentCell) -> list[nn.BatchNorm1d]:
    return list(cast(Iterable[nn.BatchNorm1d], cell.norms))


def why_plain(
    cell: RecurrentCell, projected: Tensor, hidden: Tensor, mask: Tensor | None, wiring: Wiring
) -> str | None:
    """Why a call runs PyTorch's operators; None if it runs the native ones."""
    reason = why_not_native(projected, "recurrent_forward", "(T, B, 2E)")
    if reason is not None:
        return reason
    if not wiring.one_each:
        return "several activations between the same two states are PyTorch's"
    if cell._fusion.plan(cell, cell._plan) is None:
        return cell._fusion.reason
    norms = _norms(cell)
    if norms and _of_batch(norms[0]) and projected.shape[1] == 1:
        return "BatchNorm has an error of its own for a batch of one"
    running = [t for norm in norms for t in (norm.running_mean, norm.running_var)]
    tensors = [t for t in (hidden, mask, cell.entry, *cell.weights, *running) if t is not None]
    like = (projected.dtype, projected.device)
    if not all((t.dtype, t.device) == like and type(t) in _PLAIN_TENSORS for t in tensors):
        return "native operators take plain tensors of one dtype on one device"
    return None


def _of_batch(norm: nn.BatchNorm1d) -> bool:
    return norm.training or norm.running_mean is None


@dataclass(frozen=True)
class _Call:
    """What the calls of a sequence take beside the tensors that autograd follows.

    Args:
        norm: whether one follows every state; mean, var: (N + 1, E) running statistics, where they stand for
            those of the batch.
    """

    wiring: Wiring
    terms: list[int]
    norm: bool
    mean: Tensor | None
    var: Tensor | None
    eps: float
    keep: bool

    def normed(self, state: Tensor, number: int) -> Tensor:
        """The norm of a state in PyTorch's operators, which moves no running statistics."""
        if not self.norm:
            return state
        if self.mean is None or self.var is None:
            return F.batch_norm(state, None, None, training=True, eps=self.eps)
        return F.batch_norm(state, self.mean[number], self.var[number], eps=self.eps)


def run_native(
    cell: RecurrentCell, projected: Tensor, hidden: Tensor, wiring: Wiring, mask: Tensor | None
) -> Tensor:
    """As ``run_plain``; moves the running statistics of the norms."""
    norms = _norms(cell)
    mean, var = _running(norms)
    entry = cell.entry[cell.size :]
    weights = aliases(list(cell.weights))
    factors = None if wiring.weights is None else wiring.weights.detach().to(projected)
    tensors = (projected, hidden, entry, *weights, *(() if wiring.gates is None else (wiring.gates,)))
    call = _Call(
        wiring,
        numbers(wiring, ACTIVATIONS),
        len(norms) > 0,
        mean,
        var,
        norms[0].eps if norms else 0.0,
        torch.is_grad_enabled() and any(t.requires_grad for t in tensors),
    )
    out: Tensor
    out, found = _Sequence.apply(  # type: ignore[no-untyped-call]
        call, wiring.gates, projected.contiguous(), hidden.contiguous(), mask, factors, entry, *weights
    )
    if norms and norms[0].training:
        _move_statistics(norms, found, len(hidden))
    return out


def _running(norms: Sequence[nn.BatchNorm1d]) -> tuple[Tensor | None, Tensor | None]:
    """The statistics (N + 1, E) that stand for those of the batch, if they do."""
    if not norms or _of_batch(norms[0]):
        return None, None
    means, variances = ([getattr(norm, f"running_{part}") for norm in norms] for part in ("mean", "var"))
    return torch.stack(means), torch.stack(variances)


@torch.no_grad()
def _move_statistics(norms: Sequence[nn.BatchNorm1d], found: Tensor, batch: int) -> None:
    """The running statistics after all time steps, in their order.

    Args:    found: (T, N + 1, 2, E), mean and biased variance of each state.
    """
    steps, momentum = len(found), norms[0].momentum
    for number, norm in enumerate(norms):
        mean, var, counted = norm.running_mean, norm.running_var, norm.num_batches_tracked
        if mean is None or var is None or not norm.track_running_stats:
            continue
        keep: Tensor | float
        if counted is not None:
            counted += steps
        if momentum is None:  # the mean over all calls so far
            assert counted is not None
            keep = (counted - steps).double() / counted
            moved = found[:, number].mean(0) * (1 - keep).to(found)
        else:
            keep = (1 - momentum) ** steps
            if number == 0:
                ages = torch.arange(steps - 1, -1, -1, dtype=torch.float64, device=found.device)
                shares = (momentum * (1 - momentum) ** ages).to(found)
                sums = torch.einsum("t,tnse->nse", shares, found)
            moved = sums[number]
        mean.mul_(keep).add_(moved[0])
        var.mul_(keep).add_(moved[1], alpha=batch / (batch - 1))


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
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        out, *kept, norms = ops.recurrent_forward(
            projected,
            hidden,
            entry,
            weights,
            mask,
            call.terms,
            factors,
            call.wiring.concat,
            call.norm,
            call.mean,
            call.var,
            call.eps,
            call.keep,
        )
        ctx.call, ctx.gates_leaf = call, gates is not None and gates.is_leaf
        ctx.mark_non_differentiable(norms)
        if call.keep:
            ctx.save_for_backward(
                gates,
                projected,
                hidden,
                mask,
                factors,
                call.mean,
                call.var,
                entry,
                out,
                *kept,
                norms,
                *weights,
            )
        return out, norms

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.compiler.is_compiling():  # the step of a compiled caller: torch leaves `disable` untyped
            return torch.compiler.disable(_gradients)(ctx, grad)  # type: ignore[no-untyped-call, no-any-return]
        return _gradients(ctx, grad)


def _gradients(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    """Of every argument of the forward."""
    call: _Call = ctx.call
    gates, projected, hidden, mask, factors, mean, var, entry, out, *rest = ctx.saved_tensors
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
            call.norm,
            mean,
            var,
            call.eps,
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
