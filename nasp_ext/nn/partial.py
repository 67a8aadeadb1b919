# SPDX-License-Identifier: MIT
"""Partial channel connections: Xu et al., ICLR 2020 (PC-DARTS), sec. 3.2 and 3.3."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasp_ext.nn.dispatch.outputs import described
from nasp_ext.nn.mixed_op import MixedOp, _Unset
from nasp_ext.nn.primitives import DARTS_PRIMITIVES


def part_of(channels: int, partial_channels: int) -> int:
    """The C / k channels that go through the options.

    Raises:  ValueError: if k does not divide C.
    """
    if partial_channels < 1 or channels % partial_channels:
        raise ValueError(
            f"expected channels that partial_channels={partial_channels} divides, got {channels}: "
            "choose other channels or partial_channels"
        )
    return channels // partial_channels


def parted(x: Tensor, partial_channels: int, stride: int) -> tuple[Tensor, Tensor]:
    """The first C / k channels, and the others as they go past the options.

    At stride 2 these are max-pooled, 2×2, the last row and column of odd sizes included.

    Args:     x: (B, C, …).
    Returns:  (B, C / k, …), (B, C - C / k, …), the second smaller by the stride.
    Raises:   ValueError: if k does not divide C.
    """
    width = part_of(x.shape[1], partial_channels)
    past = x[:, width:]
    return x[:, :width], F.max_pool2d(past, 2, 2, ceil_mode=True) if stride == 2 else past


def shuffled(out: Tensor, past: Tensor, partial_channels: int) -> Tensor:
    """The channels of both in one tensor, the k groups of C / k interleaved (Zhang et al. 2018, ShuffleNet).

    So the next edge finds channels of all groups in its part.

    Args:    out: (B, C / k, …); past: (B, C - C / k, …).
    Raises:  ValueError: if their shapes do not fit each other.

    >>> shuffled(torch.tensor([[1, 2]]), torch.tensor([[3, 4, 5, 6]]), 3)
    tensor([[1, 3, 5, 2, 4, 6]])
    """
    groups = (out, *past.chunk(partial_channels - 1, 1))
    if any(group.shape != out.shape for group in groups):
        expected, found = tuple(groups[-1].shape), tuple(out.shape)
        raise ValueError(f"expected options that give {expected}, as the channels past them, got {found}")
    return torch.stack(groups, 2).flatten(1, 2)


class PartialMixedOp(MixedOp):
    """A MixedOp of the first C / k channels; the other channels pass it by, and all are shuffled.

    A row of gates w gives shuffle[Σ_k w_k O_k(x_part); (Σ_k w_k) x_rest]. With w = β softmax(α), β the
    edge's share of its node, that is the edge of PC-DARTS under edge normalisation, β · f(x); with a one-hot
    row the option beside the plain rest. The gradient of the row is exact in both, as in ``MixedOp``, which
    runs the part: fused where it can.

    Args:
        C: channels, a multiple of ``partial_channels``; stride, primitives and others: as for ``MixedOp``.
        partial_channels: k, at least 2.
    Raises:
        ValueError: as ``MixedOp`` raises, and if k is too small or does not divide C.

    >>> op = PartialMixedOp(8, 2, ("none", "skip_connect", "sep_conv_3x3"))
    >>> op(torch.ones(2, 8, 5, 5), torch.tensor([0.25, 0.5, 0.25])).shape
    torch.Size([2, 8, 3, 3])
    """

    def __init__(
        self,
        C: int,
        stride: int,
        primitives: Sequence[str] = DARTS_PRIMITIVES,
        *,
        partial_channels: int = 4,
        affine: bool = False,
        pool_norm: bool = True,
        update_unselected_stats: bool = True,
    ) -> None:
        super().__init__(
            part_of(C, partial_channels),
            stride,
            primitives,
            affine=affine,
            pool_norm=pool_norm,
            update_unselected_stats=update_unselected_stats,
        )
        self._set_part(partial_channels, stride)

    @classmethod
    def from_modules(  # type: ignore[override]  # its branches have no inputs of their own
        cls,
        modules: Sequence[nn.Module] | Mapping[str, nn.Module],
        *,
        partial_channels: int = 4,
        stride: int = 1,
        update_unselected_stats: bool = True,
        inputs: Literal["shared"] = "shared",
    ) -> "PartialMixedOp":
        """Of modules that take C / k channels of one shared input and give as many, smaller by ``stride``.

        >>> op = PartialMixedOp.from_modules([nn.Conv1d(2, 2, 1), nn.Identity()])
        >>> op(torch.ones(1, 8, 7), torch.tensor([0.5, 0.5])).shape
        torch.Size([1, 8, 7])
        """
        if inputs != "shared":
            raise ValueError(f'expected inputs="shared", a part of whose channels passes by, got {inputs!r}')
        mixed = super().from_modules(modules, update_unselected_stats=update_unselected_stats)
        assert isinstance(mixed, PartialMixedOp)
        mixed._set_part(partial_channels, stride)
        return mixed

    def _set_part(self, partial_channels: int, stride: int) -> None:
        if partial_channels < 2 or stride not in (1, 2):
            found = f"partial_channels={partial_channels}, stride={stride}"
            raise ValueError(f"expected partial_channels >= 2 and stride 1 or 2, got {found}")
        self.partial_channels, self.stride = partial_channels, stride

    def extra_repr(self) -> str:
        return f"1/{self.partial_channels} of the channels: {super().extra_repr()}"

    def _run(
        self,
        x: Any,
        weights: Tensor,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        active: int | _Unset | None,
        unit: bool,
    ) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"expected x to be a tensor (B, C, …), got {type(x).__name__}")
        part, past = parted(x, self.partial_channels, self.stride)
        out = super()._run(part, weights, args, kwargs, active, unit)
        if not isinstance(out, Tensor):
            raise TypeError(f"expected options that return one tensor (B, C / k, …), got {described(out)}")
        return shuffled(out, past * weights.sum(), self.partial_channels)
