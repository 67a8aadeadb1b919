# SPDX-License-Identifier: MIT
"""The block that halves the resolution where a space has no reduction cells."""

from collections.abc import Sequence

from torch import Tensor, nn

from nasp_ext.arch.gates import Choice
from nasp_ext.families.cells.layout import NetworkCell
from nasp_ext.nn.fused.chains import FusedChain
from nasp_ext.nn.primitives import relu_conv_bn


class ResidualBlock(NetworkCell):
    """Two 3×3 convolutions, the first of stride 2, beside an average pool with a 1×1 convolution.

    Between the stages of NAS-Bench-201 (Dong & Yang 2020, section 2.1). It is called as a cell is and reads
    the newer input alone. At odd sizes the last window of the pool averages the pixels that are there.

    >>> import torch
    >>> ResidualBlock(4, 8)(torch.zeros(2, 4, 7, 8), torch.zeros(2, 4, 7, 8)).shape
    torch.Size([2, 8, 4, 4])
    """

    reduction = True

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.body = FusedChain(
            relu_conv_bn(channels_in, channels, 3, 2, True), relu_conv_bn(channels, channels, 3, 1, True)
        )
        pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
        self.shortcut = nn.Sequential(pool, nn.Conv2d(channels_in, channels, 1, bias=False))

    def forward(
        self,
        s0: Tensor,
        s1: Tensor,
        choices: Sequence[Choice] | None = None,
        drop_path_prob: float = 0.0,
        gates: Tensor | None = None,
    ) -> Tensor:
        """(B, C, H, W) ``s1`` -> (B, channels, H / 2, W / 2)."""
        out: Tensor = self.body(s1) + self.shortcut(s1)
        return out
