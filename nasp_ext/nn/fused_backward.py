# SPDX-License-Identifier: MIT
"""The backward of a fused cell.

It goes through the nodes from the last to the first. When the gradients of all nodes behind a state are
known, ``ops.source_dots`` gives the gradients of all options of the edges out of it: G_j = dL/dx_j is that
of every edge into node j, so that the architecture gradient <G_j, O_k(x_i)> takes no graph, no gradient of
the weights and the memory of one path (Yao et al. 2020, eq. 7 at one-hot rows).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import ops
from .fused import BlockTape, CellCall, Tape, factor_matrix, node_slice
from .lowering import Option
from .one_hot import once

_ACCUMULATE = "AccumulateGrad"  # the autograd node of a leaf


def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of gates, inputs and parameters, as far as this backward goes on to them."""
    call: CellCall = ctx.call
    functions = iter(ctx.next_functions)
    gates_wanted = False
    if ctx.gates_shape is not None:
        function = next(functions)[0]
        gates_wanted = ctx.needs_input_grad[2] and (ctx.gates_leaf or _runs(function))
    inputs_wanted = [_runs(next(functions)[0]) for _ in range(call.plan.inputs)]
    weights_wanted = any(_runs(function) for function, _ in list(functions)[:1])
    with torch.no_grad():
        grad = grad.contiguous(memory_format=torch.channels_last)
        reverse = _Reverse(call, ctx.tape, ctx.saved_tensors, grad, weights_wanted, inputs_wanted)
        gates = ctx.gates_shape if gates_wanted else None
        result = reverse.run(gates)
    if torch.is_grad_enabled():
        return tuple(once(gradient) for gradient in result)
    return result


def _runs(function: Any) -> bool:
    """Whether this backward goes on to a node. The engine answers for inner ones; a leaf is asked for."""
    if function is None:
        return False
    return function.name().endswith(_ACCUMULATE) or torch._C._will_engine_execute_node(function)


