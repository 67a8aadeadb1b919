# SPDX-License-Identifier: MIT
"""Classifiers beside the one at the end of a network."""

import torch.nn.functional as F
from torch import Tensor, nn

from nasp_ext.nn.dispatch.branches import input_of


class AuxiliaryHead(nn.Module):
    """The auxiliary classifier of DARTS for CIFAR: maps of 8×8 are averaged in 5×5 windows to 2×2.

    Other sizes are averaged to 2×2 by adaptive windows.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.ReLU(),
            _PoolTo2x2(),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(input_of(self.features, x)).flatten(1))
        return logits


class _PoolTo2x2(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 5, 3) if x.shape[-2:] == (8, 8) else F.adaptive_avg_pool2d(x, 2)
