# SPDX-License-Identifier: MIT
"""Loss and metrics of a network on a part of the data, without a graph."""

from __future__ import annotations

import torch
from torch import nn

from nasp_ext.arch.gates import Gates
from nasp_ext.engine.collectives import LOCAL, Collective
from nasp_ext.engine.measures import Means, Totals
from nasp_ext.engine.stream import Stream
from nasp_ext.tasks.base import DataPart, Task


@torch.no_grad()
def evaluate(
    network: nn.Module,
    task: Task,
    part: DataPart,
    gates: Gates | None = None,
    *,
    collective: Collective = LOCAL,
) -> Means:
    """The mean loss and metrics of a part in evaluation mode; one host copy in all.

    Args:
        network: put into evaluation mode for the call, and back.
        gates: the architecture of a supernet; None for a derived network.
    """
    training = network.training
    network.eval()
    totals, stream = Totals(task.metrics, collective), Stream(task, network)
    try:
        for batch in part.epoch():
            totals.add(stream.run(batch, gates))
            stream.advance()
    finally:
        network.train(training)
    return totals.means()
