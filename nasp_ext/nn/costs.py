# SPDX-License-Identifier: MIT
"""What a network costs, counted layer by layer from the modules that run."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerCost:
    """One run of one layer on one image.

    Args:
        name: in the network; kind: of the module; shape: of the output, without the batch.
        parameters: of the module, 0 where it has been listed before.
        multiply_adds: of convolutions and linear layers, padding included; other layers count 0.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def layer_costs(network: Any, height: int, width: int | None = None) -> list[LayerCost]:
    """Every layer of a derived network in the order in which an evaluation runs it.

    An auxiliary head, which runs in training alone, is not among them. Nothing is computed: tensors on the
    meta device have shapes only.

    Args:
        network: of a genotype, called with images (B, sizes.in_channels, H, W).
        height, width: of an image; a square one without width.
    Raises:  ValueError: for a supernet, whose cost depends on the architecture: derive it first.

    >>> from nasp_ext.families.cells.genotype import Genotype
    >>> from nasp_ext.families.networks import derived_network
    >>> cell = Genotype.from_arch("|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|")
    >>> total_cost(layer_costs(derived_network(cell, channels=16, cells=17), 32))
    (559386, 78561920)
    """
    if network.space is not None:
        raise ValueError("expected a derived network to count, got a supernet: derive(supernet, gates) first")
    twin = copy.deepcopy(network).to("meta").eval()
    found: list[LayerCost] = []
    seen: set[nn.Module] = set()

    def record(name: str, module: nn.Module, out: Tensor) -> None:
        parameters = 0 if module in seen else sum(p.numel() for p in module.parameters())
        seen.add(module)
        shape = tuple(out.shape[1:])
        found.append(LayerCost(name, type(module).__name__, shape, parameters, _multiply_adds(module, out)))

    for name, module in twin.named_modules():
        if not any(module.children()):
            module.register_forward_hook(_hook(name, record))
    size = (1, network.sizes.in_channels, height, height if width is None else width)
    with torch.no_grad():
        twin(torch.empty(size, device="meta", dtype=next(twin.parameters()).dtype))
    return found


def total_cost(costs: Iterable[LayerCost]) -> tuple[int, int]:
    """(parameters, multiply-adds)."""
    listed = list(costs)
    return sum(cost.parameters for cost in listed), sum(cost.multiply_adds for cost in listed)


def _hook(name: str, record: Any) -> Any:
    return lambda module, _, out: record(name, module, out)


def _multiply_adds(module: nn.Module, out: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        return out.numel() * module.weight[0].numel()
    return out.numel() * module.in_features if isinstance(module, nn.Linear) else 0
