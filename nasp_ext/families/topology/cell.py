# SPDX-License-Identifier: MIT
"""The supernet cell of spaces in which nodes choose what they read."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from nasp_ext.arch.gates import Choice
from nasp_ext.families.cells.cell import kept_samples, preprocessing
from nasp_ext.families.cells.layout import NetworkCell, Norms, Place
from nasp_ext.families.topology.space import WiredSpace
from nasp_ext.nn.dispatch.branches import input_of
from nasp_ext.nn.dispatch.host_rows import is_constant
from nasp_ext.nn.fused.autograd import run_cell
from nasp_ext.nn.fused.chains import Projection
from nasp_ext.nn.fused.plan import CellPlan
from nasp_ext.nn.fused.policy import Fusion, why_not_fused
from nasp_ext.nn.fused.watch import Watch, Watched
from nasp_ext.nn.primitives import build_primitive


@dataclass(frozen=True)
class WiredLayout:
    """A cell whose edges and output are chosen at each call; makes it, see ``CellMaker``."""

    space: WiredSpace
    reduction: bool
    inputs: int = 2
    width: int = 1

    @property
    def primitives(self) -> tuple[str, ...]:
        return self.space.reduce if self.reduction else self.space.normal

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Every (node, source) that there may be a term for."""
        return [(node, source) for node in range(self.space.nodes) for source in range(2 + node)]

    def __call__(self, place: Place, norms: Norms) -> "WiredCell":
        return WiredCell(self, place, norms)


class Term(NamedTuple):
    """An operation that runs, and how often its output counts."""

    pair: int  # number of its (node, source)
    option: int
    times: int


class WiredCell(NetworkCell):
    """A cell whose edges are chosen at each call; it holds every operation on every (node, source).

    The slots of a node share them, as in the code of Akimoto et al. 2019: an operation that two slots choose
    on one source runs once and counts twice. A projection gives the loose ends the channels of one node.
    """

    def __init__(self, layout: WiredLayout, place: Place, norms: Norms) -> None:
        super().__init__()
        self.layout, self.reduction = layout, place.reduction
        self.preprocess0, self.preprocess1 = preprocessing(place, norms.affine)
        options = {"affine": norms.affine, "pool_norm": norms.pool_norm}
        self._ops = nn.ModuleList(
            nn.ModuleList(
                build_primitive(name, place.channels, 2 if place.reduction and source < 2 else 1, **options)
                for name in layout.primitives
            )
            for _, source in layout.pairs
        )
        self.post = Projection(layout.space.nodes, place.channels, norms.affine)
        self._numbers = {pair: number for number, pair in enumerate(layout.pairs)}
        self._fusion = Fusion()

    def forward(
        self,
        s0: Tensor,
        s1: Tensor,
        choices: Sequence[Choice],
        drop_path_prob: float = 0.0,
        gates: Tensor | None = None,
    ) -> Tensor:
        """(B, C0, ·, ·), (B, C1, H, W) -> (B, C, H / s, W / s).

        Args:
            choices, drop_path_prob: as for ``Cell``; gates: not needed.
        Raises:
            ValueError: if a row is pruned, dense, not exactly 1, or has a gradient.
        """
        terms, loose = self.wiring(_options(choices))
        drop = drop_path_prob if self.training else 0.0
        if why_not_fused(s0) is None:
            active = self._active(terms)
            plan = self._fusion.plan(self, self._plan, active)
            if plan is not None:
                out = self._fused(cast(_WiredPlan, plan), s0, s1, active, terms, loose, drop)
                return cast(Tensor, self.post(out, loose))
        return cast(Tensor, self.post(self._plain(s0, s1, terms, loose, drop), loose))

    def wiring(self, active: Sequence[int]) -> tuple[list[Term], tuple[int, ...]]:
        """The terms, node by node, and the loose ends.

        Args:    active: the option of each row of the gates.
        """
        space = self.layout.space
        found = space.terms(active, self.reduction)
        counted = Counter(found).items()
        terms = [
            Term(self._numbers[node, source], option, times) for (node, source, option), times in counted
        ]
        return terms, space.loose_ends(found)

    def derived_edges(self, active: Sequence[int]) -> list[str]:
        return [f"_ops.{term.pair}.{term.option}" for term in self.wiring(active)[0]]

    def derived_tensors(self, active: Sequence[int]) -> dict[str, Tensor]:
        """The weight of the derived cell's projection, which reads the loose ends alone."""
        return {"post.op.1.weight": self.post.weight_of(self.wiring(active)[1]).detach()}

    def _plain(
        self, s0: Tensor, s1: Tensor, terms: list[Term], loose: tuple[int, ...], drop: float
    ) -> Tensor:
        inputs = ((self.preprocess0, s0), (self.preprocess1, s1))
        states = [module(input_of(module, x)) for module, x in inputs]
        pairs = self.layout.pairs
        for node in range(self.layout.space.nodes):
            here = [term for term in terms if pairs[term.pair][0] == node]
            outputs = [self._term(term, states[pairs[term.pair][1]], drop) for term in here]
            states.append(reduce(torch.add, outputs))
        return torch.cat([states[2 + node] for node in loose], 1)

    def _term(self, term: Term, x: Tensor, drop: float) -> Tensor:
        module = self._module(term)
        out: Tensor = module(input_of(module, x))
        if term.times != 1:
            out = out * term.times
        if drop > 0 and not isinstance(module, nn.Identity):
            out = out * kept_samples(out, drop).view(-1, 1, 1, 1)
        return out

    def _fused(
        self,
        plan: "_WiredPlan",
        s0: Tensor,
        s1: Tensor,
        active: list[int],
        terms: list[Term],
        loose: tuple[int, ...],
        drop: float,
    ) -> Tensor:
        factors: list[Tensor | None] = [None] * len(active)
        for place, term in zip(self._places(terms), terms, strict=True):
            parts = [s0.new_full((), term.times)] if term.times != 1 else []
            if drop > 0 and not isinstance(self._module(term), nn.Identity):
                parts.append(kept_samples(s0, drop))
            factors[place] = reduce(torch.mul, parts) if parts else None
        return run_cell(plan.of_nodes(loose), (s0, s1), None, active, factors=factors)

    def _active(self, terms: list[Term]) -> list[int]:
        """The option of each edge of the plan, -1 for none."""
        active = [-1] * (self.layout.space.slots * len(self._ops))
        for place, term in zip(self._places(terms), terms, strict=True):
            active[place] = term.option
        return active

    def _places(self, terms: list[Term]) -> list[int]:
        """The edge of the plan for each term: a pair has one for each slot, as several may read it."""
        used: Counter[int] = Counter()
        places = []
        for term in terms:
            places.append(used[term.pair] * len(self._ops) + term.pair)
            used[term.pair] += 1
        return places

    def _plan(self) -> CellPlan:
        """The cell in the form of the fused engine. Raises NotFusedError."""
        return _WiredPlan(self)

    def _module(self, term: Term) -> nn.Module:
        return self.options(term.pair)[term.option]

    def options(self, pair: int) -> list[nn.Module]:
        """The operations on one (node, source)."""
        return list(cast(nn.ModuleList, self._ops[pair]))


