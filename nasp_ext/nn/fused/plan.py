# SPDX-License-Identifier: MIT
"""A cell, or a single mixed edge, as data for the fused engine: its options, and which of them run."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import repeat
from operator import add

import torch
from torch import Tensor, nn

from nasp_ext.arch.gates import MIXED, PRUNED
from nasp_ext.nn.fused.encoding import Chosen, PlanEdge, SourcePrograms, cell_program
from nasp_ext.nn.fused.lowering import NotFusedError, Option, lower
from nasp_ext.nn.fused.second_order import Reach
from nasp_ext.nn.fused.watch import Watch, classes_are_their_own

_SELECTIONS_KEPT = 64


class CellPlan:
    """What a fused cell runs.

    Args:
        preprocess: the module in front of each input, None for an input that is used as it is.
        edges: (node, source, candidate modules, row, whether unselected statistics move) in any order.
        nodes: how many; concat: the states (inputs first) that make up the output, in order.
        watched: what else the plan is read from; it is outdated when that changes.
    Raises:
        NotFusedError: if a module has no fused form.
    """

    def __init__(
        self,
        preprocess: Sequence[nn.Module | None],
        edges: Sequence[tuple[int, int, Sequence[nn.Module], int | None, bool]],
        nodes: int,
        concat: Sequence[int],
        watched: Watch,
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
        self._always = watched + Watch([module for module in preprocess if module is not None])
        self._of_option = [[Watch([module]) for module in modules] for _, _, modules, _, _ in edges]
        lowered = [option for option in self.preprocess if option is not None]
        lowered += [option for edge in self.edges for option in edge.options]
        self._norms = [norm for option in lowered for norm in option.norms()]
        self._selections: dict[tuple[int, ...], Selection] = {}
        self._watched: dict[tuple[int, ...] | None, Watch] = {}

    def is_current(self, active: Sequence[int] | None = None) -> bool:
        """Whether the modules are still made of the layers that the plan was read from.

        Args:    active: look at these options alone, PRUNED for none, MIXED for all; None: at all.
        """
        if None in [norm.momentum for norm in self._norms]:  # as torch.optim.swa_utils.update_bn leaves it
            return False
        if not classes_are_their_own():
            return False
        return self._watched_by(None if active is None else tuple(active)).holds()

    def _watched_by(self, active: tuple[int, ...] | None) -> Watch:
        found = self._watched.get(active)
        if found is None:
            parts = [self._always]
            for options, number in zip(self._of_option, active or repeat(None), strict=False):
                if number is None or number == MIXED:
                    parts += options
                elif PRUNED < number < len(options):
                    parts.append(options[number])
            if len(self._watched) >= _SELECTIONS_KEPT:
                self._watched.clear()
            found = self._watched[active] = reduce(add, parts)
        return found

    def selection(self, active: Sequence[int]) -> "Selection":
        """What runs with these options, PRUNED for none, MIXED for all, in the order of the plan; remembered.

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
        chosen: the options that run, in the order of their nodes; of_node: their numbers for each node.
        program: preprocessing and chosen edges for the native cell.
    """

    def __init__(self, plan: CellPlan, active: tuple[int, ...]) -> None:
        chosen = []
        for position, (edge, option) in enumerate(zip(plan.edges, active, strict=True)):
            if option not in (PRUNED, MIXED) and not 0 <= option < len(edge.options):
                last = len(edge.options) - 1
                raise ValueError(f"expected active in {PRUNED}..{last} or None, got {option}")
            numbers = range(len(edge.options)) if option == MIXED else (option,) if option != PRUNED else ()
            chosen += [
                Chosen(position, edge, edge.options[number], number, option == MIXED)
                for number in numbers
                if not edge.options[number].none
            ]
        place = sum(len(option.parameters()) for option in plan.preprocess if option is not None)
        ordered = []
        for c in sorted(chosen, key=lambda c: c.edge.node):
            place += len(c.option.parameters())
            norm = c.option.last_norm()
            ordered.append(replace(c, affine=place - 2 if norm is not None and norm.affine else None))
        self.chosen = tuple(ordered)
        self.of_node = tuple(
            tuple(i for i, c in enumerate(self.chosen) if c.edge.node == node) for node in range(plan.nodes)
        )
        self.program = cell_program(plan.preprocess, plan.nodes, plan.concat, self.chosen)
        self._plan, self._active = plan, active
        self._sources: SourcePrograms | None = None
        self._indices: dict[object, Tensor] = {}
        self.reach = Reach()  # to the parameters of the options that do not run

    def sources(self) -> SourcePrograms:
        """The options that do not run."""
        if self._sources is None:
            states = self._plan.inputs + self._plan.nodes
            self._sources = SourcePrograms(self._plan.edges, states, self._active)
        return self._sources

    def weights(self, gates: Tensor) -> Tensor:
        """(R, K) -> (E,): the entries of the E options that run; 1 where there is no choice."""
        rows = [(c.edge.row, c.number) for c in self.chosen]
        entries = [(row, number) for row, number in rows if row is not None]
        found = gates.reshape(-1).index_select(0, self.index(entries, gates.shape[1], gates.device))
        if len(entries) == len(rows):
            return found
        mixed = [i for i, (row, _) in enumerate(rows) if row is not None]
        return gates.new_ones(len(rows)).index_copy_(
            0, torch.tensor(mixed, dtype=torch.int64, device=gates.device), found
        )

    def index(self, entries: Sequence[tuple[int, int]], options: int, device: torch.device) -> Tensor:
        """Where the entries (row, option) of a gradient lie in its memory; kept on the device, so that a
        captured graph reads no host memory."""
        key = (tuple(entries), options, device)
        found = self._indices.get(key)
        if found is None:
            places = [row * options + option for row, option in entries]
            found = self._indices[key] = torch.tensor(places, dtype=torch.int64, device=device)
        return found


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
