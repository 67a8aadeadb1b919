# SPDX-License-Identifier: MIT
"""When PyTorch looks into each operation: torch.func, forward-mode differentiation, torch.jit.trace."""

import torch
from torch import Tensor
from torch._C import _functorch as functorch


def by_torch_alone() -> bool:
    """Whether it does, which it can with its own operations alone: the twins in ``reference`` run then."""
    return (
        torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
    )


def is_of_batch(*tensors: Tensor) -> bool:
    """Whether one is of a batch of gradients (``is_grads_batched``), for which the kernels have no rule."""
    # The compiler knows no such tensors, nor this question.
    return not torch.compiler.is_compiling() and any(map(functorch.is_legacy_batchedtensor, tensors))


def is_followed(t: Tensor) -> bool:
    """Whether a transform differentiates through a tensor, in forward or backward mode, or maps over it."""
    if functorch.is_functorch_wrapped_tensor(t):
        return True
    level = torch.autograd.forward_ad._current_level
    if level < 0:
        return False
    dual = torch.autograd.forward_ad.unpack_dual(t)  # type: ignore[no-untyped-call]  # of a typed package
    return dual.tangent is not None


def unwrapped(t: Tensor) -> Tensor | None:
    """The tensor inside the wrappers of torch.func; None if it is one of a batch, with other values each."""
    while functorch.is_functorch_wrapped_tensor(t):
        if functorch.is_batchedtensor(t):
            return None
        t = functorch.get_unwrapped(t)
    return t


def refuse_batch(name: str, a: Tensor) -> None:
    """Raise RuntimeError for a tensor that torch.func.vmap maps over."""
    if unwrapped(a) is None:
        raise RuntimeError(f"{name} takes leading dimensions (..., R, K): pass them instead of torch.vmap")
