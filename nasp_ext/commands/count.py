# SPDX-License-Identifier: MIT
"""``nasp-ext count``: what a derived network costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.checks import MOST_CELLS, MOST_CHANNELS, MOST_CLASSES, MOST_PIXELS, check_range, shown
from nasp_ext.commands.command import Command
from nasp_ext.engine import read_genotype
from nasp_ext.families.cells.network import Network
from nasp_ext.families.networks import derived_network, of_images
from nasp_ext.nn import LayerCost, layer_costs, total_cost


@dataclass(frozen=True)
class Count:
    """List the parameters and multiply-adds of a derived network."""

    genotype: str = "runs/search"
    """A file (JSON, Python code, a log; FILE:NAME and FILE:LINE choose one of several), the folder of a run,
    a published name, or the text of a genotype: Genotype(normal=[…], …) or |op~0|+|op~0|op~1|…"""
    cells: int | None = None
    """Cells of the network, with the two that reduce, at 1/3 and 2/3 of the depth; None = as many as the
    genotype has layers, 20 if its layers share cells."""
    channels: int = 36
    """Channels of the first cells."""
    classes: int = 10
    """Classes of the data."""
    in_channels: int = 3
    """Channels of an image."""
    size: int = 32
    """Height and width of an image."""
    layers: bool = False
    """List every layer, not only stem, cells and classifier."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"expected size >= 1, got {shown(self.size)}")
        for name, most in (
            ("size", MOST_PIXELS),
            ("cells", MOST_CELLS),
            ("channels", MOST_CHANNELS),
            ("classes", MOST_CLASSES),
            ("in_channels", MOST_CHANNELS),
        ):
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name), 1, most)


def _work(options: Count) -> None:
    genotype = read_genotype(options.genotype)
    if not of_images(genotype):
        raise ValueError(
            f"expected the genotype of a network of images to count, got one of kind {genotype.kind!r}: "
            "nasp-ext retrain prints the parameters of its network"
        )
    with torch.device("meta"):
        network = derived_network(
            genotype,
            options.channels,
            _cells(genotype) if options.cells is None else options.cells,
            options.classes,
            in_channels=options.in_channels,
        )
    costs = layer_costs(network, options.size)
    rows = [(f"{c.name} {c.kind} {'x'.join(map(str, c.shape))}", total_cost([c])) for c in costs]
    if not options.layers:
        parts = [(part, total_cost(group)) for part, group in groupby(costs, partial(_part, network))]
        rows = [(part, cost) for part, cost in parts if any(cost)]
    rows.append(("total", total_cost(costs)))
    width = max(len(name) for name, _ in rows)
    print(f"{'':<{width}}  {'parameters':>12}  {'multiply-adds':>15}")
    for name, (parameters, multiply_adds) in rows:
        print(f"{name:<{width}}  {parameters:>12,}  {multiply_adds:>15,}")


def _cells(genotype: AnyGenotype) -> int:
    """How many cells the network has if nobody says."""
    return 20 if genotype.depth is None else genotype.depth


def _part(network: Network, cost: LayerCost) -> str:
    """The part of the network that a layer is of: stem, cells.0 …, classifier."""
    first, *rest = cost.name.split(".")
    if first != "cells":
        return first
    return f"cells.{rest[0]} {type(network.cells[int(rest[0])]).__name__}"


COMMAND = Command("count", Count, _work)
