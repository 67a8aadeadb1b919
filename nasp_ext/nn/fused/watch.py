# SPDX-License-Identifier: MIT
"""Whether modules are still what a plan was read from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, repeat
from operator import getitem, is_, itemgetter
from typing import Any

import torch.nn.functional as F
from torch import nn

from nasp_ext.nn.primitives import Chain, FactorizedReduce, Zero

Watched = Mapping[str, object]  # children of a module, or settings

_FORWARD = "forward"
_GEOMETRY: dict[type, Any] = {
    nn.Conv2d: itemgetter("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"),
    nn.MaxPool2d: itemgetter("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"),
    nn.AvgPool2d: itemgetter(
        "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"
    ),
    nn.BatchNorm2d: itemgetter("affine"),
}
_CLASSES: tuple[Any, ...] = (*_GEOMETRY, nn.ReLU, nn.Identity, nn.Sequential, Chain, FactorizedReduce, Zero)
# What the layers run, each with who holds it: PyTorch's own code, wherever somebody may put another in.
_HOLDERS: tuple[Any, ...] = (*_CLASSES, nn.Conv2d, nn.Module, F, F, F, F, F)
_NAMES = (
    *(_FORWARD for _ in _CLASSES),
    *("_conv_forward", "__call__", "conv2d", "batch_norm", "relu", "max_pool2d", "avg_pool2d"),
)
_CODE = list(map(getattr, _HOLDERS, _NAMES))


def classes_are_their_own() -> bool:
    """Whether nobody gave the classes of the layers, or the functions they call, other code."""
    return list(map(getattr, _HOLDERS, _NAMES)) == _CODE


class Watch:
    """A copy of what the fused operators rely on: classes, children, geometry, which tensors exist.

    Comparing it is maps all along, no Python for each layer: most of its time goes into fetching their dicts.

    Args:    modules: with all their parts; mappings: children of other modules, settings; alone: modules
        without their parts.
    """

    def __init__(
        self,
        modules: Iterable[nn.Module] = (),
        mappings: Iterable[Watched] = (),
        alone: Iterable[nn.Module] = (),
    ) -> None:
        self._parts = [part for module in modules for part in module.modules()]
        self._mappings: list[Watched] = [part._modules for part in self._parts if part._modules]
        self._mappings += mappings
        self._entries = [dict(mapping) for mapping in self._mappings]
        layers = [part for part in self._parts if type(part) in _GEOMETRY]
        self._layers = {kind: [vars(part) for part in layers if type(part) is kind] for kind in _GEOMETRY}
        self._geometry = {kind: list(map(_GEOMETRY[kind], held)) for kind, held in self._layers.items()}
        self._parts += alone
        self._classes: list[type] = list(map(type, self._parts))
        self._held: list[dict[str, Any]] = list(map(vars, self._parts))
        # A forward of its own, or another method, is one entry more.
        self._sizes = list(map(len, self._held))
        tensors = [
            (held, name) for part in layers for held in (part._parameters, part._buffers) for name in held
        ]
        self._tensors, self._names = [held for held, _ in tensors], [name for _, name in tensors]
        self._absent = [held[name] is None for held, name in tensors]

    @staticmethod
    def of_all(parts: Iterable[Watch]) -> Watch:
        """All parts as one."""
        whole, parts = Watch(), list(parts)
        for name, value in vars(whole).items():
            values = [getattr(part, name) for part in parts]
            if isinstance(value, dict):
                for kind, items in value.items():
                    items.extend(chain.from_iterable([of_kind[kind] for of_kind in values]))
            else:
                value.extend(chain.from_iterable(values))
        return whole

    def holds(self) -> bool:
        """Whether everything is as it was."""
        try:
            return (
                list(map(type, self._parts)) == self._classes
                and list(map(len, self._held)) == self._sizes
                and all(
                    list(map(read, self._layers[kind])) == self._geometry[kind]
                    for kind, read in _GEOMETRY.items()
                )
                and self._mappings == self._entries
                and list(map(is_, map(getitem, self._tensors, self._names), repeat(None))) == self._absent
            )
        except KeyError:  # an attribute or a tensor that is gone
            return False
