# SPDX-License-Identifier: MIT
"""What the steps of a recurrent cell add up in one call."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from nasp_ext.arch.gates import MIXED, Gates
from nasp_ext.arch.primitive_names import NONE
from nasp_ext.families.recurrent.genotype import RecurrentGenotype
from nasp_ext.families.recurrent.space import RecurrentSpace
from nasp_ext.nn.dispatch.host_rows import is_constant


class Source(NamedTuple):
    """What one predecessor sends into a step."""

    step: int  # from 1
    state: int
    terms: tuple[int, ...]  # numbers of the terms, one for each activation
    names: tuple[str, ...]  # of the activations


@dataclass(frozen=True)
class Wiring:
    """The terms of a cell, in the order of steps and of predecessors.

    Args:
        terms: (step, predecessor, activation) each; steps count from 1.
        steps: N; concat: the states whose mean is the hidden state.
        weights: (P,) what each term counts, None = 1.
        gates: (R, K) where the gradient of every entry is wanted, of which ``weights`` are some.
        options: the names of its columns.
    """

    terms: tuple[tuple[int, int, str], ...]
    steps: int
    concat: tuple[int, ...]
    weights: Tensor | None = None
    gates: Tensor | None = None
    options: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[tuple[Source, ...], ...]:
        """Of each step, what its predecessors send."""
        found: list[list[Source]] = [[] for _ in range(self.steps)]
        numbered = enumerate(self.terms)
        for (step, state), group in groupby(numbered, key=lambda numbered: numbered[1][:2]):
            members = list(group)
            terms, names = tuple(n for n, _ in members), tuple(term[2] for _, term in members)
            found[step - 1].append(Source(step, state, terms, names))
        return tuple(map(tuple, found))

    @property
    def one_each(self) -> bool:
        """Whether every predecessor sends one activation at most into a step: no row is a mixture."""
        return len({term[:2] for term in self.terms}) == len(self.terms)

    @property
    def reached(self) -> set[int]:
        """The states from which a way leads to the hidden state: all where every entry of gates counts."""
        if self.gates is not None:
            return set(range(self.steps + 1))
        found = set(self.concat)
        for step, state, _ in reversed(self.terms):
            found |= {state} if step in found else set()
        return found

    @property
    def used(self) -> set[int]:
        """The steps whose weights count."""
        reached = self.reached
        reading = range(1, self.steps + 1) if self.gates is not None else (term[0] for term in self.terms)
        return reached.intersection(reading)

    def whole(self) -> "Wiring":
        """The same with a term for every entry of the gates, so that autograd gives the gradient of all."""
        assert self.gates is not None
        steps, options = range(1, self.steps + 1), [k for k, name in enumerate(self.options) if name != NONE]
        terms = tuple((i, j, self.options[k]) for i in steps for j in range(i) for k in options)
        return Wiring(terms, self.steps, self.concat, self.gates[:, options].flatten())


def wiring_of_genotype(genotype: RecurrentGenotype, weights: Tensor | None = None) -> Wiring:
    """Of a derived cell.

    Args:    weights: (P,) factors of its pairs, None = 1.
    """
    return Wiring(genotype.terms, genotype.steps, genotype.concat, weights)


def wiring_of_gates(space: RecurrentSpace, gates: Gates | None) -> Wiring:
    """Of a supernet at these gates.

    Raises:  ValueError: gates of another space, or an option that the rows lack.
    """
    if not isinstance(gates, Gates):
        expected = (space.rows, space.options)
        raise ValueError(f"expected Gates with weight {expected}, got {type(gates).__name__}")
    if gates.weight.shape != (space.rows, space.options):
        raise ValueError(
            f"expected gates of space {space.name!r}, {(space.rows, space.options)}, "
            f"got {tuple(gates.weight.shape)}"
        )
    active = (MIXED,) * space.rows if gates.active is None else gates.active
    every = [k for k, name in enumerate(space.activations) if name != NONE]
    entries = [
        (row, k)
        for row in space.kept(active)
        for k in (every if active[row] == MIXED else active[row : row + 1])
    ]
    terms = tuple((*space.edge(row), space.activations[k]) for row, k in entries)
    wanted = not is_constant(gates.weight)
    weights = None
    if not gates.unit or MIXED in active:
        rows, columns = [row for row, _ in entries], [k for _, k in entries]
        weights = gates.weight[rows, columns]
    return Wiring(
        terms, space.steps, space.concat, weights, gates.weight if wanted else None, space.activations
    )


def numbers(wiring: Wiring, names: Sequence[str]) -> list[int]:
    """The terms as the native operators take them: step, predecessor and number of the activation of each."""
    return [number for step, state, name in wiring.terms for number in (step, state, names.index(name))]


def scattered(dots: Tensor, wiring: Wiring, names: Sequence[str]) -> Tensor:
    """The gradient (R, K) of the gates from the dots (R, 4) of all activations; `none` gets 0."""
    nothing = dots.new_zeros(len(dots))
    columns = [nothing if name == NONE else dots[:, names.index(name)] for name in wiring.options]
    return torch.stack(columns, 1)
