# SPDX-License-Identifier: MIT
"""A cell, or a single mixed edge, as data for the fused engine: its options, and which of them run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor, nn

from ..gates import PRUNED
from .lowering import (
    Block,
    Getter,
    NotFusedError,
    Option,
    affine_getters,
    containers,
    lower,
    moves_statistics,
    read,
    uses_batch,
)

# program, weights, statistics, numbers of ``ops.source_dots``
ProgramArguments = tuple[list[int], list[Tensor], list[Tensor], list[float]]
Children = Mapping[str, nn.Module | None]

_SELECTIONS_KEPT = 64


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
    """An edge that runs, and the option that does."""

    position: int  # in the plan
    edge: PlanEdge
    option: Option
    number: int  # of the option


class CellPlan:
    """What a fused cell runs.

    Args:
        preprocess: the module in front of each input, None for an input that is used as it is.
        edges: (node, source, candidate modules, row, whether unselected statistics move) in any order.
        nodes: how many; concat: the states (inputs first) that make up the output, in order.
        watched: the children of further modules; the plan is outdated when they change.
    Raises:
        NotFusedError: if a module has no fused form.
    """

    def __init__(
        self,
        preprocess: Sequence[nn.Module | None],
        edges: Sequence[tuple[int, int, Sequence[nn.Module], int | None, bool]],
        nodes: int,
        concat: Sequence[int],
        watched: Sequence[Children] = (),
    ) -> None:
        self.preprocess = tuple(None if module is None else _block(module) for module in preprocess)
        self.edges = tuple(
            PlanEdge(node, source, tuple(_lowered(module) for module in modules), row, update)
            for node, source, modules, row, update in edges
        )
        self.inputs, self.nodes, self.concat = len(preprocess), nodes, tuple(concat)
        self.reads_nodes = any(edge.source >= self.inputs for edge in self.edges)
        if len(set(self.concat)) < len(self.concat) or any(s < self.inputs for s in self.concat):
            raise NotFusedError("its output repeats a node or holds an input")
        # What the plan was read from: each container and the children that it had.
        self._always = [_children(held) for held in watched]
        self._always += [_children(h) for module in preprocess if module for h in containers(module)]
        self._of_option = [
            [[_children(h) for h in containers(module)] for module in modules]
            for _, _, modules, _, _ in edges
        ]
        lowered = [option for option in self.preprocess if option is not None]
        lowered += [option for edge in self.edges for option in edge.options]
        self._norms = [norm for option in lowered for norm in option.norms()]
        self._selections: dict[tuple[int, ...], Selection] = {}

    def is_current(self, active: Sequence[int] | None = None) -> bool:
        """Whether the modules are still made of the layers that the plan was read from.

        Args:    active: look at these options alone, -1 for none; None: at all.
        """
        if any(norm.momentum is None for norm in self._norms):  # as torch.optim.swa_utils.update_bn leaves it
            return False
        read = list(self._always)
        for options, number in zip(self._of_option, active or repeat(None), strict=False):
            if number is None:
                for option in options:
                    read += option
            elif PRUNED < number < len(options):
                read += options[number]
        return all(held == children for held, children in read)

    def selection(self, active: Sequence[int]) -> "Selection":
        """What runs with these options, -1 for none, in the order of the plan; remembered.

        Raises:  ValueError: for an option that an edge has not got.
        """
        key = tuple(active)
        found = self._selections.get(key)
        if found is None:
            if len(self._selections) >= _SELECTIONS_KEPT:
                self._selections.clear()
            found = self._selections[key] = Selection(self, key)
        return found


class Selection:
    """What of a plan runs with one choice of options: the same for every call until the choice changes.

    Attributes:
        chosen: the edges that run; of_node: their numbers for each node.
        offsets: where the parameters of each preprocessing, then of each chosen edge, begin.
        parameter_count: how many there are.
    """

    def __init__(self, plan: CellPlan, active: tuple[int, ...]) -> None:
        self.active = active
        chosen = []
        for position, (edge, option) in enumerate(zip(plan.edges, active, strict=True)):
            if not PRUNED <= option < len(edge.options):
                last = len(edge.options) - 1
                raise ValueError(f"expected active in {PRUNED}..{last} or None, got {option}")
            if option != PRUNED and not edge.options[option].none:
                chosen.append(Chosen(position, edge, edge.options[option], option))
        self.chosen = tuple(chosen)
        self.of_node = tuple(
            tuple(i for i, c in enumerate(chosen) if c.edge.node == node) for node in range(plan.nodes)
        )
        self._getters: list[Getter] = []
        self.offsets: list[int] = []
        options = [option for option in plan.preprocess if option is not None]
        options += [c.option for c in chosen]
        for lowered in options:
            self.offsets.append(len(self._getters))
            self._getters += lowered.parameters()
        self.parameter_count = len(self._getters)
        self._plan_edges, self._states = plan.edges, plan.inputs + plan.nodes
        self._programs: list[SourceProgram] = []
        self._indices: dict[tuple[tuple[tuple[int, int], ...], int, torch.device], Tensor] = {}

    def parameters(self) -> list[Tensor]:
        """Those of the preprocessing, then those of the chosen options."""
        return read(self._getters)

    def index(self, entries: tuple[tuple[int, int], ...], options: int, device: torch.device) -> Tensor:
        """Where the entries (row, option) of a gradient lie in its memory; kept on the device, so that a
        captured graph reads no host memory."""
        key = (entries, options, device)
        found = self._indices.get(key)
        if found is None:
            places = [row * options + option for row, option in entries]
            found = self._indices[key] = torch.tensor(places, device=device)
        return found

    def programs(self) -> list["SourceProgram"]:
        """For each state the options out of it that do not run."""
        if not self._programs:
            states = range(self._states)
            self._programs = [SourceProgram(self._plan_edges, state, self.active) for state in states]
        return self._programs


def _children(held: Children) -> tuple[Children, Children]:
    return held, dict(held)


def _lowered(module: nn.Module) -> Option:
    try:
        return lower(module)
    except NotFusedError as reason:
        raise type(reason)(f"{type(module).__name__}: {reason}") from None


def _block(module: nn.Module) -> Option:
    option = _lowered(module)
    if not option.chain:
        raise NotFusedError(f"{type(module).__name__} in front of an input is no convolution")
    return option


class SourceProgram:
    """The arguments of ``ops.source_dots`` for the unselected options of the edges out of one state."""

    def __init__(self, edges: Sequence[PlanEdge], source: int, active: Sequence[int]) -> None:
        self.nodes: list[int] = []  # whose gradient each edge of the program takes
        self.entries: list[tuple[int, int]] = []  # (row, option) of each number of the result
        self._parts: list[tuple[int, Option, bool]] = []
        for edge, selected in zip(edges, active, strict=True):
            if edge.source != source or edge.row is None:
                continue
            options = [k for k, o in enumerate(edge.options) if k != selected and not o.none]
            if options:
                self.nodes.append(edge.node)
            for k in options:
                self.entries.append((edge.row, k))
                self._parts.append((len(self.nodes) - 1, edge.options[k], edge.update_unselected))
        self._norms = [norm for _, option, _ in self._parts for norm in option.norms()]
        self._state: list[tuple[bool, bool, float | None, float]] = []
        self._ints: list[int] = []
        self._numbers: list[float] = []
        self._weights: list[Getter] = []
        self._statistics: list[Getter] = []

    def arguments(self) -> ProgramArguments:
        """program, weights, statistics, numbers, as the modules are now."""
        state = [(n.training, n.track_running_stats, n.momentum, n.eps) for n in self._norms]
        if state != self._state or not self._ints:
            self._write()
            self._state = state
        return self._ints, read(self._weights), read(self._statistics), self._numbers

    def _write(self) -> None:
        self._ints, self._numbers, self._weights, self._statistics = [], [], [], []
        for edge, option, update in self._parts:
            self._ints.append(edge)
            if option.pool is not None:
                pool = option.pool
                self._ints += [1, int(pool.max), pool.kernel, pool.stride]
                self._norm(pool.norm, update)
            elif option.chain:
                self._ints += [2, len(option.chain)]
                for block in option.chain:
                    self._block(block, update)
            else:
                self._ints.append(0)

    def _block(self, block: Block, update: bool) -> None:
        self._ints += [int(block.depthwise is not None), len(block.products), *block.geometry]
        self._ints.append(int(block.relu))
        self._weights += [(held, "weight") for held in block.convolutions()]
        self._norm(block.norm, update)

    def _norm(self, norm: nn.BatchNorm2d | None, update: bool) -> None:
        if norm is None:
            self._ints += [0, 0, 0, 0]
            return
        batch, moves = uses_batch(norm), update and moves_statistics(norm)
        self._ints += [1, int(norm.affine), int(batch), int(moves)]
        if norm.affine:
            self._weights += affine_getters(norm)
        if moves or not batch:
            self._statistics += [(norm._buffers, "running_mean"), (norm._buffers, "running_var")]
        if moves:
            self._statistics.append((norm._buffers, "num_batches_tracked"))
        assert norm.momentum is not None
        self._numbers += [norm.eps, norm.momentum]
