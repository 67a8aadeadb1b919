# SPDX-License-Identifier: MIT
"""source_dots on CUDA against the CPU operator: every kind of option, the running statistics, full launches.

Each test runs in the emulator, in several orders of threads, and on a GPU where there is one.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from block_cases import CPU, BlockCase, Shape, images, to
from torch import Tensor

from nasp_ext import ops
from nasp_ext.ops.program import encode_source
from nasp_ext.ops.program_values import Block, Geometry, Norm, Option, Pool, SourceOption

Close = Callable[[Tensor, Tensor, torch.dtype], None]
SEP3 = BlockCase("sep3", (3, 3), depthwise=True)
DIL5 = BlockCase("dil5", (5, 5), dilation=2, depthwise=True)
PLAIN = BlockCase("plain3", (3, 3))
POINTWISE = BlockCase("pointwise", (1, 1))
REDUCTION = BlockCase("factorized", (1, 1), stride=2, parts=2)
SEP3_REDUCTION = BlockCase("sep3_stride2", (3, 3), stride=2, depthwise=True)


@dataclass
class SourceProgram:
    """Options of edges of ``channels``."""

    dtype: torch.dtype
    channels: int
    options: list[SourceOption] = field(default_factory=list)

    def norm(self, kind: str) -> Norm[Tensor] | None:
        """``kind``: none, batch, moving, affine (and moving), running."""
        if kind == "none":
            return None
        affine, running, moves = None, None, kind in ("moving", "affine")
        if kind == "affine":
            affine = self._row(), self._row()
        if kind != "batch":
            running = self._row(), torch.rand(self.channels, dtype=self.dtype) + 0.1
        batches = torch.tensor(3) if moves else None
        return Norm(kind != "running", moves, 1e-5, 0.1, affine, running, batches)

    def _row(self) -> Tensor:
        return torch.randn(self.channels, dtype=self.dtype)

    def identity(self, edge: int) -> None:
        self.options.append(SourceOption(edge, Option()))

    def pool(self, edge: int, largest: bool, stride: int, norm: str) -> None:
        self.options.append(SourceOption(edge, Option(Pool(largest, 3, stride, self.norm(norm)))))

    def chain(self, edge: int, blocks: list[tuple[BlockCase, str]]) -> None:
        chain = []
        for block, norm in blocks:
            channels = self.channels // block.parts
            narrow = BlockCase(**{**vars(block), "out": channels})
            depthwise, products = narrow.weights(self.channels, self.dtype)
            geometry = Geometry(*block.geometry())
            chain.append(Block(geometry, depthwise, tuple(products), True, self.norm(norm)))
        self.options.append(SourceOption(edge, Option(chain=tuple(chain))))


def check(
    device: torch.device, close: Close, program: SourceProgram, shape: Shape, grads: list[Tensor]
) -> None:
    x = images(*shape, dtype=program.dtype)
    lists = encode_source(program.options)
    moved = [s.to(device, copy=True) for s in lists.statistics]
    dots = ops.source_dots(*to(device, (x, grads, *lists[:2])), moved, lists.numbers)
    close(dots, CPU.source_dots(x, grads, *lists), program.dtype)
    for actual, expected in zip(moved, lists.statistics, strict=True):
        if expected.dtype == torch.int64:
            assert torch.equal(actual.cpu(), expected)
        else:
            close(actual, expected, expected.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_options_of_a_node_give_the_dots_of_the_cpu(
    device: torch.device, close: Close, dtype: torch.dtype
) -> None:
    program = SourceProgram(dtype, 6)
    program.identity(0)
    for edge in range(2):
        program.pool(edge, True, 1, "moving")
        program.pool(edge, False, 1, "affine" if edge else "none")
        program.chain(edge, [(SEP3, "moving"), (SEP3, "affine")])
        program.chain(edge, [(DIL5, "running")])
        program.chain(edge, [(POINTWISE, "none"), (PLAIN, "batch"), (DIL5, "moving")])
    program.identity(1)
    check(device, close, program, (2, 6, 9, 8), [images(2, 6, 9, 8, dtype=dtype) for _ in range(2)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_options_that_reduce_give_the_dots_of_the_cpu(
    device: torch.device, close: Close, dtype: torch.dtype
) -> None:
    program = SourceProgram(dtype, 34)
    program.pool(0, True, 2, "batch")
    program.chain(0, [(REDUCTION, "moving")])
    program.chain(0, [(SEP3_REDUCTION, "affine"), (SEP3, "running")])
    check(device, close, program, (3, 34, 7, 6), [images(3, 34, 4, 3, dtype=dtype)])


def test_more_options_than_fit_a_launch_give_the_dots_of_the_cpu(device: torch.device, close: Close) -> None:
    program = SourceProgram(torch.float64, 2)
    for edge in range(6):
        program.identity(edge)
        program.pool(edge, edge % 2 == 0, 1, "moving")
        for _ in range(6):
            program.chain(edge, [(POINTWISE, "moving"), (SEP3, "batch")])
    check(device, close, program, (2, 2, 4, 3), [images(2, 2, 4, 3, dtype=torch.float64) for _ in range(6)])


def test_a_node_takes_six_launches(emulator: ctypes.CDLL) -> None:
    """Four edges with the options of the darts space, of which one runs on each edge."""
    program = SourceProgram(torch.float32, 4)
    for edge in range(4):
        for largest in (True, False):
            program.pool(edge, largest, 1, "moving")
        for _ in range(2):
            program.chain(edge, [(SEP3, "moving"), (SEP3, "moving")])
        for _ in range(2):
            program.chain(edge, [(DIL5, "moving")])
    grads = [images(1, 4, 4, 4) for _ in range(4)]
    call: Any = torch.ops.nasp_emulated.source_dots
    before = emulator.nasp_launches()
    call(images(1, 4, 4, 4), grads, *encode_source(program.options))
    assert emulator.nasp_launches() - before == 6


def test_an_empty_batch_and_a_wrong_program_raise(device: torch.device) -> None:
    x = images(2, 3, 4, 4).to(device)
    with pytest.raises(ValueError, match="at least one image"):
        ops.source_dots(x[:0], [x[:0]], *encode_source([SourceOption(0, Option())]))
    with pytest.raises(ValueError, match=r"a gradient in 0\.\.0"):
        ops.source_dots(x, [x], *encode_source([SourceOption(1, Option())]))
