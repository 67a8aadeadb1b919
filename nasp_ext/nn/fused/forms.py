# SPDX-License-Identifier: MIT
"""What equal cells share: their options, and the lists of native calls with places for tensors.

Cells of one network differ in their tensors and in little else. So options, selections and encoded lists
are worked out once for all that are equal, with the place of each tensor in the table of a cell
(``encoding.Places``) instead of the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from nasp_ext.arch.gates import MIXED, PRUNED
from nasp_ext.nn.fused.encoding import Candidate, Mode
from nasp_ext.ops.program import (
    Lists,
    concatenated,
    encode_option,
    join_cell,
    join_source,
    join_sources,
    last_affine,
)
from nasp_ext.ops.program_values import ProgramEdge, SourceOption

SELECTIONS_KEPT = 64
Entry = tuple[int, int]  # row of the gates, option


class FormEdge(NamedTuple):
    """An edge from state ``source`` into node ``node`` (counted from 0, behind the inputs)."""

    node: int
    source: int
    row: int | None  # of the gates; None: its one option always runs
    update_unselected: bool
    candidates: tuple[Candidate, ...]


class Chosen(NamedTuple):
    """An option that runs."""

    position: int  # of its edge
    row: int | None
    number: int  # of the option
    affine: int | None  # where the weight of its last BatchNorm is among the parameters


class SharedOptions:
    """The options of equal cells; one object for all of them.

    Args:
        nodes: how many; preprocess: in front of each input, None for one that is used as it is.
        edges: in the order of the plan.
    """

    def __init__(
        self, nodes: int, preprocess: tuple[Candidate | None, ...], edges: tuple[FormEdge, ...]
    ) -> None:
        self.nodes, self.preprocess, self.edges = nodes, preprocess, edges
        self.by_node = sorted(range(len(edges)), key=lambda position: edges[position].node)
        states = range(len(preprocess) + nodes)
        self.leaving = [
            [i for i, edge in enumerate(edges) if edge.source == state and edge.row is not None]
            for state in states
        ]
        self._forms: dict[tuple[tuple[int, ...], tuple[Mode, ...]], CellForm] = {}

    @staticmethod
    def of(
        nodes: int, preprocess: tuple[Candidate | None, ...], edges: tuple[FormEdge, ...]
    ) -> SharedOptions:
        """The one object of all cells with these options."""
        key = nodes, preprocess, edges
        found = _SHARED.get(key)
        if found is None:
            found = _SHARED[key] = SharedOptions(*key)
        return found

    def form(self, concat: tuple[int, ...], modes: tuple[Mode, ...]) -> CellForm:
        """With these states as the output, and the BatchNorms in these modes; remembered."""
        key = concat, modes
        found = self._forms.get(key)
        if found is None:
            if len(self._forms) >= SELECTIONS_KEPT:
                self._forms.clear()
            found = self._forms[key] = CellForm(self, concat, modes)
        return found


_SHARED: WeakValueDictionary[object, SharedOptions] = WeakValueDictionary()


class CellForm:
    """Options whose BatchNorms are in known modes, each encoded once."""

    def __init__(self, shared: SharedOptions, concat: tuple[int, ...], modes: tuple[Mode, ...]) -> None:
        self.shared, self.concat, self.modes = shared, concat, modes
        self.preprocess = [
            None if chain is None else encode_option(chain.in_mode(modes, True))
            for chain in shared.preprocess
        ]
        self._lists: dict[tuple[int, int, bool], Lists] = {}
        self._unselected: dict[tuple[int, int, int], tuple[list[Entry], Lists]] = {}
        self._active: dict[tuple[int, ...], ActiveForm] = {}

    def active(self, options: tuple[int, ...]) -> ActiveForm:
        """What runs with these options, PRUNED for none, MIXED for all, in the order of the plan; remembered.

        Raises:  ValueError: for an option that an edge has not got.
        """
        found = self._active.get(options)
        if found is None:
            found = ActiveForm(self, options)
            if len(self._active) >= SELECTIONS_KEPT:
                self._active.clear()
            self._active[options] = found
        return found

    def lists(self, position: int, number: int, update: bool) -> Lists:
        """An option, with or without moving running statistics."""
        key = position, number, update
        found = self._lists.get(key)
        if found is None:
            candidate = self.shared.edges[position].candidates[number]
            found = self._lists[key] = encode_option(candidate.in_mode(self.modes, update))
        return found

    def unselected(self, position: int, selected: int, number: int) -> tuple[list[Entry], Lists]:
        """The options of an edge but for one, as a part of ``source_dots``; number: of the edge there."""
        key = position, selected, number
        found = self._unselected.get(key)
        if found is None:
            edge = self.shared.edges[position]
            assert edge.row is not None
            others = [k for k, c in enumerate(edge.candidates) if k != selected and c.option is not None]
            update = edge.update_unselected
            parts = [SourceOption(number, self.lists(position, k, update)) for k in others]
            found = self._unselected[key] = [(edge.row, k) for k in others], join_source(parts)
        return found


class SourceForm(NamedTuple):
    """The options that do not run, by the state that their edges leave: for each state the entry of each."""

    entries: list[list[Entry]]
    lists: Lists


class ActiveForm:
    """What of equal cells runs with one choice of options.

    Attributes:
        chosen: the options that run, in the order of their nodes; of_node: their numbers for each node.
        lists: of ``cell_forward``; norms: the places of the BatchNorms that run.
    """

    def __init__(self, form: CellForm, options: tuple[int, ...]) -> None:
        self._form, self._options = form, options
        shared, lists = form.shared, form.lists
        if len(options) != len(shared.edges):
            raise ValueError(f"expected the options of {len(shared.edges)} edges, got {len(options)}")
        chosen: list[Chosen] = []
        edges = []
        self.of_node: list[list[int]] = [[] for _ in range(shared.nodes)]
        self.norms = [i for chain in shared.preprocess if chain is not None for i in chain.norms]
        place = sum(len(chain.weights) for chain in form.preprocess if chain is not None)
        for position in shared.by_node:
            node, source, row, _, candidates = shared.edges[position]
            option = options[position]
            if option not in (PRUNED, MIXED) and not 0 <= option < len(candidates):
                last = len(candidates) - 1
                raise ValueError(f"expected active in {PRUNED}..{last} or None, got {option}")
            mixed = option == MIXED
            for number in range(len(candidates)) if mixed else (option,) if option != PRUNED else ():
                runs = candidates[number].option
                if runs is None:
                    continue
                encoded = lists(position, number, True)
                place += len(encoded.weights)
                self.of_node[node].append(len(chosen))
                chosen.append(Chosen(position, row, number, last_affine(runs, place)))
                edges.append(ProgramEdge(node, source, mixed, encoded))
                self.norms += candidates[number].norms
        self.chosen = tuple(chosen)
        self.modes = tuple([form.modes[i] for i in self.norms])
        self.lists = join_cell(shared.nodes, form.concat, form.preprocess, edges)
        self._sources: SourceForm | None = None
        self._indices: dict[object, Tensor] = {}

    def sources(self) -> SourceForm:
        """The options that do not run."""
        if self._sources is None:
            entries, states = [], []
            for leaving in self._form.shared.leaving:
                nodes: list[int] = []  # whose gradient each edge takes
                of_state: list[Entry] = []
                parts = []
                for position in leaving:
                    selected = self._options[position]
                    if selected == MIXED:
                        continue
                    found, lists = self._form.unselected(position, selected, len(nodes))
                    if found:
                        nodes.append(self._form.shared.edges[position].node)
                        of_state += found
                        parts.append(lists)
                entries.append(of_state)
                states.append((nodes, concatenated(parts)))
            self._sources = SourceForm(entries, join_sources(states))
        return self._sources

    def weights(self, gates: Tensor) -> Tensor:
        """(R, K) -> (E,): the entries of the E options that run; 1 where there is no choice."""
        entries = [(c.row, c.number) for c in self.chosen if c.row is not None]
        found = gates.reshape(-1).index_select(0, self.index("chosen", entries, gates))
        if len(entries) == len(self.chosen):
            return found
        rows = [(0, i) for i, c in enumerate(self.chosen) if c.row is not None]
        return gates.new_ones(len(self.chosen)).index_copy_(0, self.index("mixed", rows, gates), found)

    def index(self, name: object, entries: Sequence[Entry], gates: Tensor) -> Tensor:
        """Where entries (row, option) of the gates lie in their memory; kept on the device, so that a
        captured graph reads no host memory.

        Args:    name: the same for the same entries.
        """
        key = name, gates.shape[1], gates.device
        found = self._indices.get(key)
        if found is None:
            places = [row * gates.shape[1] + option for row, option in entries]
            found = self._indices[key] = torch.tensor(places, dtype=torch.int64, device=gates.device)
        return found