class _WiredPlan(CellPlan):
    """Every edge that there may be, once for each slot; the output is set for each call."""

    def __init__(self, cell: WiredCell) -> None:
        space, pairs = cell.layout.space, cell.layout.pairs
        candidates = [cell.options(number) for number in range(len(pairs))]
        edges = [
            (node, source, modules, None, True)
            for _ in range(space.slots)
            for (node, source), modules in zip(pairs, candidates, strict=True)
        ]
        held: list[Watched] = [cell._modules, cell._ops._modules]
        held += [options._modules for options in cell._ops]
        concat = range(2, 2 + space.nodes)
        super().__init__(
            (cell.preprocess0, cell.preprocess1), edges, space.nodes, concat, Watch(mappings=held)
        )
        self._outputs: dict[tuple[int, ...], CellPlan] = {}

    def of_nodes(self, nodes: tuple[int, ...]) -> CellPlan:
        """The same edges with these nodes as the output."""
        found = self._outputs.get(nodes)
        if found is None:
            found = self._outputs[nodes] = self.with_output([2 + node for node in nodes])
        return found


def _options(choices: Sequence[Choice]) -> list[int]:
    """The option of each row.

    Raises:  ValueError: if a row is dense, not exactly 1, or has a gradient.
    """
    active = [choice.active for choice in choices]
    dense = [row for row, option in enumerate(active) if option is None]
    if dense or not all(choice.unit for choice in choices):
        found = f"row {dense[0]} is dense" if dense else "they have other weights than 1"
        raise ValueError(f"expected discrete gates of weight 1 for a space of chosen sources, but {found}")
    if not all(is_constant(choice.weights) for choice in choices):
        raise ValueError(
            "expected gates without a gradient for a space of chosen sources: take a strategy that learns "
            "from losses alone, such as asng or random"
        )
    return cast(list[int], active)
