# SPDX-License-Identifier: MIT
"""Every primitive on the CUDA side at the widths of networks: all launches fit, all gradients are right.

Whether a launch fits depends on the channels, the dtype and the kernel size alone, so the images are tiny.
"""

import ctypes
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nasp_ext.nn import PRIMITIVES, MixedOp
from nasp_ext.ops import cells

Close = Callable[[Tensor, Tensor, torch.dtype], None]
NAMES = sorted(set(PRIMITIVES) - {"none"})
# A thread block stages at most 64 channels in float32 and 32 in float64: from there on a kernel asks for the
# same memory at any width, so the next width of a network stands for all of them (and the kernels assert it).
WIDE = ((torch.float32, 64), (torch.float64, 36))


def gradients(name: str, channels: int, stride: int, dtype: torch.dtype, active: int) -> list[Tensor]:
    """The output of one of two options, the gradient of both weights (the dots), and all other gradients."""
    torch.manual_seed(channels)
    op = MixedOp(channels, stride, (name, "avg_pool_3x3"), affine=True).to(dtype)
    x = torch.randn(1, channels, 6, 5, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    weights = torch.eye(2, dtype=dtype)[active].requires_grad_()
    out = op(x, weights, active=active)
    (out * torch.randn_like(out)).sum().backward()
    found = [x.grad, weights.grad, *(p.grad for p in op.parameters())]
    return [out.detach(), *(g for g in found if g is not None)]


def check(
    emulator: ctypes.CDLL, patch: pytest.MonkeyPatch, close: Close, name: str, dtype: torch.dtype, *sizes: int
) -> None:
    """``sizes``: channels and stride."""
    for active in (0, 1):  # once forward and backward, once the dots alone
        expected = gradients(name, *sizes, dtype, active)
        before = emulator.nasp_launches()
        with patch.context() as emulated:
            for operator in ("cell_forward", "cell_backward"):
                native = getattr(torch.ops.nasp_emulated, operator).default
                emulated.setattr(cells, f"_{operator.upper()}", native)
            found = gradients(name, *sizes, dtype, active)
        assert emulator.nasp_launches() > before
        for one, other in zip(found, expected, strict=True):
            close(one, other, dtype)


@pytest.mark.parametrize("dtype, channels", WIDE, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_primitive_runs_and_gives_the_gradients_of_the_cpu(
    emulator: ctypes.CDLL,
    monkeypatch: pytest.MonkeyPatch,
    close: Close,
    name: str,
    channels: int,
    dtype: torch.dtype,
) -> None:
    check(emulator, monkeypatch, close, name, dtype, channels, 2)


@pytest.mark.parametrize("channels", [31, 32, 256])
def test_the_largest_kernel_runs_at_every_width(
    emulator: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, close: Close, channels: int
) -> None:
    check(emulator, monkeypatch, close, "sep_conv_7x7", torch.float64, channels, 1)
