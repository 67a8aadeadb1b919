# SPDX-License-Identifier: MIT
"""When the fused operators run in the place of the plain modules, and why not when they do not."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_globals
from torch.utils.hooks import RemovableHandle

from nasp_ext.nn.fused.lowering import NotFusedError, NotFusedNowError
from nasp_ext.ops._transforms import by_torch_alone


class Plan(Protocol):
    """How the native operators run a module, as long as it is made of the same layers."""

    def is_current(self, active: Sequence[int] | None = None) -> bool: ...


_P = TypeVar("_P", bound=Plan)
_LOG = logging.getLogger("nasp_ext.fusion")
_ALLOWED: ContextVar[bool] = ContextVar("nasp_ext_fused", default=True)
_PLAIN_TENSORS = (Tensor, nn.Parameter)
_DISPATCH_KEYS = {"cpu": "CPU", "cuda": "CUDA"}
_GLOBAL_HOOKS = [f"_global_{kind}_hooks" for kind in ("forward", "forward_pre", "backward", "backward_pre")]
_IMAGES = "(N, C, H, W)"
_SWITCHED_OFF = "fused operators are switched off by nasp_ext.nn.plain_modules()"


@contextmanager
def plain_modules(plain: bool = True) -> Iterator[None]:
    """Inside, cells and MixedOps run the plain PyTorch modules, e.g. to compare with them.

    >>> with plain_modules():
    ...     why_not_fused(torch.zeros(1, 2, 3, 3))
    'fused operators are switched off by nasp_ext.nn.plain_modules()'
    """
    token = _ALLOWED.set(not plain)
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def why_not_fused(x: Tensor) -> str | None:
    """Why a call with this image runs the plain modules; None if nothing about the call says so."""
    return why_not_native(x, "block_forward", _IMAGES)


def why_not_native(x: Tensor, operator: str, sizes: str) -> str | None:
    """Why a call with this input runs PyTorch's own operators; None if nothing about the call says so.

    Args:    operator: of ours, in its place; sizes: of the input, such as "(N, C, H, W)".
    """
    if torch.compiler.is_compiling():
        return "the compiler fuses the plain layers itself"
    if not _ALLOWED.get():
        return _SWITCHED_OFF
    if by_torch_alone():
        return "torch.func, forward-mode differentiation and torch.jit.trace go through each layer"
    if type(x) not in _PLAIN_TENSORS or x.dim() != len(sizes.split()) or x.numel() == 0:
        return f"fused operators take plain tensors {sizes} that are not empty"
    if x.dtype not in (torch.float32, torch.float64):
        return f"fused operators run in float32 and float64, not in {x.dtype}"
    kind = x.device.type
    key = _DISPATCH_KEYS.get(kind)
    if key is None or not torch._C._dispatch_has_kernel_for_dispatch_key(f"nasp_ext::{operator}", key):
        return f"fused operators have no kernels for {kind}"
    if torch.is_autocast_enabled(kind):
        return "autocast chooses the dtype of each layer"
    if any(getattr(module_globals, name) for name in _GLOBAL_HOOKS):
        return "global module hooks watch each layer"
    return None


class Fusion:
    """The plan of one module, made when it is first asked for and again when its layers have changed.

    Copies and pickles of a module start without one.
    """

    def __init__(self) -> None:
        # Children of the owner, hooks so far, whether to try again, plan: replaced as one, for replicas of a
        # module in several threads share this object.
        self._state: tuple[object, int, bool, Any] = (None, -1, True, None)
        self.reason: str | None = None

    def __reduce__(self) -> tuple[type["Fusion"], tuple[()]]:
        return Fusion, ()

    def plan(
        self, owner: nn.Module, build: Callable[[], _P], active: Sequence[int] | None = None
    ) -> _P | None:
        """The plan, or None with ``reason`` saying why there is none.

        Args:
            owner: the module, which is not kept; build: makes the plan.
            active: the options that will run, if no other will be looked at.
        """
        # Every hook put anywhere draws a number; a replica of a module has a dict of its own.
        hooks = RemovableHandle.next_id
        children, seen, retry, plan = self._state
        fresh = children is owner._modules and seen == hooks and not retry
        if fresh and (plan is None or plan.is_current(active)):
            return plan  # type: ignore[no-any-return]
        plan, retry, why = None, False, None
        try:
            plan = build()
        except NotFusedError as reason:
            why, retry = str(reason), isinstance(reason, NotFusedNowError)
            _LOG.debug("%s runs plain modules: %s", type(owner).__name__, why)
        self.reason = why
        self._state = (owner._modules, hooks, retry, plan)
        return plan  # type: ignore[no-any-return]


def fusion_reasons(module: nn.Module) -> dict[str, str]:
    """Which parts of a network run plain modules because of what they are made of: name -> reason.

    Cells, MixedOps and the stem are asked; what depends on the call is told by ``why_not_fused``.

    >>> from nasp_ext.nn import MixedOp
    >>> fusion_reasons(MixedOp.from_modules([nn.Linear(4, 4), nn.Identity()]))
    {'': 'Linear: Linear is not among the fused layers'}
    """
    found = {}
    for name, part in module.named_modules():
        fusion, build = getattr(part, "_fusion", None), getattr(part, "_plan", None)
        if isinstance(fusion, Fusion) and build is not None and fusion.plan(part, build) is None:
            found[name] = str(fusion.reason)
    return found
