# SPDX-License-Identifier: MIT
"""What native calls run, as values: options, cells, and what leaves a state of a cell.

A value holds tensors, or whatever stands for them: where a module keeps them, or positions in a list.
``ops.program`` writes and reads the flat lists in which native calls carry it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")  # a tensor, or what stands for it


class Geometry(NamedTuple):
    """Windows of a convolution in pixels; operators take it as it is, a row of eight numbers."""

    kernel_height: int = 1
    kernel_width: int = 1
    stride_height: int = 1
    stride_width: int = 1
    padding_height: int = 0
    padding_width: int = 0
    dilation_height: int = 1
    dilation_width: int = 1

    @classmethod
    def square(cls, kernel: int = 1, stride: int = 1, padding: int = 0, dilation: int = 1) -> Geometry:
        """The same in height and width.

        >>> list(Geometry.square(3, padding=1))
        [3, 3, 1, 1, 1, 1, 1, 1]
        """
        return cls(kernel, kernel, stride, stride, padding, padding, dilation, dilation)

    def exists(self) -> bool:
        """Whether there are such windows: a padding of at least 0, all else of at least 1."""
        padding = self.padding_height, self.padding_width
        return min(padding) >= 0 and min(self._replace(padding_height=1, padding_width=1)) >= 1

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width."""
        return self.kernel_height, self.kernel_width

    @property
    def around(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Stride, padding, dilation, each height before width."""
        return (
            (self.stride_height, self.stride_width),
            (self.padding_height, self.padding_width),
            (self.dilation_height, self.dilation_width),
        )

    def size(self, images: Sequence[int]) -> tuple[int, int]:
        """Height and width behind images (N, C, H, W)."""
        height = images[2] + 2 * self.padding_height - self.dilation_height * (self.kernel_height - 1) - 1
        width = images[3] + 2 * self.padding_width - self.dilation_width * (self.kernel_width - 1) - 1
        return height // self.stride_height + 1, width // self.stride_width + 1


@dataclass(frozen=True)
class Norm(Generic[T]):
    """A BatchNorm.

    Args:
        batch: it takes the statistics of the batch; moves: the running ones move.
        affine: weight and bias; running: mean and variance, if they are taken or moved; batches: how many
            there were, if they move. The last two are None also where a call does not carry them.
    """

    batch: bool
    moves: bool
    eps: float
    momentum: float
    affine: tuple[T, T] | None = None
    running: tuple[T, T] | None = None
    batches: T | None = None

    def parts(self) -> tuple[T | None, T | None, T | None, T | None]:
        """Weight, bias, and the running statistics if they take the place of the batch's."""
        running = (None, None) if self.batch or self.running is None else self.running
        return (*(self.affine or (None, None)), *running)


@dataclass(frozen=True)
class Block(Generic[T]):
    """See ``ops.block_forward``; its weights are the depthwise one and the products."""

    geometry: Geometry
    depthwise: T | None
    products: tuple[T, ...]
    relu: bool
    norm: Norm[T] | None


@dataclass(frozen=True)
class Pool(Generic[T]):
    """See ``ops.pool_forward``."""

    max: bool
    kernel: int
    stride: int
    norm: Norm[T] | None


@dataclass(frozen=True)
class Option(Generic[T]):
    """A candidate operation: a pool, or a chain of blocks, or with neither the identity."""

    pool: Pool[T] | None = None
    chain: tuple[Block[T], ...] = ()

    def norms(self) -> list[Norm[T] | None]:
        """Behind its pool or each of its blocks."""
        return [part.norm for part in ((self.pool,) if self.pool is not None else self.chain)]


class ProgramEdge(NamedTuple):
    """An option that runs from state ``source`` into a node; mixed: with others between the two."""

    node: int
    source: int
    mixed: bool
    option: Any  # Option, or its lists


@dataclass(frozen=True)
class CellProgram(Generic[T]):
    """A cell: states are its inputs, then its nodes.

    Args:
        concat: the states of the output; preprocess: of each input, None for one that is used as it is.
        edges: in the order of their nodes.
    """

    nodes: int
    concat: tuple[int, ...]
    preprocess: tuple[Option[T] | None, ...]
    edges: tuple[ProgramEdge, ...]

    def numbers_of(self, node: int) -> list[int]:
        """Of the edges into a node."""
        return [i for i, edge in enumerate(self.edges) if edge.node == node]


class SourceOption(NamedTuple):
    """An option to multiply with the gradient behind edge number ``edge``."""

    edge: int
    option: Any  # Option, or its lists


class StateSource(NamedTuple):
    """What leaves one state of a cell: the node at the end of each edge, and the options."""

    nodes: tuple[int, ...]
    options: tuple[SourceOption, ...]
