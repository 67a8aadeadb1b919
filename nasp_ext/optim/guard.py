# SPDX-License-Identifier: MIT
"""No other optimizer may step an architecture tensor: found before anything is modified."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.optim import optimizer as torch_optimizer
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

# PyTorch's own tables; a version without them takes the long way, through its wrapper of step().
_PRE_HOOKS: dict[int, Any] | None = getattr(torch_optimizer, "_global_optimizer_pre_hooks", None)
_POST_HOOKS: dict[int, Any] = getattr(torch_optimizer, "_global_optimizer_post_hooks", {})


def held_tensors(optimizer: Optimizer) -> dict[int, Tensor]:
    """Every tensor of ``optimizer``, by identity."""
    return {id(p): p for group in optimizer.param_groups for p in group["params"]}


def refuse_shared(architecture: Optimizer, other: Optimizer) -> None:
    """Raise ValueError if ``other`` holds a tensor of ``architecture``, TypeError if it is no optimizer."""
    if not isinstance(other, Optimizer):
        raise TypeError(
            f"expected an optimizer of PyTorch beside {type(architecture).__name__}, got {other!r}"
        )
    mine = held_tensors(architecture)
    shared = [tuple(p.shape) for i, p in held_tensors(other).items() if i in mine]
    if shared:
        raise ValueError(
            f"expected each tensor in one optimizer only, found {len(shared)} architecture "
            f"matri{'x' if len(shared) == 1 else 'ces'} of {type(architecture).__name__}, shape "
            f"{', '.join(map(str, shared))}, also in {type(other).__name__}: give that one the weights only "
            "(for a nasp_ext network: net.weight_parameters())"
        )


class _Guard:
    """A global step pre-hook that lives as long as one guarded optimizer does."""

    def __init__(self) -> None:
        self._live: dict[int, weakref.ref[Optimizer]] = {}
        self._handle: RemovableHandle | None = None

    def add(self, optimizer: Optimizer) -> None:
        key = id(optimizer)
        if key not in self._live:
            self._live[key] = weakref.ref(optimizer, lambda _: self._drop(key))
        if self._handle is None:
            self._handle = register_optimizer_step_pre_hook(self._before_step)

    def has_others(self, optimizer: Optimizer) -> bool:
        """Whether a step of ``optimizer`` concerns anyone else: a hook, a profiler, another guarded one."""
        return (
            len(self._live) > 1
            or _PRE_HOOKS is None
            or len(_PRE_HOOKS) > 1
            or self._handle is None
            or self._handle.id not in _PRE_HOOKS
            or bool(_POST_HOOKS)
            or bool(optimizer._optimizer_step_pre_hooks)
            or bool(optimizer._optimizer_step_post_hooks)
            or torch.autograd._profiler_enabled()  # type: ignore[attr-defined]  # torch has no types here
        )

    def _drop(self, key: int) -> None:
        self._live.pop(key, None)
        if not self._live and self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        held = held_tensors(optimizer).keys()
        if self._overlap(optimizer, held) is None:
            return
        gc.collect()  # a dropped optimizer may live on in a reference cycle (schedulers make one)
        owner = self._overlap(optimizer, held)
        if owner is not None:
            refuse_shared(owner, optimizer)

    def _overlap(self, optimizer: Optimizer, held: Any) -> Optimizer | None:
        for ref in list(self._live.values()):
            owner = ref()
            if (
                owner is not None
                and owner is not optimizer
                and not held.isdisjoint(held_tensors(owner).keys())
            ):
                return owner
        return None


GUARD = _Guard()
