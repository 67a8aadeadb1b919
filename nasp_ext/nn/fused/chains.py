# SPDX-License-Identifier: MIT
"""Fixed parts of a network that run on the fused operators: layers in a row."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasp_ext.nn.dispatch.branches import input_of
from nasp_ext.nn.fused.autograd import run_cell
from nasp_ext.nn.fused.lowering import NotFusedError, lower
from nasp_ext.nn.fused.plan import CellPlan
from nasp_ext.nn.fused.policy import Fusion, why_not_fused
from nasp_ext.nn.fused.watch import Watch
from nasp_ext.nn.primitives import Chain


class FusedChain(Chain):
    """Modules in a row, stored as ``op``; fused where they can be.

    >>> chain = FusedChain(nn.ReLU(), nn.Conv2d(2, 4, 1, bias=False), nn.BatchNorm2d(4))
    >>> chain(torch.zeros(3, 2, 5, 5)).shape
    torch.Size([3, 4, 5, 5])
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(*modules)
        self._fusion = Fusion()

    def forward(self, x: Tensor) -> Tensor:
        if why_not_fused(x) is None:
            plan = self._fusion.plan(self, self._plan)
            if plan is not None:
                return run_cell(plan, (x,), None, (0,))
        return cast(Tensor, self.op(input_of(self, x)))

    def _plan(self) -> CellPlan:
        watched = Watch(mappings=[self._modules])
        return CellPlan((None,), [(0, 0, [self.op], None, True)], 1, (1,), watched)


class Projection(FusedChain):
    """ReLU, 1×1 convolution, BN: from the loose ends to the channels of a node (Akimoto et al. 2019).

    It has weights for all nodes and takes those of the nodes that it is given, as the authors' code does.

    Args:
        nodes: how many there may be; channels: of each and of the output.

    >>> Projection(5, 4, affine=False)(torch.zeros(2, 8, 6, 6), (1, 4)).shape
    torch.Size([2, 4, 6, 6])
    """

    def __init__(self, nodes: int, channels: int, affine: bool) -> None:
        conv = nn.Conv2d(nodes * channels, channels, 1, bias=False)
        super().__init__(nn.ReLU(), conv, nn.BatchNorm2d(channels, affine=affine))
        self.nodes = tuple(range(nodes))
        self._parts: dict[tuple[int, ...], Fusion] = {}

    def forward(self, x: Tensor, nodes: tuple[int, ...] | None = None) -> Tensor:
        """(B, len(nodes) · C, H, W) -> (B, C, H, W); nodes: which ones ``x`` holds, None = all."""
        if nodes is None or nodes == self.nodes:
            return super().forward(x)
        if why_not_fused(x) is None:
            fusion = self._parts.setdefault(nodes, Fusion())
            plan = fusion.plan(self, partial(self._part_plan, nodes))
            if plan is not None:
                return run_cell(plan, (x,), None, (0,))
        relu, *rest = self.op
        x = relu(input_of(relu, x))
        if not self._is_changed():
            return cast(Tensor, rest[1](F.conv2d(x, self.weight_of(nodes))))
        # Other layers run as they are, with zeros for the nodes that are not given.
        parts = dict(zip(nodes, x.chunk(len(nodes), 1), strict=True))
        zeros = torch.zeros_like(parts[nodes[0]])
        x = torch.cat([parts.get(node, zeros) for node in self.nodes], 1)
        for layer in rest:
            x = layer(x)
        return x

    def _is_changed(self) -> bool:
        """Whether the layers are others than those of ``__init__``."""
        try:
            lower(self.op)
        except NotFusedError:
            return True
        if [type(layer) for layer in self.op] != [nn.ReLU, nn.Conv2d, nn.BatchNorm2d]:
            return True
        conv = cast(nn.Conv2d, self.op[1])
        around = (conv.kernel_size, conv.stride, conv.padding, conv.groups)
        return around != ((1, 1), (1, 1), (0, 0), 1)

    def weight_of(self, nodes: tuple[int, ...]) -> Tensor:
        """The weight of the convolution from these nodes alone, (C, len(nodes) · C, 1, 1)."""
        weight = cast(Tensor, self.op[1].weight)
        return _of_nodes(weight, nodes)

    def _part_plan(self, nodes: tuple[int, ...]) -> CellPlan:
        if self._is_changed():
            self._plan()  # it says why this is not fused, if that is the reason
            raise NotFusedError("its layers are others than a ReLU, a 1x1 convolution and a BatchNorm")
        relu, conv, norm = self.op
        assert isinstance(conv, nn.Conv2d)
        channels = conv.in_channels // len(self.nodes)
        part = nn.Conv2d(len(nodes) * channels, conv.out_channels, 1, bias=False, device="meta")
        vars(part)["_parameters"] = _PartOfWeight(conv._parameters, nodes)
        watched = Watch([self.op], [self._modules])
        return CellPlan((None,), [(0, 0, [nn.Sequential(relu, part, norm)], None, True)], 1, (1,), watched)


class _PartOfWeight(Mapping[str, Tensor | None]):
    """The parameters of a convolution from some nodes: views of those from all, as they are at each look."""

    def __init__(self, whole: Mapping[str, Tensor | None], nodes: tuple[int, ...]) -> None:
        self._whole, self._nodes = whole, nodes

    def __getitem__(self, name: str) -> Tensor | None:
        found = self._whole[name]
        return found if found is None or name != "weight" else _of_nodes(found, self._nodes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole)

    def __len__(self) -> int:
        return len(self._whole)


def _of_nodes(weight: Tensor, nodes: tuple[int, ...]) -> Tensor:
    channels = weight.shape[0]
    return torch.cat([weight[:, node * channels : (node + 1) * channels] for node in nodes], 1)
