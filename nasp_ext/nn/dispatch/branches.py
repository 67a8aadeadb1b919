# SPDX-License-Identifier: MIT
"""How the candidate modules of an edge run: arguments stay as they are, mode and tensors may be given."""

import copy
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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


def run_branch(module: nn.Module, call: Call, tensors: Sequence[Tensor], label: Label) -> Any:
    """O(x, …); a module that begins with an operation in place gets copies of its tensors.

    Args:    call: its arguments; tensors: all that branches read.
    Raises:  RuntimeError: the module wrote to a tensor and has no ``inplace`` flag that tells.
    """
    args, kwargs = call
    if _begins_in_place(module):
        args, kwargs = tree_map_only(Tensor, torch.clone, call)
        return module(*args, **kwargs)
    versions = [None if t.is_inference() else t._version for t in tensors]
    output = module(*args, **kwargs)
    for t, version in zip(tensors, versions, strict=True):
        if version is not None and t._version != version:
            raise RuntimeError(
                f"expected branch {label} ({type(module).__name__}) to leave its input as it is, for the "
                "other branches read it too, found it changed in place: let it work on a copy (x.clone())"
            )
    return output


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


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, as they are now: ``functional_call`` puts others into the modules."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def run_with(
    module: nn.Module, held: Mapping[str, Tensor], call: Call, tensors: Sequence[Tensor], label: Label
) -> Any:
    """``run_branch`` with these parameters and buffers in the place of its own."""
    own = tensors_of(module)
    if own.keys() == held.keys() and all(own[key] is held[key] for key in own):
        return run_branch(module, call, tensors, label)
    args, kwargs = tree_map_only(Tensor, torch.clone, call) if _begins_in_place(module) else call
    with _FLAGS:
        return functional_call(module, dict(held), args, kwargs)


@contextmanager
def training_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Run ``module`` in a mode; the flags of all its parts are put back, frozen parts included."""
    if module.training == training:
        yield
        return
    with _FLAGS:
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
    if not frozen:
        yield
        return
    with _FLAGS:
        norms = [
            part
            for part in module.modules()
            if isinstance(part, nn.modules.batchnorm._NormBase) and part.track_running_stats
        ]
        try:
            for norm in norms:
                norm.track_running_stats = False
            yield
        finally:
            for norm in norms:
                norm.track_running_stats = True


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
        with training_mode(module, False), frozen_statistics(module, True):
            return run_branch(module, call, tensors, label)
