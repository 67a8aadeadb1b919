# SPDX-License-Identifier: MIT
"""The lists that native calls read: options as csrc/cell/option.h describes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from nasp_ext.arch.gates import MIXED
from nasp_ext.nn.fused.lowering import (
    Block,
    Getter,
    Option,
    affine_getters,
    moves_statistics,
    read,
    uses_batch,
)

_IDENTITY, _POOL, _CHAIN = range(3)


@dataclass(frozen=True)
class PlanEdge:
    """An edge from state ``source`` into node ``node`` (counted from 0, behind the inputs)."""

    node: int
    source: int
    options: tuple[Option, ...]
    row: int | None  # of the gates; None: its one option always runs
    update_unselected: bool = True


@dataclass(frozen=True)
class Chosen:
    """An option that runs, and its edge."""

    position: int  # in the plan
    edge: PlanEdge
    option: Option
    number: int  # of the option
    mixed: bool = False  # all options of the edge run
    affine: int | None = None  # where the weight of its last BatchNorm is among the parameters


class Arguments(NamedTuple):
    """What a native call reads, as the modules are now."""

    program: list[int]
    weights: list[Tensor]
    statistics: list[Tensor]
    numbers: list[float]

    def version(self) -> int:
        """Of all weights together: it grows when one is changed in place."""
        return sum(0 if t.is_inference() else t._version for t in self.weights)


class Writer:
    """Writes options one after the other."""

    def __init__(self) -> None:
        self.ints: list[int] = []
        self.numbers: list[float] = []
        self.weights: list[Getter] = []
        self.statistics: list[Getter] = []

    def option(self, option: Option, update: bool) -> None:
        """Args:    update: whether its running statistics move."""
        if option.pool is not None:
            pool = option.pool
            self.ints += [_POOL, int(pool.max), pool.kernel, pool.stride]
            self._norm(pool.norm, update)
        elif option.chain:
            self.ints += [_CHAIN, len(option.chain)]
            for block in option.chain:
                self._block(block, update)
        else:
            self.ints.append(_IDENTITY)

    def lengths(self) -> tuple[int, int, int, int]:
        return len(self.ints), len(self.weights), len(self.statistics), len(self.numbers)

    def _block(self, block: Block, update: bool) -> None:
        self.ints += [int(block.depthwise is not None), len(block.products), *block.geometry]
        self.ints.append(int(block.relu))
        self.weights += [(held, "weight") for held in block.convolutions()]
        self._norm(block.norm, update)

    def _norm(self, norm: nn.BatchNorm2d | None, update: bool) -> None:
        if norm is None:
            self.ints += [0, 0, 0, 0]
            return
        batch, moves = uses_batch(norm), update and moves_statistics(norm)
        self.ints += [1, int(norm.affine), int(batch), int(moves)]
        self.weights += affine_getters(norm)
        if moves or not batch:
            self.statistics += [(norm._buffers, "running_mean"), (norm._buffers, "running_var")]
        if moves:
            self.statistics.append((norm._buffers, "num_batches_tracked"))
        assert norm.momentum is not None
        self.numbers += [norm.eps, norm.momentum]


class Program:
    """The lists of one native call, written again when a BatchNorm has changed its mode.

    Args:
        options: whose BatchNorms are looked at; write: writes the lists.
    """

    def __init__(self, options: Sequence[Option], write: Callable[[Writer], None]) -> None:
        self._norms = [norm for option in options for norm in option.norms()]
        self._write = write
        self._state: list[tuple[bool, bool, float | None, float]] | None = None
        self._written = Writer()

    def arguments(self) -> Arguments:
        state = [(n.training, n.track_running_stats, n.momentum, n.eps) for n in self._norms]
        if state != self._state:
            self._written = Writer()
            self._write(self._written)
            self._state = state
        written = self._written
        return Arguments(written.ints, read(written.weights), read(written.statistics), written.numbers)


def cell_program(
    preprocess: Sequence[Option | None], nodes: int, concat: Sequence[int], chosen: Sequence[Chosen]
) -> Program:
    """Preprocessing and chosen options, in the order of csrc/cell/cell.h: each is an edge of the program.

    Args:
        preprocess: of each input, None for one that is used as it is.
        nodes: how many; concat: the states that make up the output.
    """

    def write(to: Writer) -> None:
        to.ints += [len(preprocess), nodes, len(concat), *concat]
        for option in preprocess:
            to.ints.append(int(option is not None))
            if option is not None:
                to.option(option, True)
        to.ints.append(len(chosen))
        for c in chosen:
            to.ints += [c.edge.node, c.edge.source, int(c.mixed)]
            to.option(c.option, True)

    return Program([*filter(None, preprocess), *(c.option for c in chosen)], write)


class SourcePrograms:
    """The options that do not run, by the state that their edges leave; see csrc/cell/cell_sources.h.

    Attributes:    entries: for each state (row, option) of each of its numbers.
    """

    def __init__(self, edges: Sequence[PlanEdge], states: int, active: Sequence[int]) -> None:
        self._states = [_StateSource(edges, state, active) for state in range(states)]
        self.entries = [state.entries for state in self._states]
        options = [option for state in self._states for _, option, _ in state.parts]
        self._program = Program(options, self._write)

    def arguments(self) -> Arguments:
        return self._program.arguments()

    def _write(self, to: Writer) -> None:
        for state in self._states:
            own = Writer()
            for edge, option, update in state.parts:
                own.ints.append(edge)
                own.option(option, update)
            to.ints += [len(state.nodes), *own.lengths(), *state.nodes, *own.ints]
            to.weights += own.weights
            to.statistics += own.statistics
            to.numbers += own.numbers


class _StateSource:
    """The unselected options of the edges out of one state."""

    def __init__(self, edges: Sequence[PlanEdge], source: int, active: Sequence[int]) -> None:
        self.nodes: list[int] = []  # whose gradient each edge takes
        self.entries: list[tuple[int, int]] = []
        self.parts: list[tuple[int, Option, bool]] = []
        for edge, selected in zip(edges, active, strict=True):
            if edge.source != source or edge.row is None or selected == MIXED:
                continue
            options = [k for k, o in enumerate(edge.options) if k != selected and not o.none]
            if options:
                self.nodes.append(edge.node)
            for k in options:
                self.entries.append((edge.row, k))
                self.parts.append((len(self.nodes) - 1, edge.options[k], edge.update_unselected))
