# SPDX-License-Identifier: MIT
"""Loss and accuracy of a network on batches, without a graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nasp_ext.engine.training import Totals
from nasp_ext.tasks.base import DataPart
from nasp_ext.tasks.images.task import ClassificationTask


@torch.no_grad()
def evaluate(
    network: nn.Module, forward: Callable[[Tensor], Tensor], task: ClassificationTask, batches: DataPart
) -> tuple[float, float]:
    """Mean loss and accuracy in evaluation mode; one host copy in all.

    Args:
        network: put into evaluation mode for the call, and back.
        forward: images (B, C, H, W) to logits (B, classes), through ``network``.
    """
    training = network.training
    network.eval()
    totals: Totals | None = None
    for x, y in batches.epoch():
        if totals is None:
            totals = Totals(x.device)
        logits = forward(x)
        totals.add(task.loss(logits, y), task.correct(logits, y), len(y))
    network.train(training)
    assert totals is not None  # Batches holds at least one image
    return totals.means()
