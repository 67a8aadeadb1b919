# SPDX-License-Identifier: MIT
"""The flat lists in which native calls carry what they run.

``encode_…`` and ``join_…`` write the lists that the headers of csrc/program describe (option.h,
source_program.h, cell_program.h, cell_sources.h), ``decode_…`` reads them: nothing else in Python knows which
number stands where.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from nasp_ext.ops.program_values import (
    Block,
    CellProgram,
    Geometry,
    Norm,
    Option,
    Pool,
    ProgramEdge,
    SourceOption,
    StateSource,
    T,
)

Item = TypeVar("Item")

_IDENTITY, _POOL, _CHAIN = range(3)  # kinds of options
_MOST_PRODUCTS = 2
_MOST_NODES = 4096


class Lists(NamedTuple):
    """What a native call carries."""

    program: list[int]
    weights: list[Any]
    statistics: list[Any]
    numbers: list[float]


def _empty() -> Lists:
    return Lists([], [], [], [])


def _append(to: Lists, more: Lists) -> None:
    to.program.extend(more.program)
    to.weights.extend(more.weights)
    to.statistics.extend(more.statistics)
    to.numbers.extend(more.numbers)


def encode_option(option: Option[Any]) -> Lists:
    """An option as a part of any program."""
    to = _empty()
    if option.pool is not None:
        pool = option.pool
        to.program.extend((_POOL, int(pool.max), pool.kernel, pool.stride))
        _encode_norm(pool.norm, to)
        return to
    to.program.extend((_CHAIN, len(option.chain)) if option.chain else (_IDENTITY,))
    for block in option.chain:
        depthwise = [] if block.depthwise is None else [block.depthwise]
        to.program.extend((len(depthwise), len(block.products), *block.geometry, int(block.relu)))
        to.weights.extend((*depthwise, *block.products))
        _encode_norm(block.norm, to)
    return to


def _encode_norm(norm: Norm[Any] | None, to: Lists) -> None:
    if norm is None:
        to.program.extend((0, 0, 0, 0))
        return
    to.program.extend((1, int(norm.affine is not None), int(norm.batch), int(norm.moves)))
    to.weights.extend(norm.affine or ())
    to.statistics.extend(norm.running or ())
    if norm.moves:
        to.statistics.append(norm.batches)
    to.numbers.extend((norm.eps, norm.momentum))


def last_affine(option: Option[Any], end: int) -> int | None:
    """Where the weight of the BatchNorm that gives its output is in a list of weights, its bias behind it.

    Args:    end: where the weights of the option end in that list.
    """
    norms = option.norms()
    return end - 2 if norms and norms[-1] is not None and norms[-1].affine is not None else None


def join_cell(
    nodes: int, concat: Sequence[int], preprocess: Iterable[Lists | None], edges: Sequence[ProgramEdge]
) -> Lists:
    """The lists of a cell from those of its options, which the edges hold in their place."""
    chains = list(preprocess)
    to = _empty()
    to.program.extend((len(chains), nodes, len(concat), *concat))
    for chain in chains:
        to.program.append(int(chain is not None))
        _append(to, chain or _empty())
    to.program.append(len(edges))
    for node, source, mixed, option in edges:
        to.program.extend((node, source, int(mixed)))
        _append(to, option)
    return to


def encode_cell(cell: CellProgram[Any]) -> Lists:
    """The lists of ``cell_forward`` and ``cell_backward``."""
    chains = [None if option is None else encode_option(option) for option in cell.preprocess]
    edges = [edge._replace(option=encode_option(edge.option)) for edge in cell.edges]
    return join_cell(cell.nodes, cell.concat, chains, edges)


def join_source(options: Iterable[SourceOption]) -> Lists:
    """The lists of ``source_dots`` from those of its options."""
    to = _empty()
    for edge, option in options:
        to.program.append(edge)
        _append(to, option)
    return to


def encode_source(options: Iterable[SourceOption]) -> Lists:
    """The lists of ``source_dots``."""
    return join_source(SourceOption(edge, encode_option(option)) for edge, option in options)


def concatenated(parts: Iterable[Lists]) -> Lists:
    """The lists of ``source_dots`` for the options of one after those of the other."""
    to = _empty()
    for part in parts:
        _append(to, part)
    return to


def join_sources(states: Iterable[tuple[Sequence[int], Lists]]) -> Lists:
    """The lists of the sources of ``cell_backward`` from the nodes and the lists of each state."""
    to = _empty()
    for nodes, own in states:
        to.program.extend((len(nodes), *map(len, own), *nodes))
        _append(to, own)
    return to


def encode_sources(states: Iterable[StateSource]) -> Lists:
    """The lists of the sources of ``cell_backward``, of each state."""
    return join_sources((nodes, encode_source(options)) for nodes, options in states)


def decode_cell(
    program: Iterable[int], weights: Iterable[T], statistics: Iterable[T] | None, numbers: Iterable[float]
) -> CellProgram[T]:
    """The cell that ``encode_cell`` wrote.

    Args:    statistics: None if the call carries none.
    Raises:  ValueError: for lists that do not fit.
    """
    reader = _Reader(program, weights, statistics, numbers)
    inputs, nodes, length = (reader.count(1) for _ in range(3))
    if nodes > _MOST_NODES:
        raise ValueError(f"expected 1 to {_MOST_NODES} nodes, found {nodes}")
    concat = tuple(reader.number() for _ in range(length))
    preprocess = tuple(reader.option() if reader.number() else None for _ in range(inputs))
    edges = tuple(
        ProgramEdge(reader.number(), reader.number(), bool(reader.number()), reader.option())
        for _ in range(reader.count())
    )
    reader.check_end()
    _check_states(inputs, nodes, concat, edges)
    return CellProgram(nodes, concat, preprocess, edges)


def decode_source(
    program: Iterable[int], weights: Iterable[T], statistics: Iterable[T] | None, numbers: Iterable[float]
) -> list[SourceOption]:
    """The options that ``encode_source`` wrote; see ``decode_cell``."""
    reader = _Reader(program, weights, statistics, numbers)
    options = [SourceOption(edge, reader.option()) for edge in reader.ints]
    reader.check_end()
    return options


def decode_sources(
    sources: Sequence[int], weights: Iterable[T], statistics: Iterable[T], numbers: Iterable[float]
) -> list[StateSource]:
    """The states that ``encode_sources`` wrote."""
    found, ints = [], iter(sources)
    of_all = iter(weights), iter(statistics), iter(numbers)
    for count in ints:
        lengths = [_taken(ints) for _ in of_all]
        entries, lengths = lengths[0], [*lengths[1:], _taken(ints)]
        nodes = tuple(_taken(ints) for _ in range(count))
        own = [_taken(ints) for _ in range(entries)]
        lists: list[Any] = [
            [_taken(items) for _ in range(n)] for items, n in zip(of_all, lengths, strict=True)
        ]
        found.append(StateSource(nodes, tuple(decode_source(own, *lists))))
    return found


def _taken(items: Iterator[Item]) -> Item:
    for item in items:
        return item
    raise ValueError("expected more items in the lists of a program, as it says; found their end")


def _check_states(inputs: int, nodes: int, concat: Sequence[int], edges: Sequence[ProgramEdge]) -> None:
    states = range(inputs, inputs + nodes)
    if len(set(concat)) < len(concat) or any(state not in states for state in concat):
        raise ValueError(f"expected different nodes in concat, found {concat}")
    last = 0
    for node, source, _, _ in edges:
        if not last <= node < nodes or source not in range(inputs + node):
            found = [edge[:2] for edge in edges]
            raise ValueError(f"expected edges in the order of their nodes, from states before, found {found}")
        last = node


class _Reader(Generic[T]):
    """Takes options from lists."""

    def __init__(
        self,
        program: Iterable[int],
        weights: Iterable[T],
        statistics: Iterable[T] | None,
        numbers: Iterable[float],
    ) -> None:
        self.ints, self._weights, self._floats = iter(program), iter(weights), iter(numbers)
        self._statistics = None if statistics is None else iter(statistics)

    def number(self) -> int:
        return _taken(self.ints)

    def count(self, least: int = 0) -> int:
        """The next number, which says how many of something follow."""
        count = self.number()
        if count < least:
            raise ValueError(f"expected a count of at least {least} in a program, found {count}")
        return count

    def option(self) -> Option[T]:
        kind = self.number()
        if kind == _POOL:
            largest, kernel, stride = bool(self.number()), self.number(), self.number()
            return Option(pool=Pool(largest, kernel, stride, self._norm()))
        if kind == _CHAIN:
            return Option(chain=tuple(self._block() for _ in range(self.count(1))))
        if kind != _IDENTITY:
            raise ValueError(f"expected a kind in 0..2, found {kind}")
        return Option()

    def check_end(self) -> None:
        left = [list(items) for items in (self.ints, self._weights, self._statistics or (), self._floats)]
        if any(left):
            raise ValueError(f"expected everything to be used by the program, found {left} left over")

    def _block(self) -> Block[T]:
        has_depthwise, products = bool(self.number()), self.number()
        if not 1 <= products <= _MOST_PRODUCTS:
            raise ValueError(f"expected 1 or 2 tensors of product weights in a block, found {products}")
        geometry = Geometry(*(self.number() for _ in Geometry._fields))
        relu = bool(self.number())
        depthwise = _taken(self._weights) if has_depthwise else None
        weights = tuple(_taken(self._weights) for _ in range(products))
        return Block(geometry, depthwise, weights, relu, self._norm())

    def _norm(self) -> Norm[T] | None:
        exists, has_affine, batch, moves = (bool(self.number()) for _ in range(4))
        if not exists:
            return None
        affine, running, batches = None, None, None
        if has_affine:
            affine = _taken(self._weights), _taken(self._weights)
        if self._statistics is not None:
            if moves or not batch:
                running = _taken(self._statistics), _taken(self._statistics)
            batches = _taken(self._statistics) if moves else None
        eps, momentum = _taken(self._floats), _taken(self._floats)
        return Norm(batch, moves, eps, momentum, affine, running, batches)
