# SPDX-License-Identifier: MIT
"""Reads the lists of ``cell_forward``, ``cell_backward`` and ``source_dots`` as csrc/cell/ describes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

_BLOCK_NUMBERS = 8  # geometry
_COUNTS = 5  # of nodes, entries, weights, statistics and numbers of a source


@dataclass
class Norm:
    """A BatchNorm of a program."""

    exists: bool
    batch: bool = False
    place: int = 0  # of its weight
    affine: tuple[Tensor, Tensor] | None = None
    running: tuple[Tensor, Tensor] | None = None
    batches: Tensor | None = None
    eps: float = 0.0
    momentum: float = 0.0

    def parts(self) -> tuple[Tensor | None, ...]:
        """Weight, bias, and the running statistics if they take the place of the batch's."""
        running = (None, None) if self.batch or self.running is None else self.running
        return (*(self.affine or (None, None)), *running)


@dataclass
class Block:
    place: int
    depthwise: Tensor | None
    products: list[Tensor]
    geometry: list[int]
    relu: bool
    norm: Norm


@dataclass
class Option:
    pool: tuple[bool, int, int, Norm] | None = None  # max, kernel, stride
    chain: list[Block] = field(default_factory=list)


@dataclass
class Program:
    """What csrc/cell/cell.h describes; ``edges``: (node, source, whether it is mixed, option)."""

    concat: list[int]
    preprocess: list[Option | None]
    nodes: int
    edges: list[tuple[int, int, bool, Option]]

    def numbers_of(self, node: int) -> list[int]:
        return [i for i, edge in enumerate(self.edges) if edge[0] == node]

    def slice(self, images: Tensor, state: int) -> Tensor:
        channels = images.shape[1] // len(self.concat)
        return images.narrow(1, self.concat.index(state) * channels, channels)


class Reader:
    def __init__(
        self, program: Sequence[int], weights: Sequence[Tensor], statistics: Any, floats: Sequence[float]
    ) -> None:
        self.ints, self.floats = iter(program), iter(floats)
        self.weights = list(weights)
        self.statistics: Iterator[Tensor] | None = None if statistics is None else iter(statistics)
        self.place = 0

    def program(self) -> Program:
        inputs, nodes, length = (next(self.ints) for _ in range(3))
        concat = [next(self.ints) for _ in range(length)]
        preprocess = [self._option() if next(self.ints) else None for _ in range(inputs)]
        edges = [
            (next(self.ints), next(self.ints), bool(next(self.ints)), self._option())
            for _ in range(next(self.ints))
        ]
        left = [list(self.ints), self.weights[self.place :], list(self.statistics or ()), list(self.floats)]
        if any(left):
            raise ValueError(f"expected everything to be used by the program, found {left} left over")
        return Program(concat, preprocess, nodes, edges)

    def options(self) -> list[tuple[int, Option]]:
        """The options of one state as csrc/source/program.h describes them, each behind its edge."""
        return [(edge, self._option()) for edge in self.ints]

    def _weight(self) -> Tensor:
        self.place += 1
        return self.weights[self.place - 1]

    def _option(self) -> Option:
        kind = next(self.ints)
        if kind == 1:
            largest, kernel, stride = (next(self.ints) for _ in range(3))
            return Option(pool=(bool(largest), kernel, stride, self._norm()))
        if kind == 2:
            return Option(chain=[self._block() for _ in range(next(self.ints))])
        return Option()

    def _block(self) -> Block:
        has_depthwise, parts = next(self.ints), next(self.ints)
        geometry = [next(self.ints) for _ in range(_BLOCK_NUMBERS)]
        relu, place = bool(next(self.ints)), self.place
        depthwise = self._weight() if has_depthwise else None
        products = [self._weight() for _ in range(parts)]
        return Block(place, depthwise, products, geometry, relu, self._norm())

    def _norm(self) -> Norm:
        exists, affine, batch, moves = (bool(next(self.ints)) for _ in range(4))
        norm = Norm(exists, batch, self.place)
        if not exists:
            return norm
        if affine:
            norm.affine = self._weight(), self._weight()
        if self.statistics is not None:
            if moves or not batch:
                norm.running = next(self.statistics), next(self.statistics)
            norm.batches = next(self.statistics) if moves else None
        norm.eps, norm.momentum = next(self.floats), next(self.floats)
        return norm


def cut(sources: Sequence[int], lists: tuple[Sequence[Any], ...]) -> list[Any]:
    """For each state the nodes, then the arguments of source_dots behind x and grads."""
    found, left, own = [], list(sources), [list(items) for items in lists]
    while left:
        counts, left = left[:_COUNTS], left[_COUNTS:]
        nodes, left = left[: counts[0]], left[counts[0] :]
        program, left = left[: counts[1]], left[counts[1] :]
        parts = []
        for items, count in zip(own, counts[2:], strict=True):
            parts.append(items[:count])
            del items[:count]
        found.append((nodes, program, *parts))
    return found
