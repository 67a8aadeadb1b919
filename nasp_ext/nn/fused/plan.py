# SPDX-License-Identifier: MIT
"""A cell, or a single mixed edge, as data for the fused engine: its options, and which of them run."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import repeat

from torch import Tensor, nn

from nasp_ext.arch.gates import MIXED, PRUNED
from nasp_ext.nn.fused.encoding import Candidate, Places, modes_of, read
from nasp_ext.nn.fused.forms import SELECTIONS_KEPT, ActiveForm, FormEdge, SharedOptions
from nasp_ext.nn.fused.lowering import LoweredOption, NotFusedError, lower
from nasp_ext.nn.fused.second_order import Reach
from nasp_ext.nn.fused.watch import Watch, classes_are_their_own
from nasp_ext.ops.program import Lists


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
        self.places = Places([], [], [])
        chains = tuple(None if module is None else self._chain(module) for module in preprocess)
        form_edges = tuple(
            FormEdge(node, source, row, update, tuple(self.places.add(_lowered(m)) for m in modules))
            for node, source, modules, row, update in edges
        )
        self._shared = SharedOptions.of(nodes, chains, form_edges)
        self.inputs, self.nodes, self.concat = len(preprocess), nodes, tuple(concat)
        self.reads_nodes = any(edge.source >= self.inputs for edge in form_edges)
        if len(set(self.concat)) < len(self.concat) or any(s < self.inputs for s in self.concat):
            raise NotFusedError("its output repeats a node or holds an input")
        self._always = Watch.of_all([watched, Watch(module for module in preprocess if module is not None)])
        self._of_option = [[Watch([module]) for module in modules] for _, _, modules, _, _ in edges]
        self._form = self._shared.form(self.concat, modes_of(self.places.norms))
        self._active: dict[tuple[int, ...], ActivePlan] = {}
        self._watched: dict[tuple[int, ...] | None, Watch] = {}
        self.reach = Reach()  # to the parameters of all options

    def _chain(self, module: nn.Module) -> Candidate:
        option = _lowered(module)
        if not option.chain:
            raise NotFusedError(f"{type(module).__name__} in front of an input is no convolution")
        return self.places.add(option)

    def with_output(self, concat: Sequence[int]) -> CellPlan:
        """The same edges with other states as the output."""
        other = copy.copy(self)
        other.concat, other._active = tuple(concat), {}
        other._form = self._shared.form(other.concat, self._form.modes)
        return other

    def is_current(self, active: Sequence[int] | None = None) -> bool:
        """Whether the modules are still made of the layers that the plan was read from.

        Args:    active: look at these options alone, PRUNED for none, MIXED for all; None: at all.
        """
        if None in [norm.momentum for norm in self.places.norms]:  # as torch's update_bn leaves it
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
            if len(self._watched) >= SELECTIONS_KEPT:
                self._watched.clear()
            found = self._watched[active] = Watch.of_all(parts)
        return found

    def active(self, options: Sequence[int], with_sources: bool = False) -> ActivePlan:
        """What runs with these options, PRUNED for none, MIXED for all, in the order of the plan; remembered.

        Args:    with_sources: the options that do not run are wanted, too.
        Raises:  ValueError: for an option that an edge has not got.
        """
        key = tuple(options)
        found = self._active.get(key)
        if found is None or not found.in_its_modes(with_sources):
            found = ActivePlan(self, self._form.active(key))
            if not found.in_its_modes(with_sources):
                self._form = self._shared.form(self.concat, modes_of(self.places.norms))
                found = ActivePlan(self, self._form.active(key))
            if len(self._active) >= SELECTIONS_KEPT:
                self._active.clear()
            self._active[key] = found
        return found


class ActivePlan:
    """What of a plan runs with one choice of options: what equal cells share, and the tensors of this one."""

    def __init__(self, plan: CellPlan, form: ActiveForm) -> None:
        self.plan, self.form = plan, form
        self._modes = plan._form.modes
        places = plan.places
        self._norms = [places.norms[i] for i in form.norms]
        self._weights = [places.weights[i] for i in form.lists.weights]
        self._statistics = [places.statistics[i] for i in form.lists.statistics]

    def in_its_modes(self, with_sources: bool) -> bool:
        """Whether the BatchNorms that run, or all of them, are in the modes that it was made for."""
        if with_sources:
            return modes_of(self.plan.places.norms) == self._modes
        return modes_of(self._norms) == self.form.modes

    def lists(self) -> Lists:
        """What ``cell_forward`` reads, with the tensors as they are now."""
        program, _, _, numbers = self.form.lists
        return Lists(program, read(self._weights), read(self._statistics), numbers)

    def with_sources(self) -> tuple[Lists, Lists, list[Tensor]]:
        """The same, the options that do not run, and all weights of the plan in the order of their places."""
        tensors = read(self.plan.places.weights)
        program, weights, _, numbers = self.form.lists
        cell = Lists(program, [tensors[i] for i in weights], read(self._statistics), numbers)
        program, weights, statistics, numbers = self.form.sources().lists
        held = self.plan.places.statistics
        moving = read([held[i] for i in statistics])
        return cell, Lists(program, [tensors[i] for i in weights], moving, numbers), tensors


def _lowered(module: nn.Module) -> LoweredOption:
    try:
        return lower(module)
    except NotFusedError as reason:
        raise type(reason)(f"{type(module).__name__}: {reason}") from None
