# SPDX-License-Identifier: MIT
"""What a network attends to: means over examples, and their drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nasp_ext.arch.gates import MIXED, Gates
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.engine.stream import Stream
from nasp_ext.nn import recorded_attention
from nasp_ext.plots import Heatmap, heatmaps_svg
from nasp_ext.tasks.base import DataPart, Task


@torch.no_grad()
def mean_attention(network: Any, gates: Gates, task: Task, part: DataPart) -> Tensor:
    """The attention of each mixed edge, its mean over the examples (Hao & Zhu 2021, Alg. 1, lines 8 and 9).

    Args:
        network: a supernet with attention; put into evaluation mode for the call, and back.
        gates: rows that are not mixed are run as they are, and have zeros in the result.
    Returns: (R, K) float64.
    Raises:  TypeError: the network has no cells whose edges could be mixed by attention.
    """
    if not hasattr(network, "cell_list"):
        found = type(network).__name__
        raise TypeError(f"expected a network whose edges are mixed by attention, got {found}")
    rows, options = gates.weight.shape
    active = (MIXED,) * rows if gates.active is None else gates.active
    edges = (edge for cell in network.cell_list() for edge in cell.mixed_edges() if active[edge[0]] == MIXED)
    training = network.training
    network.eval()
    stream = Stream(task, network)
    with recorded_attention(edges) as means:
        for batch in part.epoch():
            stream.run(batch, gates)
            stream.advance()
    network.train(training)
    return means.matrix(rows, options)


def attention_svg(space: SearchSpace, attention: Sequence[Sequence[float]], active: Sequence[int]) -> str:
    """Heat-maps of the attention, one per layer, the selected options marked (Hao & Zhu 2021, fig. 4).

    Args:    attention: (R, K); active: the option of each row, negative for none.
    """
    maps = []
    for layer, rows in enumerate(space.cell_rows, 1):
        names = space.choices(rows[0])
        maps.append(
            Heatmap(
                f"cell {layer:02d}" + (" (reduction)" if space.is_reduction(rows[0]) else ""),
                [row[: len(names)] for row in attention[rows.start : rows.stop]],
                [space.edge_name(row) for row in rows],
                names,
                [option if option >= 0 else None for option in active[rows.start : rows.stop]],
            )
        )
    return heatmaps_svg(maps, "Mean attention of each edge")
