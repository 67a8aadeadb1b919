# SPDX-License-Identifier: MIT
"""How the candidate modules of an edge run: arguments stay as they are, mode and tensors may be given."""

import copy
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map_only

from nasp_ext.nn.dispatch.inputs import Call
from nasp_ext.nn.primitives import Chain

AutocastState = tuple[str, torch.dtype, bool] | None  # device type, dtype, enabled

_MAY_GIVE_THEIR_INPUT = (nn.Identity, nn.Flatten, nn.Unflatten, nn.modules.dropout._DropoutNd)
_SETTINGS = (int, float, str, tuple)
_FLAGS = threading.RLock()  # held while the flags of a module are not its own: threads may share it


class Label(NamedTuple):
    """What errors call a branch; made a text by them alone."""

    number: int
    names: tuple[str, ...]  # of all branches

    def __str__(self) -> str:
        return f"{self.number} of {', '.join(self.names)}"


def run_branch(
    module: nn.Module,
    call: Call,
    tensors: Sequence[Tensor],
    label: Label,
    held: Mapping[str, Tensor] | None = None,
) -> Any:
    """O(x, …); a module that begins with an operation in place gets copies of its tensors.

    Args:
        call: its arguments; tensors: all that branches read.
        held: in the place of its parameters and buffers, by name.
    Raises:  RuntimeError: the module wrote to a tensor and has no ``inplace`` flag that tells.
    """
    if _begins_in_place(module):
        args, kwargs = tree_map_only(Tensor, torch.clone, call)
        return _run(module, args, kwargs, held)
    args, kwargs = call
    versions = [None if t.is_inference() else t._version for t in tensors]
    output = _run(module, args, kwargs, held)
    for t, version in zip(tensors, versions, strict=True):
        if version is not None and t._version != version:
            raise RuntimeError(
                f"expected branch {label} ({type(module).__name__}) to leave its input as it is, for the "
                "other branches read it too, found it changed in place: let it work on a copy (x.clone())"
            )
    return output


def _run(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], held: Mapping[str, Tensor] | None
) -> Any:
    if held is None:
        return module(*args, **kwargs)
    with _FLAGS:
        return functional_call(module, dict(held), args, kwargs)


def input_of(module: nn.Module, x: Tensor) -> Tensor:
    """x for a module beside which others read it too: a copy if the module begins in place."""
    return x.clone() if _begins_in_place(module) else x


def _begins_in_place(module: nn.Module) -> bool:
    """Whether the first layer that computes may write to the input of the module."""
    if type(module) is Chain:
        return _begins_in_place(module.op)
    if type(module) is nn.Sequential:
        for layer in module:
            if not isinstance(layer, _MAY_GIVE_THEIR_INPUT) or getattr(layer, "inplace", False):
                return _begins_in_place(layer)
        return False
    return any(getattr(part, "inplace", False) is True for part in module.modules())


def autocast_state(device: str) -> AutocastState:
    if not torch.amp.is_autocast_available(device):
        return None
    return device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)


@contextmanager
def autocast_as(state: AutocastState) -> Iterator[None]:
    """The given state of autocast."""
    if state is None:
        yield
        return
    # Without its cache, which would keep the cast weights of every branch to the end of the region.
    with torch.autocast(*state, cache_enabled=False):
        yield


class State(NamedTuple):
    """What a branch is when the forward runs; it may change before backward."""

    tensors: dict[str, Tensor]  # parameters and buffers: ``functional_call`` puts others into the modules
    buffers: set[str]  # their names
    parts: list[nn.Module]
    training: list[bool]  # of each part: layers may be at rest in a branch that trains

    @classmethod
    def of(cls, module: nn.Module) -> "State":
        tensors: dict[Tensor, str] = {}  # each under its first name
        parts, buffers = [], set()
        for prefix, part in module.named_modules():
            parts.append(part)
            dot = "." if prefix else ""
            for own in (part._parameters, part._buffers):
                for key, tensor in own.items():
                    if tensor is not None and tensor not in tensors:
                        tensors[tensor] = name = f"{prefix}{dot}{key}"
                        if own is part._buffers:
                            buffers.add(name)
        named = {name: tensor for tensor, name in tensors.items()}
        return cls(named, buffers, parts, [part.training for part in parts])

    def run(
        self,
        module: nn.Module,
        call: Call,
        tensors: Sequence[Tensor],
        label: Label,
        held: Mapping[str, Tensor] | None = None,
        frozen: bool = False,
    ) -> Any:
        """``run_branch`` in this state.

        Args:
            held: instead of its parameters and buffers.
            frozen: leave the buffers (running statistics) as they are.
        """
        if held is None and frozen and any(isinstance(part, torch.jit.ScriptModule) for part in self.parts):
            with modes_as(self.parts, self.training):
                alike = copy.deepcopy(module)  # one from torch.jit.script takes no other tensors
            return run_branch(alike, call, tensors, label)
        held = self.tensors if held is None else held
        if frozen and self.buffers:
            held = {name: t.clone() if name in self.buffers else t for name, t in held.items()}
        own = State.of(module).tensors
        same = list(own) == list(held) and all(map(is_, own.values(), held.values()))
        with modes_as(self.parts, self.training):
            return run_branch(module, call, tensors, label, None if same else held)


@contextmanager
def modes_as(parts: Sequence[nn.Module], training: Sequence[bool]) -> Iterator[None]:
    """Run modules with these training flags, one for each; their own are put back."""
    own = [part.training for part in parts]
    if own == training:
        yield
        return
    with _FLAGS:
        own = [part.training for part in parts]
        _set_modes(parts, training)
        try:
            yield
        finally:
            _set_modes(parts, own)


def _set_modes(parts: Sequence[nn.Module], training: Sequence[bool]) -> None:
    for part, flag in zip(parts, training, strict=True):
        part.training = flag


def settings_of(module: nn.Module) -> Hashable:
    """What the shape and the dtype of an output hang on: classes, numbers and names, kinds of tensors."""
    return tuple(
        (
            type(part),
            *((name, repr(value)) for name, value in vars(part).items() if isinstance(value, _SETTINGS)),
            *((name, t.shape, t.dtype) for name, t in part._parameters.items() if t is not None),
        )
        for part in module.modules()
    )


def output_like(module: nn.Module, call: Call, tensors: Sequence[Tensor], device: str, label: Label) -> Any:
    """An output for its structure alone: no graph, no number drawn by dropout, statistics as they are."""
    with torch.no_grad(), autocast_as(autocast_state(device)):
        try:
            # The flags of the module itself belong to all threads that run it.
            return run_branch(copy.deepcopy(module).eval(), call, tensors, label)
        except RuntimeError as error:
            if "deepcopy protocol" not in str(error):  # replicas hold tensors that have a graph
                raise
        state = State.of(module)
        at_rest = state._replace(training=[False for _ in state.parts])
        return at_rest.run(module, call, tensors, label, frozen=True)