class _Reverse:
    def __init__(
        self,
        call: CellCall,
        tape: Tape,
        saved: Sequence[Tensor],
        grad: Tensor,
        weights_wanted: bool,
        inputs_wanted: list[bool],
    ) -> None:
        plan = call.plan
        out, *rest = saved
        self._call, self._tape = call, tape
        # The parameters as the forward saw them: functional_call puts others into the modules after it.
        end = plan.inputs + call.selection.parameter_count
        self._inputs, self._parameters, self._saved = rest[: plan.inputs], rest[plan.inputs : end], rest[end:]
        self._weights_wanted, self._inputs_wanted = weights_wanted, inputs_wanted
        states = range(plan.inputs, plan.inputs + plan.nodes)
        self._states = [
            x if number < 0 else self._saved[number]
            for number, x in zip(tape.inputs, self._inputs, strict=True)
        ]
        if plan.reads_nodes:
            self._states += [
                node_slice(out, plan, s) if s in plan.concat else self._saved[tape.loose[s]] for s in states
            ]
        self._grads: list[Tensor | None] = [None] * plan.inputs
        self._grads += [node_slice(grad, plan, s) if s in plan.concat else None for s in states]
        self._owned = [False] * (plan.inputs + plan.nodes)  # gradients that may be written to
        self._state_wanted = [
            inputs_wanted[i] or (weights_wanted and option is not None)
            for i, option in enumerate(plan.preprocess)
        ] + [True] * plan.nodes
        # The gradients of the parameters, in the order of Selection.parameters.
        self._offsets = call.selection.offsets
        self._parameter_grads: list[Tensor | None] = [None] * call.selection.parameter_count
        self._summed: dict[int, Tensor] = {}  # node_gradient_sums of each chosen edge
        self._dots: list[Tensor] = []
        self._entries: list[tuple[int, int]] = []

    def run(self, gates: tuple[torch.Size, torch.dtype] | None) -> tuple[Tensor | None, ...]:
        plan = self._call.plan
        for node in reversed(range(plan.nodes)):
            if gates is not None:
                self._source_dots(plan.inputs + node)
            self._node(node)
        for source in reversed(range(plan.inputs)):
            if gates is not None:
                self._source_dots(source)
        if gates is not None:
            self._active_dots()
        input_grads = self._preprocess()
        gates_grad = None if gates is None else self._gates_grad(*gates)
        return (gates_grad, *input_grads, *self._parameter_grads)

    def _source_dots(self, source: int) -> None:
        call = self._call
        program, arguments = call.programs[source]
        grads = [self._grads[call.plan.inputs + node] for node in program.nodes]
        if not program.entries or all(grad is None for grad in grads):
            return
        x = self._states[source]
        zeros = next(grad for grad in grads if grad is not None)
        filled = [torch.zeros_like(zeros) if grad is None else grad for grad in grads]
        self._dots.append(ops.source_dots(x, filled, *arguments))
        self._entries += program.entries

    def _gates_grad(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        grad = self._states[0].new_zeros(shape, dtype=dtype)
        if self._entries:
            index = self._call.selection.index(tuple(self._entries), shape[1], grad.device)
            grad.view(-1)[index] = torch.cat([dots.to(dtype) for dots in self._dots])
        return grad

    def _node(self, node: int) -> None:
        call = self._call
        grad = self._grads[call.plan.inputs + node]
        numbers = call.selection.of_node[node]
        if grad is None or not numbers:
            return
        chosen = [call.selection.chosen[i] for i in numbers]
        tapes = [self._tape.edges[i] for i in numbers]
        last = [tape[-1] if tape else None for tape in tapes]
        terms = [
            self._states[c.edge.source] if tape is None else self._saved[tape.z]
            for c, tape in zip(chosen, last, strict=True)
        ]
        norms = [grad.new_empty(0, 0) if tape is None else self._saved[tape.norm] for tape in last]
        factors = factor_matrix(call, numbers, grad)
        # The gradient of a gate is that in front of its weight, which may be 0.
        weights = factors[:, :1].unsqueeze(-1) if call.weighted and factors is not None else None
        sums = ops.node_gradient_sums(grad, terms, norms, factors if weights is None else None)
        self._summed.update(zip(numbers, sums.unbind(0), strict=True))
        sums_of = (sums if weights is None else sums * weights).unbind(0)
        first = len(self._offsets) - len(call.selection.chosen)
        for i, (number, c, tape) in enumerate(zip(numbers, chosen, tapes, strict=True)):
            factor = None if factors is None else factors[i]
            self._edge(c.option, tape, c.edge.source, grad, factor, sums_of[i], self._offsets[first + number])

    def _active_dots(self) -> None:
        """<G, O_k(x)> of the options that ran, from the sums of their BatchNorms; once for all nodes."""
        selection = self._call.selection
        first = len(self._offsets) - len(selection.chosen)
        parts = []
        for number, (of_grad, of_product) in self._summed.items():
            option, edge = selection.chosen[number].option, selection.chosen[number].edge
            if edge.row is None:
                continue
            norm = option.last_norm()
            if norm is not None and norm.affine:
                end = self._offsets[first + number] + len(option.parameters())
                weight, bias = self._parameters[end - 2 : end]
                of_product = of_product * weight + of_grad * bias
            parts.append(of_product)
            self._entries.append((edge.row, selection.chosen[number].number))
        if parts:
            self._dots.append(torch.stack(parts).sum(-1))

    def _edge(
        self,
        option: Option,
        tape: list[BlockTape],
        source: int,
        grad: Tensor,
        factor: Tensor | None,
        sums: Tensor,
        offset: int,
    ) -> None:
        x = self._states[source]
        if option.pool is not None:
            pool = option.pool
            if self._weights_wanted:
                self._norm_grads(pool.norm, sums, offset)
            if self._state_wanted[source]:
                out, base = self._target(source)
                z, norm = self._saved[tape[0].z], self._saved[tape[0].norm]
                ops.pool_backward_(
                    *(grad, factor, sums, z, norm, tape[0].batch_stats, x),
                    *(pool.max, pool.kernel, pool.stride, out, base),
                )
        elif option.chain:
            to = self._target(source) if self._state_wanted[source] else (None, None)
            self._chain(option, tape, x, grad, factor, sums, offset, *to)
        elif self._state_wanted[source]:
            self._add_identity(source, grad if factor is None else grad * factor.view(-1, 1, 1, 1))

    def _target(self, state: int) -> tuple[Tensor, Tensor | None]:
        """Where a gradient of a state goes, and what is added to it there."""
        base = self._grads[state]
        if self._owned[state]:
            assert base is not None
            return base, base
        out = ops.empty_images(self._states[state], self._states[state].shape)
        self._grads[state], self._owned[state] = out, True
        return out, base

    def _add_identity(self, state: int, grad: Tensor) -> None:
        if self._grads[state] is None:
            self._grads[state] = grad  # read only: it may be the gradient of the node
            return
        out, base = self._target(state)
        assert base is not None
        torch.add(base, grad, out=out)

    def _chain(
        self,
        option: Option,
        tape: list[BlockTape],
        x: Tensor,
        grad: Tensor,
        factor: Tensor | None,
        sums: Tensor,
        offset: int,
        out: Tensor | None,
        base: Tensor | None,
    ) -> None:
        """Backwards through the blocks; the first one's gradient goes to ``out``."""
        ends = [offset]
        for block in option.chain:
            convs = len(block.products) + (block.depthwise is not None)
            ends.append(ends[-1] + convs + 2 * (block.norm is not None and block.norm.affine))
        for i in reversed(range(len(option.chain))):
            block = option.chain[i]
            if out is None and not self._weights_wanted:
                return
            convs = len(block.products) + (block.depthwise is not None)
            products = list(self._parameters[ends[i] : ends[i] + convs])
            depthwise = products.pop(0) if block.depthwise is not None else None
            before_x = x if i == 0 else self._saved[tape[i - 1].z]
            in_norm = None if i == 0 or option.chain[i - 1].norm is None else self._saved[tape[i - 1].norm]
            to = out if i == 0 else ops.empty_images(before_x, before_x.shape)
            in_sums, grad_depthwise, grad_products = ops.block_backward(
                grad,
                factor,
                sums,
                self._saved[tape[i].z],
                self._saved[tape[i].norm],
                tape[i].batch_stats,
                before_x,
                in_norm,
                depthwise,
                products,
                block.geometry,
                block.relu,
                self._weights_wanted,
                to,
                base if i == 0 else None,
            )
            if self._weights_wanted:
                grads = grad_products if depthwise is None else [grad_depthwise, *grad_products]
                self._parameter_grads[ends[i] : ends[i] + len(grads)] = grads
                self._norm_grads(block.norm, sums, ends[i] + len(grads))
            if i > 0:
                assert to is not None
                grad, factor, sums = to, None, in_sums

    def _norm_grads(self, norm: nn.BatchNorm2d | None, sums: Tensor, offset: int) -> None:
        if norm is not None and norm.affine:
            self._parameter_grads[offset : offset + 2] = [sums[1].to(norm.weight), sums[0].to(norm.bias)]

    def _preprocess(self) -> list[Tensor | None]:
        """The gradients of the inputs."""
        found: list[Tensor | None] = []
        number = 0
        for i, option in enumerate(self._call.plan.preprocess):
            grad = self._grads[i]
            if option is None:
                found.append(grad if self._inputs_wanted[i] else None)
                continue
            offset, tape = self._offsets[number], self._tape.preprocess[i]
            number += 1
            x, out = self._inputs[i], None
            if grad is not None and self._state_wanted[i]:
                z, norm = self._saved[tape[-1].z], self._saved[tape[-1].norm]
                sums = ops.node_gradient_sums(grad, [z], [norm])[0]
                if self._inputs_wanted[i]:
                    out = ops.empty_images(x, x.shape)
                self._chain(option, tape, x, grad, None, sums, offset, out, None)
            found.append(out)
            self._grads[i] = None
        return found
