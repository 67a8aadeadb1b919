# SPDX-License-Identifier: MIT
"""Reads the lists of ``cell_forward``, ``cell_backward`` and ``source_dots`` as csrc/cell/ describes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")

_BLOCK_NUMBERS = 8  # geometry
_PARTS = (1, 2)
_NORM_NUMBERS = 4
_MOST_NODES = 4096
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


def taken(items: Iterator[T]) -> T:
    """The next item of a list that a program reads."""
    for item in items:
        return item
    raise ValueError("expected more items in the lists of a program, as it says; found their end")


def counted(items: Iterator[int], least: int = 0) -> int:
    """The next number, which says how many of something follow."""
    count = taken(items)
    if count < least:
        raise ValueError(f"expected a count of at least {least} in a program, found {count}")
    return count


def options_of(program: Sequence[int]) -> int:
    """How many options a program of ``source_dots`` has."""
    numbers, count = iter(program), 0
    for _ in numbers:
        _skip_option(numbers)
        count += 1
    return count


def _skip_option(numbers: Iterator[int]) -> None:
    kind, blocks = taken(numbers), 0
    if kind == 2:
        blocks = counted(numbers, 1)
    length = {0: 0, 1: 3 + _NORM_NUMBERS, 2: blocks * (2 + _BLOCK_NUMBERS + 1 + _NORM_NUMBERS)}
    if kind not in length:
        raise ValueError(f"expected a kind in 0..2, found {kind}")
    for _ in range(length[kind]):
        taken(numbers)


class Reader:
    def __init__(
        self, program: Sequence[int], weights: Sequence[Tensor], statistics: Any, floats: Sequence[float]
    ) -> None:
        self.ints, self.floats = iter(program), iter(floats)
        self.weights = list(weights)
        self.statistics: Iterator[Tensor] | None = None if statistics is None else iter(statistics)
        self.place = 0

    def program(self) -> Program:
        inputs, nodes, length = (counted(self.ints, 1) for _ in range(3))
        if nodes > _MOST_NODES:
            raise ValueError(f"expected 1 to {_MOST_NODES} nodes, found {nodes}")
        concat = [taken(self.ints) for _ in range(length)]
        preprocess = [self._option() if taken(self.ints) else None for _ in range(inputs)]
        edges = [
            (taken(self.ints), taken(self.ints), bool(taken(self.ints)), self._option())
            for _ in range(counted(self.ints))
        ]
        self._check_states(inputs, nodes, concat, edges)
        left = [list(self.ints), self.weights[self.place :], list(self.statistics or ()), list(self.floats)]
        if any(left):
            raise ValueError(f"expected everything to be used by the program, found {left} left over")
        return Program(concat, preprocess, nodes, edges)

    def options(self) -> list[tuple[int, Option]]:
        """The options of one state as csrc/source/program.h describes them, each behind its edge."""
        return [(edge, self._option()) for edge in self.ints]

    @staticmethod
    def _check_states(inputs: int, nodes: int, concat: list[int], edges: list[Any]) -> None:
        states = range(inputs, inputs + nodes)
        if len(set(concat)) < len(concat) or any(state not in states for state in concat):
            raise ValueError(f"expected different nodes in concat, found {concat}")
        ends = [(node, source) for node, source, *_ in edges]
        if any(
            node not in range(nodes) or source not in range(inputs + node) or node < before
            for (before, _), (node, source) in zip([(0, 0), *ends], ends, strict=False)
        ):
            raise ValueError(f"expected edges in the order of their nodes, from states before, found {ends}")

    def _weight(self) -> Tensor:
        self.place += 1
        if self.place > len(self.weights):
            raise ValueError(f"expected more weights than {len(self.weights)}, as the program says")
        return self.weights[self.place - 1]

    def _option(self) -> Option:
        kind = taken(self.ints)
        if kind == 1:
            largest, kernel, stride = (taken(self.ints) for _ in range(3))
            return Option(pool=(bool(largest), kernel, stride, self._norm()))
        if kind == 2:
            return Option(chain=[self._block() for _ in range(counted(self.ints, 1))])
        if kind != 0:
            raise ValueError(f"expected a kind in 0..2, found {kind}")
        return Option()

    def _block(self) -> Block:
        has_depthwise, parts = taken(self.ints), taken(self.ints)
        if parts not in _PARTS:
            raise ValueError(f"expected 1 or 2 tensors of product weights in a block, found {parts}")
        geometry = [taken(self.ints) for _ in range(_BLOCK_NUMBERS)]
        relu, place = bool(taken(self.ints)), self.place
        depthwise = self._weight() if has_depthwise else None
        products = [self._weight() for _ in range(parts)]
        return Block(place, depthwise, products, geometry, relu, self._norm())

    def _norm(self) -> Norm:
        exists, affine, batch, moves = (bool(taken(self.ints)) for _ in range(_NORM_NUMBERS))
        norm = Norm(exists, batch, self.place)
        if not exists:
            return norm
        if affine:
            norm.affine = self._weight(), self._weight()
        if self.statistics is not None:
            if moves or not batch:
                norm.running = taken(self.statistics), taken(self.statistics)
            norm.batches = taken(self.statistics) if moves else None
        norm.eps, norm.momentum = taken(self.floats), taken(self.floats)
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
