# SPDX-License-Identifier: MIT
"""ASNG-NAS as a search strategy: Akimoto et al., ICML 2019, Alg. 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import torch
from torch import Tensor

from nasp_ext.arch.gates import PRUNED, Gates
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.checks import check_whole
from nasp_ext.optim import ASNG
from nasp_ext.states import check_keys, check_tensor, shown
from nasp_ext.strategies.base import LossFn, Strategy
from nasp_ext.strategies.matrix import kept_edges

# Each sample is a forward pass in every step: more would look like a search that hangs.
MOST_SAMPLES = 10_000


class ASNGStrategy(Strategy):
    """A distribution over the architectures of a space, moved by ASNG; λ_x + λ_θ of them per iteration.

    As in Alg. 1 the weights train on the mean loss of λ_x architectures (``proposals``), then the losses of
    λ_θ others on a steering batch, without a gradient, move the distribution they were all drawn from. A
    search begins with the second half: its weight step comes after ``step``. One device-to-host copy per
    iteration: the λ_θ losses.

    Variables: where a node keeps n of its edges, one variable chooses which n, and n variables choose the
    operations on the first, second … of them. So it is in the paper's own space, where a node has two inputs
    and an operation for each: every variable takes part in every architecture. With an operation for each
    *possible* edge the step of a pruned one would be noise. Two variables for the two inputs, as in the
    paper, could choose one edge twice, which our cells exclude; hence one variable over the pairs. Where all
    edges are kept, there is one variable per row. If the rows of a node differ in their options, each keeps
    a variable of its own.

    Args:
        space: the search space; ``none`` is never selected unless ``allow_none``.
        weight_lam: λ_x, architectures per weight step; lam: λ_θ, those per step of the distribution.
        alpha, delta0: as in ``ASNG``.
        seed: of the draws.
        edges_per_node: rows kept per node; None keeps all, "preset" the space's own number.
        dtype, device: of the gates; the distribution is a few numbers and stays on the CPU.

    >>> from nasp_ext.arch import space
    >>> search = ASNGStrategy(space("nasp"), seed=0)
    >>> target = torch.rand(28, 8)
    >>> loss = search.step(lambda gates: ((gates.weight - target) ** 2).sum())
    >>> len(search.proposals())
    2
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        weight_lam: int = 2,
        lam: int = 2,
        alpha: float = 1.5,
        delta0: float = 1.0,
        seed: int | None = None,
        edges_per_node: int | str | None = "preset",
        allow_none: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.space = space
        check_whole("weight_lam", weight_lam, 1, MOST_SAMPLES)
        check_whole("lam", lam, 2, MOST_SAMPLES)
        selectable = space.mask() if allow_none else space.selectable()
        options = [row.nonzero()[:, 0].tolist() for row in selectable]
        if not all(options):
            raise ValueError(f"expected an option in every row, found none in row {options.index([])}")
        self._shape = tuple(selectable.shape)
        keep = kept_edges(space, edges_per_node)
        self._nodes = list(_nodes(options, space.node_offsets, keep))
        self._categories = [count for node in self._nodes for count in node.categories]
        generator = torch.Generator().manual_seed(0 if seed is None else seed)
        self._search = ASNG(self._categories, None, lam, alpha, delta0, generator)
        self._like = torch.zeros((), dtype=dtype, device=device)
        self._weight_lam = weight_lam
        self._samples = self._search.draw(weight_lam)
        self._gates: tuple[Gates, ...] | None = None

    def propose(self) -> Gates:
        """The first of ``proposals()``."""
        return self.proposals()[0]

    def proposals(self) -> tuple[Gates, ...]:
        if self._gates is None:
            self._gates = tuple(map(self._decoded, self._samples.tolist()))
        return self._gates

    def step(self, loss_fn: LossFn) -> Tensor:
        """Returns the mean loss of the λ_θ architectures, none of which was proposed."""
        samples = self._search.ask()
        with torch.no_grad():
            losses = torch.stack([loss_fn(self._decoded(sample)) for sample in samples.tolist()])
        self._search.tell(samples, losses)
        self._samples, self._gates = self._search.draw(self._weight_lam), None
        return losses.mean()

    def best(self) -> Gates:
        """The most likely architecture."""
        return self._decoded(self._search.mle().tolist())

    def scores(self) -> Tensor:
        """The probability that a row is kept and holds the option."""
        scores = torch.zeros(self._shape, dtype=torch.float64)
        theta = iter(self._search.theta.tolist())
        for node in self._nodes:
            chosen, *operations = (next(theta) for _ in node.categories)
            for probability, subset in zip(chosen, node.subsets, strict=False):
                for row, slot in subset:
                    held = torch.tensor(operations[slot][: len(node.slots[slot])], dtype=torch.float64)
                    scores[row, node.slots[slot]] += probability * held
        return scores.to(self._like)

    def report(self) -> dict[str, Any]:
        return {name: value.item() for name, value in self._search.report().items()}

    @property
    def optimizer(self) -> ASNG:
        """The distribution and its step size."""
        return self._search

    def state_dict(self) -> dict[str, Any]:
        # What was asked for has been told: it is of no more use.
        asng = {**self._search.state_dict(), "asked": None}
        return {"categories": list(self._categories), "samples": self._samples.clone(), "asng": asng}

    def check_state(self, state: dict[str, Any], steps: int | None = None) -> None:
        """Also takes states of before there was ``weight_lam``, when the λ samples asked for were trained."""
        check_keys(state, ["categories", "asng"], "the state", optional=["samples"])
        categories = state["categories"]
        plain = isinstance(categories, list) and all(type(count) is int for count in categories)
        if not plain or categories != self._categories:
            raise ValueError(
                f"expected the state of a search over variables of {self._categories} options, found "
                f"{categories if plain else shown(categories)}: it is of another search space"
            )
        self._search.check_state(state["asng"], "asng")
        asked = state["asng"]["asked"]
        if ("samples" in state) != (asked is None):
            found = "both" if "samples" in state else "neither"
            raise ValueError(f"expected samples, or in an older state asng.asked, found {found}")
        if asked is None:
            check_tensor(state["samples"], self._samples, "samples", low=0)
            if not bool((state["samples"] < torch.tensor(self._categories)).all()):
                raise ValueError("expected samples to hold options, found a number beyond them")
        elif self._weight_lam > self._search.lam:
            raise ValueError(
                f"expected an older state of {self._weight_lam} samples (weight_lam) or more, found "
                f"{self._search.lam} (lam)"
            )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.check_state(state)
        self._search.load_state_dict(state["asng"])
        samples = state["samples"] if "samples" in state else self._search.asked()[: self._weight_lam]
        self._samples, self._gates = samples.clone(), None

    def _decoded(self, sample: Sequence[int]) -> Gates:
        active, values = [PRUNED] * self._shape[0], iter(sample)
        for node in self._nodes:
            chosen, *operations = (next(values) for _ in node.categories)
            for row, slot in node.subsets[chosen]:
                active[row] = node.slots[slot][operations[slot]]
        one_hot = torch.tensor(active)[:, None] == torch.arange(self._shape[1])
        return Gates(one_hot.to(self._like), tuple(active), unit=True)


@dataclass(frozen=True)
class _Node:
    """The variables of one node: which of its rows stay, then the options of each slot."""

    slots: list[list[int]]  # of each variable of an operation, the numbers of its options
    subsets: list[list[tuple[int, int]]]  # of each choice of rows, (row, slot) pairs

    @property
    def categories(self) -> list[int]:
        return [len(self.subsets), *map(len, self.slots)]


def _nodes(options: Sequence[list[int]], offsets: Sequence[int], keep: int | None) -> Iterator[_Node]:
    for low, high in pairwise(offsets):
        rows = range(low, high)
        kept = len(rows) if keep is None else min(keep, len(rows))
        if all(options[row] == options[low] for row in rows):
            subsets = [
                [(row, slot) for slot, row in enumerate(chosen)] for chosen in combinations(rows, kept)
            ]
            yield _Node([options[low]] * kept, subsets)
        else:
            subsets = [[(row, row - low) for row in chosen] for chosen in combinations(rows, kept)]
            yield _Node([options[row] for row in rows], subsets)
