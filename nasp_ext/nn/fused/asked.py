# SPDX-License-Identifier: MIT
"""What a backward goes on to: ``autograd.grad(loss, gates)`` needs no gradient of the weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_ACCUMULATE = "AccumulateGrad"  # the autograd node of a leaf


def aliases(parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Views of the parameters behind one inner node, of which the engine says whether it will run."""
    if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
        found: tuple[Tensor, ...] = _Alias.apply(*parameters)  # type: ignore[no-untyped-call]
        return found
    return tuple(parameters)


class _Alias(Function):
    @staticmethod
    def forward(ctx: Any, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return tuple(p.view_as(p) for p in parameters)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return grads


def runs(function: Any) -> bool:
    """Whether this backward goes on to a node. The engine answers for inner ones; a leaf is asked for."""
    if function is None:
        return False
    return function.name().endswith(_ACCUMULATE) or torch._C._will_engine_execute_node(function)
