# SPDX-License-Identifier: MIT
"""The CUDA side of the blocks against the CPU operators: the values, every gradient, the norms.

Each test runs in the emulator, in several orders of threads, and on a GPU where there is one.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from block_cases import CPU, BlockCase, blocks, images, to
from torch import Tensor

from nasp_ext import ops
from nasp_ext.ops.program_values import Geometry

Close = Callable[[Tensor, Tensor, torch.dtype], None]
POINTWISE = list(Geometry())
DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", blocks(), ids=str)
def test_block_forward_is_that_of_the_cpu(
    device: torch.device, close: Close, block: BlockCase, dtype: torch.dtype
) -> None:
    for shape in block.shapes:
        for chained, statistics in ((False, "batch"), (True, "batch"), (True, "running"), (False, "none")):
            arguments = block.forward(shape, dtype, chained, statistics)
            z, norm = forward(*to(device, arguments))
            expected = CPU.block_forward(*arguments)
            close(z, expected[0], dtype)
            close(norm, expected[1], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", blocks(), ids=str)
def test_block_backward_is_that_of_the_cpu(
    device: torch.device, monkeypatch: pytest.MonkeyPatch, close: Close, block: BlockCase, dtype: torch.dtype
) -> None:
    for shape in block.shapes:
        for chained, factors, weights, out, base in (
            (True, True, True, "new", True),
            (False, False, True, "none", False),
            (False, False, False, "new", False),
            (True, False, False, "base", True),
        ):
            arguments = block.backward(shape, dtype, chained, factors, weights)
            x = arguments[6]
            added = images(*x.shape, dtype=dtype) if base else None
            targets = []
            for place in (device, torch.device("cpu")):
                mine = None if added is None else added.to(place, copy=True)
                targets.append(
                    ({"none": None, "base": mine, "new": torch.empty_like(x, device=place)}[out], mine)
                )
            actual = backward(to(device, arguments), *targets[0])
            with monkeypatch.context() as patch:
                patch.setattr(ops.blocks, "_BLOCK_BACKWARD", CPU.block_backward.default)
                expected = backward(arguments, *targets[1])
            for a, b in zip(actual, expected, strict=True):
                if a is not None and b is not None:
                    close(a, b, dtype)


def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
    """The operator of this device, with the flat arguments of its schema."""
    return ops.block_forward(*arguments[:7], arguments[7:11], arguments[11])


def backward(arguments: tuple[Any, ...], out: Tensor | None, base: Tensor | None) -> list[Tensor | None]:
    sums, taps, products = ops.block_backward(*arguments, out, base)
    return [out, sums, taps, *products]


def test_statistics_of_a_channel_far_from_zero_are_exact(device: torch.device, close: Close) -> None:
    """A variance from plain sums of squares would lose all its digits."""
    x = 1000 + images(3, 4, 9, 9)
    weight = torch.eye(4).view(4, 4, 1, 1)
    arguments = (x, None, None, [weight], POINTWISE, False)
    _, norm = ops.block_forward(*to(device, arguments))
    close(norm[1], x.double().var((0, 2, 3), unbiased=False).float(), x.dtype)


def test_nan_stays_in_its_channel_and_image(device: torch.device) -> None:
    x = images(2, 3, 4, 4)
    x[1, 2, 0, 0] = float("nan")
    weight = torch.eye(3).view(3, 3, 1, 1)
    z, norm = ops.block_forward(*to(device, (x, None, None, [weight], POINTWISE, True)))
    assert z[0].isfinite().all()
    assert z[1, :, 0, 0].isnan().all()
    assert z.isnan().sum() == 3
    assert norm[0].isnan().all()


def test_bad_blocks_raise_what_they_raise_on_the_cpu(device: torch.device) -> None:
    x, weight = images(2, 3, 4, 4).to(device), torch.rand(4, 3, 1, 1, device=device)
    call: Callable[..., Any] = ops.block_forward
    with pytest.raises(ValueError, match="channels_last"):
        call(x.contiguous(), None, None, [weight], POINTWISE, True)
    with pytest.raises(ValueError, match="8 numbers in geometry"):
        call(x, None, None, [weight], [1, 1, 1, 1], True)
    with pytest.raises(ValueError, match="float32 or float64"):
        call(x.half(), None, None, [weight.half()], POINTWISE, True)


@pytest.mark.cuda
def test_blocks_join_a_captured_graph() -> None:
    """No copy to the host, no wait, and no memory but PyTorch's: all of it would end the capture."""
    x = images(2, 16, 8, 8).cuda()
    arguments = to(torch.device("cuda"), blocks()[0].forward((2, 16, 8, 8), torch.float32, True, "batch"))
    expected = forward(x, *arguments[1:])
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        z, norm = forward(x, *arguments[1:])
        node = torch.empty_like(z)
        ops.node_sum_(node, [z], [norm])
        sums = ops.node_gradient_sums(node, [z], [norm])
        back = (node, None, sums[0], z, norm, True, x, *arguments[1:6], True)
        out, *_ = backward(back, torch.empty_like(x), None)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(z, expected[0])
    assert torch.equal(norm, expected[1])
    assert out is not None
    assert out.isfinite().all()
