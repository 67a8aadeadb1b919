# SPDX-License-Identifier: MIT
"""One branch forward, the exact gradient of all K weights backward, one unselected branch alive at a time.

At a one-hot row the unselected branches send nothing back to the input or to their own parameters, so all
that is needed of them is dL/dw_k = Σ_leaves <dL/dout, O_k(x)>: a forward without a graph, run when the
gradient of the weights is asked for and reduced to a number at once. Second derivatives need more of them:
``second_order``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from nasp_ext import ops
from nasp_ext.nn.dispatch.branches import (
    AutocastState,
    Label,
    State,
    autocast_as,
)
from nasp_ext.nn.dispatch.inputs import ONE_TENSOR, Form, Inputs
from nasp_ext.nn.dispatch.outputs import Leaves, Zeros, aligned, described
from nasp_ext.nn.fused.second_order import gradients_with_graph, graph_wanted, spare_hooks
from nasp_ext.nn.primitives import is_none


@dataclass(frozen=True)
class Branches:
    """What backward needs of the call, apart from tensors that autograd follows.

    Attributes:    held: of every branch that backward may run, as the forward finds it; None for the others.
    """

    modules: nn.ModuleList
    names: tuple[str, ...]
    form: Form  # of the arguments
    active: int
    unit: bool  # the active weight is exactly 1
    update_stats: bool
    autocast: AutocastState
    zeros: Zeros | None  # the output of an all-zero row
    held: tuple[State | None, ...] = field(init=False)
    moved: set[int] = field(default_factory=set, init=False)  # branches whose statistics a backward moved

    def __post_init__(self) -> None:
        others = (k != self.active and not is_none(m) for k, m in enumerate(self.modules))
        held = (State.of(m) if other else None for m, other in zip(self.modules, others, strict=True))
        object.__setattr__(self, "held", tuple(held))

    def parameters(self) -> list[Tensor]:
        """Of the unselected branches, what a second derivative may be asked for."""
        found = [t for state in self.held if state is not None for t in state.tensors.values()]
        return [t for t in found if t.requires_grad]

    def run(
        self, branch: int, inputs: Sequence[Tensor], like: Leaves, tensors: Mapping[str, Tensor] | None = None
    ) -> Sequence[Tensor]:
        """The mixed leaves of O_k as the forward would have computed it.

        Args:
            inputs: the tensors among the arguments; tensors: in the place of those that the forward saw.
            like: the output that was returned.
        Raises:  ValueError: the output is of another structure.
        """
        module = self.modules[branch]
        label = Label(branch, self.names)
        state = self.held[branch]
        assert state is not None
        call = self.form.call(inputs, branch)
        frozen = not self.update_stats or branch in self.moved
        with autocast_as(self.autocast):
            output = state.run(module, call, inputs, label, tensors, frozen)
        self.moved.add(branch)  # once for each forward, as the mixture would
        leaves = aligned(like, output, label)
        if leaves is None:
            expected = described(like.filled(like.mixed))
            raise ValueError(
                f"expected branch {label} to give {expected} as others do, got {described(output)}"
            )
        return leaves.mixed


def one_hot(y: Leaves, inputs: Inputs, weights: Tensor, branches: Branches) -> Any:
    """w_k · y_k with the gradient of all weights.

    Args:
        y: output of the active branch, with its graph; for an all-zero row without the mixed leaves.
        weights: (K,).
    """
    arguments = (branches, y, len(inputs.tensors), weights, *y.mixed, *inputs.tensors, *branches.parameters())
    out: tuple[Tensor, ...] = _OneHot.apply(*arguments)  # type: ignore[no-untyped-call]
    return y.filled(out)


class _OneHot(Function):
    """Tensors: weights, mixed leaves of the active branch, inputs, parameters of the other branches."""

    @staticmethod
    def forward(
        ctx: Any, branches: Branches, y: Leaves, inputs: int, weights: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        count = len(y.mixed)
        ctx.branches = branches
        ctx.parts = count, count + inputs
        ctx.rest = y._replace(mixed=())
        ctx.leaf = weights.is_leaf
        ctx.leads_nowhere = not y.mixed or is_none(branches.modules[branches.active])
        ctx.save_for_backward(weights, *tensors)
        if branches.zeros is not None:
            return tuple(branches.zeros.tensors(tensors[0] if inputs else weights))
        # Fresh tensors, also at w_k = 1: the caller may change them in place, and one may be x itself.
        weight = weights[branches.active]
        return tuple(leaf * weight for leaf in y.mixed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.compiler.is_compiling():  # the step of a compiled caller: torch leaves `disable` untyped
            return torch.compiler.disable(_gradients)(ctx, grads)  # type: ignore[no-untyped-call, no-any-return]
        return _gradients(ctx, grads)


def _gradients(ctx: Any, grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    weights, *tensors = ctx.saved_tensors
    first, second = ctx.parts
    ys, inputs, parameters = tensors[:first], tensors[first:second], tensors[second:]
    branches: Branches = ctx.branches
    asked = _weights_asked_for(ctx)
    grad = next((g for g in grads if g is not None), None)
    if grad is None or not graph_wanted(grad):
        spare_hooks(parameters)
    if grad is None:  # nothing that the loss is made of reads the output
        return None, None, None, torch.zeros_like(weights) if asked else None, *(None for _ in tensors)
    if graph_wanted(grad):
        return None, None, None, *_with_graph(ctx, weights, ys, inputs, parameters, grads)
    needs = ctx.needs_input_grad[4:]
    grad_ys: list[Tensor | None] = [None for _ in ys]
    grad_inputs: list[Tensor | None] = [None for _ in inputs]
    grad_weights = None
    with torch.no_grad():
        if ctx.leads_nowhere or branches.form is not ONE_TENSOR:
            # As 0 · O_k(x) gives, for whoever waits for one in front of what the active branch does not read.
            grad_inputs = [
                torch.zeros_like(x) if need else None
                for x, need in zip(inputs, needs[first:second], strict=True)
            ]
        if any(needs[:first]):
            weight = None if branches.unit else weights[branches.active]
            grad_ys = [g if g is None or weight is None else g * weight for g in grads]
        if asked:
            grad_weights = _dots(ctx, grads, inputs, ys).to(weights.dtype)
    return None, None, None, grad_weights, *grad_ys, *grad_inputs, *(None for _ in parameters)


def _weights_asked_for(ctx: Any) -> bool:
    """Whether this backward goes on to the weights: not so in ``autograd.grad(loss, net.parameters())``."""
    # The engine answers for inner nodes only; a leaf is asked for.
    return ctx.leaf or torch._C._will_engine_execute_node(ctx.next_functions[0][0])


def _returned(ctx: Any, grads: Sequence[Tensor | None], ys: Sequence[Tensor]) -> Leaves:
    """What the forward returned, for its structure."""
    rest: Leaves = ctx.rest
    if ys:
        return rest._replace(mixed=ys)
    zeros = ctx.branches.zeros
    return rest._replace(mixed=zeros.tensors(next(g for g in grads if g is not None)))


def _dots(ctx: Any, grads: Sequence[Tensor | None], inputs: Sequence[Tensor], ys: Sequence[Tensor]) -> Tensor:
    """(K,): Σ_leaves <grad, O_k(x)> of every branch."""
    branches: Branches = ctx.branches
    like = _returned(ctx, grads, ys)
    zero = next(g for g in grads if g is not None).new_zeros((), dtype=torch.float32)
    dots = []
    for branch, module in enumerate(branches.modules):
        if is_none(module):
            dots.append(zero)
            continue
        outputs = ys if branch == branches.active and ys else branches.run(branch, inputs, like)
        pairs = [(g, y) for g, y in zip(grads, outputs, strict=True) if g is not None]
        dots.append(reduce(torch.add, [_dot(g, y) for g, y in pairs]))
    wide = max((dot.dtype for dot in dots), key=lambda dtype: dtype.itemsize)
    return torch.stack([dot.to(wide) for dot in dots])


def _dot(grad: Tensor, output: Tensor) -> Tensor:
    wide = torch.promote_types(grad.dtype, output.dtype)
    return ops.branch_dots(grad.to(wide), [output.to(wide)])[0]


def _with_graph(
    ctx: Any,
    weights: Tensor,
    ys: Sequence[Tensor],
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """The gradients of weights, ys, inputs and parameters, with their graph."""
    branches: Branches = ctx.branches
    like = _returned(ctx, grads, ys)
    places = [place for place, g in enumerate(grads) if g is not None]
    upstream = [g for g in grads if g is not None]

    def mixture(row: Tensor, *tensors: Tensor) -> list[Tensor]:
        first, second = ctx.parts
        replaced = iter(tensors[second:])
        # Of a batch of gradients: one for all.
        totals = [torch.zeros(g.shape, dtype=g.dtype, device=g.device) for g in upstream]
        for branch, state in enumerate(branches.held):
            if state is not None:
                found = state.tensors.items()
                own = {name: next(replaced) if t.requires_grad else t for name, t in found}
                outputs = branches.run(branch, tensors[first:second], like, own)
            elif branch == branches.active and ys:
                outputs = tensors[:first]
            else:
                continue  # `none`
            for i, place in enumerate(places):
                totals[i] = totals[i] + (row[branch] * outputs[place]).to(totals[i].dtype)
        return totals

    return gradients_with_graph(mixture, [weights, *ys, *inputs, *parameters], *upstream)
