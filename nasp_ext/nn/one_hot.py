# SPDX-License-Identifier: MIT
"""One branch forward, the exact gradient of all K weights backward, one unselected branch alive at a time.

At a one-hot row the unselected branches send nothing back to the input or to their own parameters, so all
that is needed of them is dL/dw_k = <dL/dout, O_k(x)>: a forward without a graph, run when the gradient of the
weights is asked for and reduced to a number at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from .. import ops
from .primitives import Zero

AutocastState = tuple[str, torch.dtype, bool] | None  # device type, dtype, enabled

_ONCE = (
    "expected at most one backward through a one-hot or a fused MixedOp or cell, got a second "
    "differentiation (create_graph=True): they leave no graph. Run inside nasp_ext.nn.plain_modules(), and "
    "pass active=None where unselected branches matter"
)


@dataclass(frozen=True)
class Branches:
    """What backward needs of the call, apart from tensors."""

    modules: nn.ModuleList
    active: int
    unit: bool  # the active weight is exactly 1
    training: bool
    update_stats: bool
    autocast: AutocastState
    zeros: tuple[torch.Size, torch.dtype] | None  # the output of an all-zero row

    def run(self, branch: int, x: Tensor) -> Tensor:
        """O_k(x) as the forward would have computed it, without a graph."""
        module = self.modules[branch]
        with (
            without_graph(self.autocast),
            training_mode(module, self.training),
            frozen_statistics(module, not self.update_stats),
        ):
            output: Tensor = module(x)
        return output


def autocast_state(device: str) -> AutocastState:
    if not torch.amp.is_autocast_available(device):
        return None
    return device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)


@contextmanager
def without_graph(autocast: AutocastState) -> Iterator[None]:
    """No gradient, and the given state of autocast."""
    with torch.no_grad():
        if autocast is None:
            yield
            return
        # Without its cache, which would keep the cast weights of every branch to the end of the region.
        with torch.autocast(*autocast, cache_enabled=False):
            yield


def one_hot(y: Tensor | None, x: Tensor, weights: Tensor, branches: Branches) -> Tensor:
    """w_k · y_k with the gradient of all weights.

    Args:
        y: output of the active branch, with its graph; None for an all-zero row.
        x: input of the branches; weights: (K,).
    """
    out: Tensor = _OneHot.apply(y, x.detach(), weights, branches)  # type: ignore[no-untyped-call]
    return out


class _OneHot(Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor | None, x: Tensor, weights: Tensor, branches: Branches) -> Tensor:
        ctx.branches = branches
        ctx.leaf = weights.is_leaf
        ctx.dtype = weights.dtype
        ctx.save_for_backward(x, y, None if branches.unit or y is None else weights)
        if branches.zeros is not None:
            shape, dtype = branches.zeros
            return x.new_zeros(shape, dtype=dtype)
        assert y is not None
        # A fresh tensor, also at w_k = 1: the caller may change it in place, and y may be x itself.
        return y * weights[branches.active]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, weights = ctx.saved_tensors
        branches: Branches = ctx.branches
        with torch.no_grad():
            grad_y = grad_weights = None
            if y is not None and ctx.needs_input_grad[0]:
                grad_y = grad if weights is None else grad * weights[branches.active]
            if _weights_asked_for(ctx):
                grad_weights = _dots(branches, grad, x, y).to(ctx.dtype)
        if torch.is_grad_enabled():
            grad_y, grad_weights = once(grad_y), once(grad_weights)
        return grad_y, None, grad_weights, None


def _weights_asked_for(ctx: Any) -> bool:
    """Whether this backward goes on to the weights: not so in ``autograd.grad(loss, net.parameters())``."""
    # Weights are the last tensor input. The engine answers for inner nodes only; a leaf is asked for.
    return ctx.leaf or torch._C._will_engine_execute_node(ctx.next_functions[-1][0])


def _dots(branches: Branches, grad: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
    """(K,): <grad, O_k(x)> of every branch."""
    dots = []
    for branch, module in enumerate(branches.modules):
        if isinstance(module, Zero):
            dots.append(grad.new_zeros((), dtype=torch.float32))
            continue
        output = y if branch == branches.active and y is not None else branches.run(branch, x)
        if output.shape != grad.shape:
            shape, found = tuple(grad.shape), tuple(output.shape)
            raise ValueError(f"expected branch {branch} to give {shape} as others do, got {found}")
        wide = torch.promote_types(grad.dtype, output.dtype)
        dots.append(ops.branch_dots(grad.to(wide), [output.to(wide)])[0])
    wide = max((dot.dtype for dot in dots), key=lambda dtype: dtype.itemsize)
    return torch.stack([dot.to(wide) for dot in dots])


class _Once(Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, _: Tensor) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        raise RuntimeError(_ONCE)


def once(grad: Tensor | None) -> Tensor | None:
    """The gradient, refusing to be differentiated: the result would lack the unselected branches."""
    if grad is None:
        return None
    out: Tensor = _Once.apply(grad, grad.new_empty(0).requires_grad_())  # type: ignore[no-untyped-call]
    return out


@contextmanager
def training_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Run ``module`` in a mode; the flags of all its parts are put back, frozen parts included."""
    if module.training == training:
        yield
        return
    flags = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, flag in flags:
            part.training = flag


@contextmanager
def frozen_statistics(module: nn.Module, frozen: bool) -> Iterator[None]:
    """Normalise with the statistics of the batch, leaving the running ones as they are."""
    norms = [
        part
        for part in (module.modules() if frozen else ())
        if isinstance(part, nn.modules.batchnorm._NormBase) and part.track_running_stats
    ]
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
