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
        parts = [part for module in modules for part in module.modules()]
        layers = [part for part in parts if type(part) in _GEOMETRY]
        watched = [part._modules for part in parts if part._modules] + list(mappings)
        parts += alone
        held = list(map(vars, parts))
        tensors = [
            (of_layer, name)
            for part in layers
            for of_layer in (part._parameters, part._buffers)
            for name in of_layer
        ]
        of_kind = [[vars(part) for part in layers if type(part) is kind] for kind in _GEOMETRY]
        # Pairs of what is looked at and what was found there.
        self._columns: list[list[Any]] = [
            *(parts, list(map(type, parts))),
            *(held, list(map(len, held))),  # a forward of its own, or another method, is one entry more
            *(watched, [dict(mapping) for mapping in watched]),
            *([of_layer for of_layer, _ in tensors], [name for _, name in tensors]),
            [of_layer[name] is None for of_layer, name in tensors],
            *of_kind,
            *(list(map(read, of_one)) for read, of_one in zip(_GEOMETRY.values(), of_kind, strict=True)),
        ]

    @staticmethod
    def of_all(parts: Iterable[Watch]) -> Watch:
        """All parts as one."""
        whole = Watch()
        columns = zip(*(part._columns for part in parts), strict=True)
        whole._columns = [list(chain.from_iterable(column)) for column in columns]
        return whole

    def holds(self) -> bool:
        """Whether everything is as it was."""
        parts, classes, held, sizes, watched, entries, layers, names, absent, *geometry = self._columns
        kinds = len(_GEOMETRY)
        try:
            return (
                list(map(type, parts)) == classes
                and list(map(len, held)) == sizes
                and all(
                    list(map(read, found)) == expected
                    for read, found, expected in zip(
                        _GEOMETRY.values(), geometry[:kinds], geometry[kinds:], strict=True
                    )
                )
                and watched == entries
                and list(map(is_, map(getitem, layers, names), repeat(None))) == absent
            )
        except KeyError:  # an attribute or a tensor that is gone
            return False
