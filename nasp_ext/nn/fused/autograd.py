# SPDX-License-Identifier: MIT
"""A fused cell: one autograd node and two native calls for all its edges.

Forward runs the chosen option of each edge and keeps what lies in front of each BatchNorm, nothing else. Of a
mixed edge it runs all options, keeps their BatchNorms alone, and backward computes the rest again: a mixture
takes the memory of one path. Backward also gives the gradients of the options that did not run:
<G_j, O_k(x_i)> with G_j = dL/dx_j (Yao et al. 2020, eq. 7 at one-hot rows), without a graph, in the memory of
one path.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nasp_ext import ops
from nasp_ext.nn.fused.asked import aliases, runs
from nasp_ext.nn.fused.forms import ActiveForm
from nasp_ext.nn.fused.option_gradients import gates_gradient
from nasp_ext.nn.fused.plan import ActivePlan, CellPlan
from nasp_ext.nn.fused.second_order import cell_output, flat, gradients_with_graph, graph_wanted
from nasp_ext.ops.program import Lists


@dataclass(frozen=True)
class CellCall:
    """One call of a fused cell, apart from the tensors that autograd sees.

    Args:
        cell: preprocessing and the options that run, in the mode of the forward; sources: those that do not,
            None if the gradient of the gates is not wanted.
        reachable: all weights of the plan, in the order of their places; empty without sources.
        factors: (E, N) of the options that run, None = 1; weighted: they are the gates' weights, whose
            gradient is wanted.
        size: channels, height, width of a node.
    """

    plan: CellPlan
    active: ActivePlan
    cell: Lists
    sources: Lists | None
    reachable: Sequence[Tensor]
    factors: Tensor | None
    weighted: bool
    size: tuple[int, ...]
    version: int  # of the parameters of the sources
    moved: list[bool] = field(default_factory=list, init=False)  # the running statistics of the sources

    def moving_sources(self) -> Lists | None:
        """The sources, whose running statistics move in the first backward of a forward and in no other."""
        if self.sources is None or not self.moved:
            self.moved.append(True)
            return self.sources
        return self.sources._replace(statistics=[t.clone() for t in self.sources.statistics])

    def check_sources(self) -> None:
        """Raise RuntimeError if the options that did not run have other parameters than in the forward."""
        if self.sources is not None and _version(self.sources.weights) != self.version:
            raise RuntimeError(
                "expected the parameters of unselected options as the forward found them, for backward "
                "computes the gradient of the architecture from them; found some changed in place: call "
                "backward before the step of their optimizer"
            )


def run_cell(
    plan: CellPlan,
    inputs: Sequence[Tensor],
    gates: Tensor | None,
    active: Sequence[int],
    *,
    weights: Tensor | None = None,
    factors: Sequence[Tensor | None] = (),
    size: tuple[int, ...] = (0, 0, 0),
) -> Tensor:
    """The output of a fused cell.

    Args:
        inputs: (N, C_i, H, W) each; gates: (R, K) weights whose gradient is wanted, or None.
        active: the option of each edge of the plan, PRUNED = none, MIXED = all, weighted.
        weights: (R, K), what the options count times, None = 1.
        factors: what each edge of the plan counts times besides, (N,) or () or None = 1; none beside gates.
        size: channels, height, width of a node, for cells in which no edge may run.
    Returns: (N, len(concat) · C, H', W'), channels_last.
    """
    running = plan.active(active, with_sources=gates is not None)
    sources: Lists | None = None
    reachable: list[Tensor] = []
    if gates is None:
        cell = running.lists()
    else:
        cell, sources, reachable = running.with_sources()
    matrix = _factor_matrix(running.form, weights, factors, inputs[0])
    version = 0 if sources is None else _version(sources.weights)
    weighted = gates is not None and matrix is not None
    call = CellCall(plan, running, cell, sources, reachable, matrix, weighted, size, version)
    parameters = aliases(cell.weights)
    reach = plan.reach(reachable) if sources is not None and sources.weights else None
    inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
    out: Tensor = _Cell.apply(call, gates, reach, *inputs, *parameters)  # type: ignore[no-untyped-call]
    return out


def _version(tensors: Sequence[Tensor]) -> int:
    """Of all together: it grows when one is changed in place."""
    return sum([0 if t.is_inference() else t._version for t in tensors])


def _factor_matrix(
    form: ActiveForm, weights: Tensor | None, factors: Sequence[Tensor | None], like: Tensor
) -> Tensor | None:
    """(E, N) of the E options that run, None if all are 1."""
    chosen = form.chosen
    parts: list[Tensor] = []
    if weights is not None and chosen:
        parts.append(form.weights(weights.detach()).to(like.dtype)[:, None])
    rows = [factors[c.position] for c in chosen] if factors else []
    if any(row is not None for row in rows):
        full = [like.new_ones(()) if row is None else row.detach() for row in rows]
        parts.append(torch.stack([row.to(like.dtype).expand(len(like)) for row in full]))
    return reduce(torch.mul, parts).expand(-1, len(like)).contiguous() if parts else None


class _Cell(Function):
    @staticmethod
    def forward(
        ctx: Any, call: CellCall, gates: Tensor | None, reach: Tensor | None, *tensors: Tensor
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        inputs, parameters = tensors[: call.plan.inputs], tensors[call.plan.inputs :]
        program, _, statistics, numbers = call.cell
        out, *kept = ops.cell_forward(
            inputs, program, parameters, statistics, numbers, call.factors, call.size
        )
        ctx.call, ctx.gates_leaf = call, gates is not None and gates.is_leaf
        ctx.in_front = (gates is not None) + (reach is not None)  # tensors in front of the inputs
        # Without a reader of its nodes the caller may change the output in place.
        ctx.save_for_backward(gates, out if call.plan.reads_nodes else None, *tensors, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.compiler.is_compiling():  # the step of a compiled caller: torch leaves `disable` untyped
            return torch.compiler.disable(_cell_gradients)(ctx, grad)  # type: ignore[no-untyped-call, no-any-return]
        return _cell_gradients(ctx, grad)


def _cell_gradients(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    call: CellCall = ctx.call
    gates, *rest = ctx.saved_tensors
    wanted = call.sources is not None and ctx.needs_input_grad[1]
    wanted = wanted and (ctx.gates_leaf or runs(ctx.next_functions[0][0]))
    if grad is None:  # nothing that the loss is made of reads the output
        nothing = torch.zeros_like(gates) if wanted else None
        return (None, nothing, *(None,) * (len(ctx.needs_input_grad) - 2))
    if wanted or graph_wanted(grad):
        call.check_sources()
    if graph_wanted(grad):
        return (None, *_with_graph(call, gates, rest, grad))
    with torch.no_grad():
        result = _backward(ctx, call, wanted, gates, rest, grad.contiguous(memory_format=torch.channels_last))
    gates_grad, *others = result
    return (None, gates_grad, None, *others)


def _with_graph(
    call: CellCall, gates: Tensor | None, saved: Sequence[Tensor], grad: Tensor
) -> list[Tensor | None]:
    """The gradients of gates, of what is kept within reach, of inputs and parameters, with their graph."""
    count, form = call.plan.inputs, call.active.form
    end = count + len(call.cell.weights)
    used = saved[1 : 1 + end]
    sources_now = call.moving_sources()
    others = [] if sources_now is None else sources_now.weights

    def output(*tensors: Tensor) -> Tensor:
        inputs, parameters = tensors[:count], tensors[count:end]
        cell, sources, weights = call.cell._replace(weights=list(parameters)), None, []
        one = inputs[0].new_ones(())
        if gates is None or sources_now is None:
            factors = [one for _ in form.chosen] if call.factors is None else list(call.factors)
        else:
            matrix = tensors[-1]
            factors = [one if c.row is None else matrix[c.row, c.number] for c in form.chosen]
            sources = sources_now._replace(weights=list(tensors[end:-1]))
            weights = [[matrix[entry] for entry in entries] for entries in form.sources().entries]
        return cell_output(inputs, cell, factors, sources, weights, call.size)

    tensors = [*used, *others] if gates is None else [*used, *others, gates]
    with torch.autocast(grad.device.type, enabled=False):  # as the forward, wherever backward is called
        found = gradients_with_graph(output, tensors, grad, zeros=call.sources is not None)
    gates_grad = None if gates is None else found.pop()
    beyond = found[end:]
    reached = None
    if any(g is not None for g in beyond):
        known = dict(zip(form.sources().lists.weights, beyond, strict=True))
        reached = flat([known.get(place) for place in range(len(call.reachable))], call.reachable)
    return [gates_grad, reached, *found[:end]]


def _backward(
    ctx: Any, call: CellCall, wanted: bool, gates: Tensor | None, saved: Sequence[Tensor], grad: Tensor
) -> list[Tensor | None]:
    """The gradients of gates, inputs and parameters, as far as this backward goes on to them.

    Args:    wanted: that of the gates is asked for.
    """
    count = call.plan.inputs
    # The parameters as the forward saw them: functional_call puts others into the modules after it.
    out, *rest = saved
    end = count + len(call.cell.weights)
    inputs, parameters, kept = rest[:count], rest[count:end], rest[end:]
    functions = [function for function, _ in ctx.next_functions]
    sources = call.moving_sources() if wanted else None
    functions = functions[ctx.in_front :]
    asked = [int(runs(function)) for function in functions[:count]]
    need_weights = any(runs(function) for function in functions[count : count + 1])
    found = ops.cell_backward(
        grad,
        inputs,
        [grad if out is None else out, *kept],  # without readers, any of its shape serves
        call.cell.program,
        parameters,
        call.cell.numbers,
        call.factors,
        call.weighted,
        need_weights,
        asked,
        *(sources or ()),
    )
    states = count + call.plan.nodes
    dots, sums = found[:states], found[states : states + call.plan.nodes]
    gates_grad = None
    if sources is not None and gates is not None:
        gates_grad = gates_gradient(call.active.form, dots, sums, parameters, gates)
    result = [t if t.numel() else None for t in found[states + call.plan.nodes :]]
    if call.sources is not None:
        # Options that do not run read these as well: a gradient of zero, as at their weight of zero.
        flags = [*asked, *(int(need_weights) for _ in parameters)]
        for i, (of, flag) in enumerate(zip([*inputs, *parameters], flags, strict=True)):
            if result[i] is None and flag:
                result[i] = torch.zeros_like(of)
    return [gates_grad, *result]
