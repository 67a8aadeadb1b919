# SPDX-License-Identifier: MIT
"""A fused cell: one autograd node for all its edges, forward.

Forward runs the chosen option of each edge and keeps what lies in front of each BatchNorm, nothing else.
Backward is in ``fused_backward``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function

from .. import ops
from .lowering import Option, moves_statistics, norm_parts, uses_batch
from .plan import CellPlan, ProgramArguments, Selection, SourceProgram


@dataclass(frozen=True)
class CellCall:
    """One call of a fused cell, apart from the tensors that autograd sees.

    Args:
        factors: of each chosen edge, (N,) or () or None = 1.
        weighted: the factors are the gates' weights, whose gradient is wanted.
        size: channels, height, width of a node, for cells in which no edge may run.
        programs: for each state the options out of it that do not run, in the mode of the forward; empty
            if the gradient of the gates is not wanted.
    """

    plan: CellPlan
    selection: Selection
    factors: tuple[Tensor | None, ...]
    weighted: bool
    size: tuple[int, ...] | None
    programs: tuple[tuple[SourceProgram, ProgramArguments], ...]


def run_cell(
    plan: CellPlan,
    inputs: Sequence[Tensor],
    gates: Tensor | None,
    active: Sequence[int],
    *,
    factors: Sequence[Tensor | None] | None = None,
    weighted: bool = False,
    size: tuple[int, ...] | None = None,
) -> Tensor:
    """The output of a fused cell.

    Args:
        inputs: (N, C_i, H, W) each; gates: (R, K) weights whose gradient is wanted, or None.
        active: the option of each edge of the plan, -1 = none.
        factors: of each edge of the plan, (N,) or () or None = 1.
        weighted: the factors are the gates' weights, whose gradient is wanted.
        size: channels, height, width of a node, for cells in which no edge may run.
    Returns: (N, len(concat) · C, H', W'), channels_last.
    """
    from .fused_backward import backward  # the two files are one pass and its reverse

    selection = plan.selection(active)
    of_chosen = tuple(None if factors is None else factors[c.position] for c in selection.chosen)
    programs = () if gates is None else tuple((p, p.arguments()) for p in selection.programs())
    call = CellCall(plan, selection, of_chosen, weighted, size, programs)
    parameters: Sequence[Tensor] = selection.parameters()
    if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
        parameters = _Alias.apply(*parameters)  # type: ignore[no-untyped-call]
    inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
    out: Tensor = _Cell.apply(call, backward, gates, *inputs, *parameters)  # type: ignore[no-untyped-call]
    return out


class _Alias(Function):
    """Views of the parameters behind one inner node, of which the engine says whether it will run: so
    ``autograd.grad(loss, gates)`` computes no gradient of the weights."""

    @staticmethod
    def forward(ctx: Any, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return tuple(p.view_as(p) for p in parameters)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return grads


class _Cell(Function):
    @staticmethod
    def forward(ctx: Any, call: CellCall, backward: Any, gates: Tensor | None, *tensors: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        inputs = tensors[: call.plan.inputs]
        forward = CellForward(call, inputs)
        out = forward.run()
        ctx.call, ctx.reverse, ctx.tape = call, backward, forward.tape
        ctx.gates_leaf = gates is not None and gates.is_leaf
        kept = out if call.plan.reads_nodes else None  # else the caller may change it in place
        ctx.save_for_backward(kept, *tensors, *forward.tape.saved)
        forward.tape.saved = []
        ctx.gates_shape = None if gates is None else (gates.shape, gates.dtype)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:  # nothing that the loss is made of reads the output
            return (None,) * len(ctx.needs_input_grad)
        result: tuple[Tensor | None, ...] = ctx.reverse(ctx, grad)
        return (None, None, *result)


class BlockTape(NamedTuple):
    """Numbers of the saved tensors of a block or pool: what it gave and the norm of that."""

    z: int
    norm: int
    batch_stats: bool


@dataclass
class Tape:
    """The saved tensors, and which of them belong to what."""

    saved: list[Tensor] = field(default_factory=list)
    preprocess: list[list[BlockTape]] = field(default_factory=list)  # of each input, empty without one
    inputs: list[int] = field(default_factory=list)  # the preprocessed input, -1: the input itself
    edges: list[list[BlockTape]] = field(default_factory=list)  # of each chosen edge
    loose: dict[int, int] = field(default_factory=dict)  # nodes that are no part of the output

    def save(self, tensor: Tensor) -> int:
        self.saved.append(tensor)
        return len(self.saved) - 1


class CellForward:
    """One pass through a cell."""

    def __init__(self, call: CellCall, inputs: Sequence[Tensor]) -> None:
        self.call, self.inputs, self.tape = call, inputs, Tape()
        self._moved: list[tuple[nn.BatchNorm2d, Tensor, int]] = []
        self._states: list[Tensor] = []
        self._out: Tensor | None = None

    def run(self) -> Tensor:
        plan = self.call.plan
        for option, x in zip(plan.preprocess, self.inputs, strict=True):
            self._states.append(self._preprocess(option, x))
        chosen = self.call.selection.chosen
        self.tape.edges = [[] for _ in chosen]
        for node, numbers in enumerate(self.call.selection.of_node):
            terms, norms = [], []
            for number in numbers:
                option, source = chosen[number].option, chosen[number].edge.source
                self.tape.edges[number], z, norm = self._option(option, self._states[source])
                terms.append(z)
                norms.append(norm)
            target = self._target(node, terms)
            if terms:
                ops.node_sum_(target, terms, norms, factor_matrix(self.call, numbers, target))
            else:
                target.zero_()
            self._states.append(target)
        self._move_statistics()
        assert self._out is not None
        return self._out

    def _preprocess(self, option: Option | None, x: Tensor) -> Tensor:
        if option is None:
            self.tape.preprocess.append([])
            self.tape.inputs.append(-1)
            return x
        blocks, z, norm = self._option(option, x)
        state = z if norm.numel() == 0 else ops.empty_images(z, z.shape)
        if norm.numel():
            ops.node_sum_(state, [z], [norm])
        self.tape.preprocess.append(blocks)
        self.tape.inputs.append(self.tape.save(state))
        return state

    def _target(self, node: int, terms: list[Tensor]) -> Tensor:
        """Where a node is written: a slice of the output, or memory of its own."""
        plan = self.call.plan
        shape = terms[0].shape if terms else self._empty_shape()
        if self._out is None:
            batch, channels, height, width = shape
            sizes = (batch, channels * len(plan.concat), height, width)
            self._out = ops.empty_images(self._states[0], sizes)
        state = plan.inputs + node
        if state in plan.concat:
            return node_slice(self._out, plan, state)
        loose = ops.empty_images(self._states[0], shape)
        self.tape.loose[state] = self.tape.save(loose)
        return loose

    def _empty_shape(self) -> tuple[int, ...]:
        assert self.call.size is not None, "a cell in which no edge may run is called with its size"
        return (len(self._states[0]), *self.call.size)

    def _option(self, option: Option, x: Tensor) -> tuple[list[BlockTape], Tensor, Tensor]:
        """(what to keep, z, norm): the option gives norm(z)."""
        if option.pool is not None:
            pool = option.pool
            args = (pool.max, pool.kernel, pool.stride, pool.norm is not None)
            z, norm = ops.pool_forward(x, *args, norm_parts(pool.norm), _eps(pool.norm))
            return [self._record(pool.norm, z, norm)], z, norm
        blocks: list[BlockTape] = []
        before: Tensor | None = None
        norm = x.new_empty(0, 0)
        for block in option.chain:
            depthwise, products = block.weights()
            has_norm = block.norm is not None
            x, norm = ops.block_forward(
                *(x, before, depthwise, products, block.geometry, block.relu),
                *(has_norm, norm_parts(block.norm), _eps(block.norm)),
            )
            blocks.append(self._record(block.norm, x, norm))
            before = norm if has_norm else None
        return blocks, x, norm

    def _record(self, norm: nn.BatchNorm2d | None, z: Tensor, rows: Tensor) -> BlockTape:
        batch = norm is not None and uses_batch(norm)
        if norm is not None:
            count = z.numel() // z.shape[1]
            if batch and count < 2:
                shape = tuple(z.shape)
                raise ValueError(f"expected more than 1 value per channel when training, got {shape}")
            if moves_statistics(norm):
                self._moved.append((norm, rows, count))
        return BlockTape(self.tape.save(z), self.tape.save(rows), batch)

    def _move_statistics(self) -> None:
        if not self._moved:
            return
        norms, rows, counts = zip(*self._moved, strict=True)
        buffers: list[Any] = [norm._buffers for norm in norms]
        ops.update_statistics_(
            [b["running_mean"] for b in buffers],
            [b["running_var"] for b in buffers],
            [b["num_batches_tracked"] for b in buffers],
            rows,
            counts,
            [norm.momentum or 0.0 for norm in norms],
        )


def node_slice(images: Tensor, plan: CellPlan, state: int) -> Tensor:
    """The channels of a node in the output of a cell, or in its gradient."""
    channels = images.shape[1] // len(plan.concat)
    return images.narrow(1, plan.concat.index(state) * channels, channels)


def factor_matrix(call: CellCall, numbers: Sequence[int], like: Tensor) -> Tensor | None:
    """(E, N) of the factors of E chosen edges, None if all are 1."""
    factors = [call.factors[number] for number in numbers]
    if not any(factor is not None for factor in factors):
        return None
    rows = [like.new_ones(()) if factor is None else factor for factor in factors]
    return torch.stack([row.detach().to(like.dtype).expand(len(like)) for row in rows])


def _eps(norm: nn.BatchNorm2d | None) -> float:
    return 0.0 if norm is None else norm.eps
