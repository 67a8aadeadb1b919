# SPDX-License-Identifier: MIT
"""One branch forward, the exact gradient of all K weights backward, one unselected branch alive at a time.

At a one-hot row the unselected branches send nothing back to the input or to their own parameters, so all
that is needed of them is dL/dw_k = <dL/dout, O_k(x)>: a forward without a graph, run when the gradient of the
weights is asked for and reduced to a number at once. Second derivatives need more of them: ``second_order``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from nasp_ext import ops
from nasp_ext.nn.dispatch.branches import (
    AutocastState,
    autocast_as,
    frozen_statistics,
    run_with,
    tensors_of,
    training_mode,
)
from nasp_ext.nn.fused.second_order import gradients_with_graph, graph_wanted, spare_hooks
from nasp_ext.nn.primitives import Zero


@dataclass(frozen=True)
class Branches:
    """What backward needs of the call, apart from tensors that autograd follows.

    Attributes:    held: parameters and buffers of every branch that backward may run, None for the others.
    """

    modules: nn.ModuleList
    active: int
    unit: bool  # the active weight is exactly 1
    training: bool
    update_stats: bool
    autocast: AutocastState
    zeros: tuple[torch.Size, torch.dtype] | None  # the output of an all-zero row
    held: tuple[Mapping[str, Tensor] | None, ...] = field(init=False)
    moved: set[int] = field(default_factory=set, init=False)  # branches whose statistics a backward moved

    def __post_init__(self) -> None:
        others = (k != self.active and not isinstance(m, Zero) for k, m in enumerate(self.modules))
        held = (tensors_of(m) if other else None for m, other in zip(self.modules, others, strict=True))
        object.__setattr__(self, "held", tuple(held))

    def parameters(self) -> list[Tensor]:
        """Of the unselected branches, what a second derivative may be asked for."""
        found = [t for tensors in self.held if tensors is not None for t in tensors.values()]
        return [t for t in found if t.requires_grad]

    def run(self, branch: int, x: Tensor, tensors: Mapping[str, Tensor] | None = None) -> Tensor:
        """O_k(x) as the forward would have computed it.

        Args:    tensors: in the place of those that the forward saw.
        """
        module = self.modules[branch]
        held = self.held[branch] if tensors is None else tensors
        assert held is not None
        with (
            autocast_as(self.autocast),
            training_mode(module, self.training),
            frozen_statistics(module, not self.update_stats or branch in self.moved),
        ):
            output = run_with(module, held, x, branch)
        self.moved.add(branch)  # once for each forward, as the mixture would
        return output


def one_hot(y: Tensor | None, x: Tensor, weights: Tensor, branches: Branches) -> Tensor:
    """w_k · y_k with the gradient of all weights.

    Args:
        y: output of the active branch, with its graph; None for an all-zero row.
        x: input of the branches; weights: (K,).
    """
    arguments = (y, x, weights, branches, *branches.parameters())
    out: Tensor = _OneHot.apply(*arguments)  # type: ignore[no-untyped-call]
    return out


class _OneHot(Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor | None, x: Tensor, weights: Tensor, branches: Branches, *parameters: Tensor
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.branches = branches
        ctx.leaf = weights.is_leaf
        ctx.place = 1 + (y is not None)  # of the weights among the tensors
        ctx.leads_nowhere = y is None or isinstance(branches.modules[branches.active], Zero)
        ctx.save_for_backward(y, x, weights, *parameters)
        if branches.zeros is not None:
            shape, dtype = branches.zeros
            return x.new_zeros(shape, dtype=dtype)
        assert y is not None
        # A fresh tensor, also at w_k = 1: the caller may change it in place, and y may be x itself.
        return y * weights[branches.active]

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.compiler.is_compiling():  # the step of a compiled caller: torch leaves `disable` untyped
            return torch.compiler.disable(_gradients)(ctx, grad)  # type: ignore[no-untyped-call, no-any-return]
        return _gradients(ctx, grad)


def _gradients(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    y, x, weights, *parameters = ctx.saved_tensors
    branches: Branches = ctx.branches
    asked = _weights_asked_for(ctx)
    if grad is None or not graph_wanted(grad):
        spare_hooks(parameters)
    if grad is None:  # nothing that the loss is made of reads the output
        return (None, None, torch.zeros_like(weights) if asked else None, None, *(None for _ in parameters))
    if graph_wanted(grad):
        grad_y, grad_x, grad_weights, *others = _with_graph(branches, y, x, weights, parameters, grad)
        return grad_y, grad_x, grad_weights, None, *others
    grad_y = grad_x = grad_weights = None
    with torch.no_grad():
        if ctx.leads_nowhere and ctx.needs_input_grad[1]:
            grad_x = torch.zeros_like(x)  # as 0 · O_k(x) gives, for whoever waits for one in front of it
        if y is not None and ctx.needs_input_grad[0]:
            grad_y = grad if branches.unit else grad * weights[branches.active]
        if asked:
            grad_weights = _dots(branches, grad, x, y).to(weights.dtype)
    return grad_y, grad_x, grad_weights, None, *(None for _ in parameters)


def _weights_asked_for(ctx: Any) -> bool:
    """Whether this backward goes on to the weights: not so in ``autograd.grad(loss, net.parameters())``."""
    # The engine answers for inner nodes only; a leaf is asked for.
    return ctx.leaf or torch._C._will_engine_execute_node(ctx.next_functions[ctx.place][0])


def _dots(branches: Branches, grad: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
    """(K,): <grad, O_k(x)> of every branch."""
    dots = []
    for branch, module in enumerate(branches.modules):
        if isinstance(module, Zero):
            dots.append(grad.new_zeros((), dtype=torch.float32))
            continue
        output = y if branch == branches.active and y is not None else branches.run(branch, x)
        _check_shape(branch, output, grad)
        wide = torch.promote_types(grad.dtype, output.dtype)
        dots.append(ops.branch_dots(grad.to(wide), [output.to(wide)])[0])
    wide = max((dot.dtype for dot in dots), key=lambda dtype: dtype.itemsize)
    return torch.stack([dot.to(wide) for dot in dots])


def _with_graph(
    branches: Branches,
    y: Tensor | None,
    x: Tensor,
    weights: Tensor,
    parameters: Sequence[Tensor],
    grad: Tensor,
) -> list[Tensor | None]:
    """The gradients of y, x, weights and parameters, with their graph."""

    def mixture(*tensors: Tensor) -> Tensor:
        row, image, *given = tensors
        active = given.pop(0) if y is not None else None
        replaced = iter(given)
        total = torch.zeros(grad.shape, dtype=grad.dtype, device=grad.device)  # of a batch: one for all
        for branch, held in enumerate(branches.held):
            if held is None and (branch != branches.active or active is None):
                continue  # `none`
            if held is None:
                assert active is not None
                output = active
            else:
                own = {name: next(replaced) if t.requires_grad else t for name, t in held.items()}
                output = branches.run(branch, image, own)
            _check_shape(branch, output, grad)
            total = total + (row[branch] * output).to(grad.dtype)
        return total

    front = [weights, x] if y is None else [weights, x, y]
    grad_weights, grad_x, *others = gradients_with_graph(mixture, [*front, *parameters], grad)
    return [None if y is None else others.pop(0), grad_x, grad_weights, *others]


def _check_shape(branch: int, output: Tensor, grad: Tensor) -> None:
    if output.shape != grad.shape:
        shape, found = tuple(grad.shape), tuple(output.shape)
        raise ValueError(f"expected branch {branch} to give {shape} as others do, got {found}")
