# SPDX-License-Identifier: MIT
"""Candidate operations of the cell spaces: name -> builder(C, stride, affine).

No convolution has a bias; a BatchNorm follows each. At stride s every primitive maps (B, C, H, W) to
(B, C, ceil(H / s), ceil(W / s)): cells rely on it. Attribute names fit the checkpoints of DARTS code; where
it and NASP's hold the layers of a primitive in a plain ``nn.Sequential``, ``Chain`` takes those names too.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasp_ext.arch.primitive_names import DARTS_PRIMITIVES as DARTS_PRIMITIVES
from nasp_ext.arch.primitive_names import primitive_name
from nasp_ext.nn.foreign import SequentialNames

Builder = Callable[[int, int, bool], nn.Module]


class Zero(nn.Module):
    """The primitive `none`: zeros of the shape the other primitives give. It never needs to run."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return zeros_after_stride(x, self.stride)


def is_none(module: nn.Module | None) -> bool:
    """Whether a module is the primitive `none` as it is; a subclass, or one with a forward of its own, gives
    whatever it likes."""
    return type(module) is Zero and "forward" not in vars(module)


def zeros_after_stride(x: Tensor, stride: int) -> Tensor:
    batch, channels, height, width = x.shape
    return x.new_zeros(batch, channels, -(-height // stride), -(-width // stride))


class FactorizedReduce(nn.Module):
    """Halve the resolution without dropping pixels: ReLU, two 1×1 stride-2 convolutions, one on the input
    shifted by a pixel, concatenated, BN. At odd sizes the shifted input is padded with zeros.

    Raises:  ValueError: if the output channels are odd.
    >>> FactorizedReduce(4, 6)(torch.zeros(2, 4, 5, 8)).shape
    torch.Size([2, 6, 3, 4])
    """

    def __init__(self, channels_in: int, channels_out: int, affine: bool = True) -> None:
        super().__init__()
        if channels_out % 2:
            raise ValueError(
                f"expected an even number of channels at stride 2 (reduction), got {channels_out}"
            )
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(channels_in, channels_out // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(channels_in, channels_out // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(channels_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        height, width = x.shape[-2:]
        shifted = F.pad(x, (0, width % 2, 0, height % 2))[:, :, 1:, 1:]
        out: Tensor = self.bn(torch.cat((self.conv_1(x), self.conv_2(shifted)), 1))
        return out


class Chain(SequentialNames):
    """Modules in a row, stored as ``op``."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.op = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.op(x)
        return out


def relu_conv_bn(channels_in: int, channels_out: int, kernel: int, stride: int, affine: bool) -> Chain:
    """ReLU, full convolution, BN: conv_1x1, conv_3x3 and the preprocessing of cell inputs."""
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False)
    return Chain(nn.ReLU(), conv, nn.BatchNorm2d(channels_out, affine=affine))


def _separable(channels: int, kernel: int, stride: int, dilation: int, affine: bool) -> list[nn.Module]:
    """ReLU, k×k depthwise, 1×1, BN."""
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    ]


def _sep_conv(kernel: int) -> Builder:
    def build(channels: int, stride: int, affine: bool) -> nn.Module:
        first = _separable(channels, kernel, stride, 1, affine)
        return Chain(*first, *_separable(channels, kernel, 1, 1, affine))

    return build


def _dil_conv(kernel: int) -> Builder:
    return lambda channels, stride, affine: Chain(*_separable(channels, kernel, stride, 2, affine))


def _conv(kernel: int) -> Builder:
    return lambda channels, stride, affine: relu_conv_bn(channels, channels, kernel, stride, affine)


def _row_and_column(kernel: int) -> Builder:
    """ReLU, 1×k, k×1, BN."""
    half = kernel // 2

    def build(channels: int, stride: int, affine: bool) -> nn.Module:
        return Chain(
            nn.ReLU(),
            nn.Conv2d(channels, channels, (1, kernel), (1, stride), (0, half), bias=False),
            nn.Conv2d(channels, channels, (kernel, 1), (stride, 1), (half, 0), bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )

    return build


def _max_pool(kernel: int) -> Builder:
    return lambda channels, stride, affine: nn.MaxPool2d(kernel, stride, kernel // 2)


def _avg_pool(kernel: int) -> Builder:
    return lambda channels, stride, affine: nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)


def _skip(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


PRIMITIVES: dict[str, Builder] = {
    "none": lambda channels, stride, affine: Zero(stride),
    "skip_connect": _skip,
    **{f"max_pool_{k}x{k}": _max_pool(k) for k in (3, 5, 7)},
    **{f"avg_pool_{k}x{k}": _avg_pool(k) for k in (3, 5, 7)},
    **{f"sep_conv_{k}x{k}": _sep_conv(k) for k in (3, 5, 7)},
    **{f"dil_conv_{k}x{k}": _dil_conv(k) for k in (3, 5)},
    **{f"{name}_{k}x{k}": _conv(k) for name in ("conv", "nor_conv") for k in (1, 3)},
    **{f"conv_{k}x1_1x{k}": _row_and_column(k) for k in (3, 7)},
}


def register_primitive(name: str, builder: Builder) -> None:
    """Add a primitive of one's own: ``builder(C, stride, affine)`` gives its module.

    Raises:  ValueError: if the name is taken, be it as another name of a primitive (``primitive_name``).
    """
    if primitive_name(name) in PRIMITIVES:
        raise ValueError(f"expected a new name for a primitive, got {name!r}, which is taken")
    PRIMITIVES[name] = builder


def build_primitive(
    name: str, channels: int, stride: int, *, affine: bool = False, pool_norm: bool = False
) -> nn.Module:
    """The module of a primitive.

    Args:
        name: ours, or that of the NASP authors' code, as "sep_3x3";
        affine: BatchNorms learn a scale and a shift (retraining); pool_norm: pools are followed by a
            BN(affine=False), as in the mixture of a search.
    Raises:
        ValueError: for an unknown name, a stride other than 1 and 2, or channels that do not allow it.

    >>> build_primitive("avg_pool_3x3", 4, 2)(torch.ones(1, 4, 5, 5)).shape
    torch.Size([1, 4, 3, 3])
    """
    name = primitive_name(name)
    if name not in PRIMITIVES:
        raise ValueError(
            f"expected a primitive of {sorted(PRIMITIVES)}, got {name!r}: register_primitive adds one"
        )
    if channels < 1 or stride not in (1, 2):
        raise ValueError(
            f"expected channels >= 1 and stride 1 or 2, got channels={channels}, stride={stride}"
        )
    module = PRIMITIVES[name](channels, stride, affine)
    if pool_norm and isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        return nn.Sequential(module, nn.BatchNorm2d(channels, affine=False))
    return module
