# SPDX-License-Identifier: MIT
"""Spaces of recurrent cells: which activation stands between two states of a step."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from nasp_ext.arch.gates import PRUNED
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.primitive_names import NONE
from nasp_ext.arch.search_space import SearchSpace, check_primitives
from nasp_ext.checks import check_whole, typed
from nasp_ext.families.recurrent.activations import ACTIVATIONS
from nasp_ext.families.recurrent.genotype import MOST_STEPS, RecurrentGenotype


@dataclass(frozen=True)
class RecurrentSpace(SearchSpace):
    """Recurrent cells of so many steps, a choice for each pair of states (Liu et al. 2019; Yao et al. 2020).

    State 0 comes from the input and the hidden state; step i = 1 … N sums what the states before it send
    through its activations. Rows are numbered step by step, predecessors ascending. The mean of the states
    1 … N is the new hidden state.

    Args:
        name: the name it is found by.
        activations: the options of every row: names of ``ACTIVATIONS``, and ``none`` where mixtures have it.
        steps: N.
        edges_per_node: predecessors that a step keeps, None = all.
        none_allowed: an architecture may choose ``none``; else it only takes part in mixtures.
    Raises:
        ValueError: a list is empty, repeats a name or has an unknown one, or a number is too small or large.

    >>> from nasp_ext.arch import space
    >>> space("darts-rnn").rows, space("darts-rnn").options, space("darts-rnn").edge(2)
    (36, 5, (2, 1))
    """

    kind: ClassVar[str] = "recurrent"
    activations: tuple[str, ...]
    steps: int = 8
    edges_per_node: int | None = 1
    none_allowed: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "activations", tuple(self.activations))
        check_primitives("activations:", self.activations)
        unknown = [name for name in self.activations if name not in (NONE, *ACTIVATIONS)]
        if unknown or self.activations == (NONE,):
            raise ValueError(
                f"expected activations among {', '.join(ACTIVATIONS)}, and {NONE} beside them, "
                f"got {self.activations}"
            )
        check_whole("steps", self.steps, 1, MOST_STEPS)
        typed("none_allowed", "bool", self.none_allowed)
        if self.edges_per_node is not None:
            check_whole("edges_per_node", self.edges_per_node, 1, MOST_STEPS)

    def with_edges_per_node(self, kept: int | None) -> "RecurrentSpace":
        return replace(self, edges_per_node=kept)

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(step, predecessor) of every row; steps count from 1, state 0 is the first predecessor."""
        return tuple((step, source) for step in range(1, self.steps + 1) for source in range(step))

    @property
    def rows(self) -> int:
        """R = N (N + 1) / 2."""
        return len(self.edges)

    @property
    def node_offsets(self) -> tuple[int, ...]:
        """Row bounds of the steps: step i owns the i rows from offsets[i - 1]."""
        return tuple(step * (step + 1) // 2 for step in range(self.steps + 1))

    @property
    def concat(self) -> tuple[int, ...]:
        """The states whose mean is the new hidden state."""
        return tuple(range(1, self.steps + 1))

    def choices(self, row: int) -> tuple[str, ...]:
        self._checked(row)
        return self.activations

    def edge(self, row: int) -> tuple[int, int]:
        """(step, predecessor) of a row."""
        return self.edges[self._checked(row)]

    def edge_name(self, row: int) -> str:
        step, source = self.edge(row)
        return f"{source}→{step}"

    def selectable(self) -> Tensor:
        """(R, K) bool: the mask, without ``none`` unless the space allows it."""
        keep = self.mask()
        if NONE in self.activations and not self.none_allowed:
            keep[:, self.activations.index(NONE)] = False
        return keep

    def kept(self, active: Sequence[int]) -> tuple[int, ...]:
        """The rows that send something: neither pruned nor ``none``.

        Args:    active: the option of each row.
        """
        nothing = {PRUNED, *(k for k, name in enumerate(self.activations) if name == NONE)}
        return tuple(row for row, option in enumerate(active) if option not in nothing)

    def _genotype(self, active: tuple[int, ...]) -> AnyGenotype:
        """The pairs (activation, predecessor) of the rows that send something, step by step."""
        kept = self.kept(active)
        pairs = tuple((self.activations[active[row]], self.edge(row)[1]) for row in kept)
        counted = Counter(self.edge(row)[0] for row in kept)
        return RecurrentGenotype(pairs, self.concat, tuple(counted[step] for step in self.concat))
