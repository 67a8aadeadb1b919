# SPDX-License-Identifier: MIT
"""What NASP keeps of one matrix beside its numbers: checked before a step, converted with the matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MOMENTS = ("exp_avg", "exp_avg_sq")
MOST_STEPS = 1 << 62  # a count beyond has no successor in 64 bits
Moments = tuple[Tensor | None, Tensor | None]


def check_count(state: dict[str, Any]) -> None:
    """Raise ValueError if the state of a matrix does not tell how many steps it took."""
    step = state.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < MOST_STEPS:
        raise ValueError(f"expected step of the state to be a whole number >= 0, found {step!r}")


def fitted_moments(state: dict[str, Any], p: Tensor, adam: bool) -> Moments:
    """The moments of ``p`` in its dtype and on its device, new ones before the first step.

    A matrix that was converted (``module.double()``, ``.to("cuda")``) goes on as if it had always been so, up
    to the rounding of the moments. ``state`` is left as it is.

    Raises:  ValueError: moments that are not of this matrix.
    """
    if not adam:
        return None, None
    first, second = found = [state.get(name) for name in MOMENTS]
    if found == [None, None] and state["step"] == 0:
        first, second = (torch.zeros_like(p, memory_format=torch.contiguous_format) for _ in MOMENTS)
        return first.detach(), second.detach()
    for name, value in zip(MOMENTS, found, strict=True):
        check_moment(name, value, p)
    assert first is not None
    assert second is not None
    return first.to(p.device, p.dtype), second.to(p.device, p.dtype)  # themselves if nothing is to do


def check_moment(name: str, value: object, p: Tensor, of: str = "the matrix") -> None:
    """Raise ValueError if ``value`` cannot be moment ``name`` of ``p``, whatever its numbers are."""
    if not isinstance(value, Tensor):
        raise ValueError(
            f"expected {name} of {of} to be a tensor of shape {tuple(p.shape)}, found {type(value).__name__}"
        )
    if value.shape != p.shape:
        raise ValueError(
            f"expected {name} of {of} to be {tuple(p.shape)}, found {tuple(value.shape)}: the state is of "
            "another search space, or the matrix was given another shape"
        )
    if not value.is_floating_point() or value.layout is not torch.strided or value.is_meta:
        raise ValueError(
            f"expected {name} of {of} to be a dense tensor of floating-point numbers, found {value.dtype}, "
            f"{value.layout}, on {value.device}"
        )
    check_memory(value, f"{name} of {of}")


def check_memory(t: Tensor, name: str) -> None:
    """Raise ValueError if the storage of ``t`` was resized to less than its elements take (as FSDP does)."""
    last = t.storage_offset() + sum((n - 1) * step for n, step in zip(t.shape, t.stride(), strict=True))
    if t.numel() and t.untyped_storage().nbytes() < (last + 1) * t.element_size():
        raise ValueError(
            f"expected {name} of {tuple(t.shape)} to have memory for its elements, found a storage of "
            f"{t.untyped_storage().nbytes()} bytes: it was resized; give it back its memory first"
        )


def check_gradient(p: Tensor) -> None:
    """Raise ValueError or TypeError if the gradient of ``p`` is not one of ``p`` as it is now."""
    grad = p.grad
    assert grad is not None
    if grad.layout is not torch.strided:
        raise TypeError("expected a dense gradient, got a sparse one")
    if (grad.shape, grad.dtype, grad.device) != (p.shape, p.dtype, p.device):
        raise ValueError(
            f"expected the gradient of the shape of a, its dtype and device, {tuple(p.shape)} {p.dtype} on "
            f"{p.device}, found {tuple(grad.shape)} {grad.dtype} on {grad.device}: one of them was changed "
            "since backward; call zero_grad() and backward again"
        )
    check_memory(grad, "the gradient")
