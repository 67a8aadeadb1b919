# SPDX-License-Identifier: MIT
"""The cell of supernets and derived networks alike: a graph of edges, each a module."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import cast

import torch
from torch import Tensor, nn

from nasp_ext.arch.gates import MIXED, PRUNED, Choice
from nasp_ext.families.cells.layout import CellLayout, EdgeLayout, NetworkCell, Norms, Place
from nasp_ext.nn.attention import AttentionOp
from nasp_ext.nn.dispatch.branches import input_of
from nasp_ext.nn.dispatch.host_rows import is_constant
from nasp_ext.nn.fused.autograd import run_cell
from nasp_ext.nn.fused.chains import Projection
from nasp_ext.nn.fused.lowering import NotFusedError, check_plain
from nasp_ext.nn.fused.plan import CellPlan
from nasp_ext.nn.fused.policy import Fusion, why_not_fused
from nasp_ext.nn.fused.watch import Watch, Watched
from nasp_ext.nn.mixed_op import MixedOp
from nasp_ext.nn.partial import PartialMixedOp, part_of, parted, shuffled
from nasp_ext.nn.primitives import FactorizedReduce, build_primitive, relu_conv_bn, zeros_after_stride


class Cell(NetworkCell):
    """Each node sums its edges (NASP eq. 7); the output is the concatenation of the nodes in ``concat``,
    projected to the channels of a node if the layout says so.

    Two inputs are preprocessed: ReLU, 1×1 convolution, BN. A cell of one input reads the newer one, as it is.

    Args:
        coefficients: (edges,), factors of the edges; None = 1. Kept in the state_dict.
    """

    coefficients: Tensor | None

    def __init__(
        self,
        layout: CellLayout,
        place: Place,
        norms: Norms,
        coefficients: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.layout, self.channels, self.reduction = layout, place.channels, place.reduction
        if layout.inputs == 2:
            self.preprocess0, self.preprocess1 = preprocessing(place, norms.affine)
        self._ops = nn.ModuleList(
            _edge_module(edge, self.channels, self._stride(edge), norms) for edge in layout.edges
        )
        self.register_buffer("coefficients", coefficients)
        self.post: nn.Module = nn.Identity()
        if layout.projected:
            self.post = Projection(len(layout.concat), self.channels, norms.affine)
        self._fusion = Fusion()

    def forward(
        self,
        s0: Tensor,
        s1: Tensor,
        choices: Sequence[Choice] | None,
        drop_path_prob: float = 0.0,
        gates: Tensor | None = None,
    ) -> Tensor:
        """(B, C0, ·, ·), (B, C1, H, W) -> (B, width · C, H / s, W / s).

        Args:
            choices: the gates' rows, by row number; None for a cell without mixed edges.
            drop_path_prob: probability with which an edge of a sample is zeroed while training.
            gates: (R, K), the matrix of the rows; without it a cell with mixed edges is not fused.
        """
        drop = drop_path_prob if self.training else 0.0
        active = self._active(choices)
        if self._why_not_fused(s0, active, choices, drop, gates) is None:
            wanted = gates is not None and gates.requires_grad and torch.is_grad_enabled()
            plan = self._fusion.plan(self, self._plan, None if wanted else active)
            if plan is not None:
                unit = MIXED not in active and all(choice.unit for choice in choices or ())
                stride = 1 + self.reduction
                out = run_cell(
                    plan,
                    (s0, s1) if self.layout.inputs == 2 else (s1,),
                    gates if wanted else None,
                    active,
                    weights=None if unit else gates,
                    factors=self._factors(s0, active, drop),
                    size=(self.channels, -(-s1.shape[2] // stride), -(-s1.shape[3] // stride)),
                )
                return cast(Tensor, self.post(out))
        return cast(Tensor, self.post(self._plain(s0, s1, choices, drop)))

    def _plain(self, s0: Tensor, s1: Tensor, choices: Sequence[Choice] | None, drop: float) -> Tensor:
        two = self.layout.inputs == 2
        inputs = ((self.preprocess0, s0), (self.preprocess1, s1)) if two else ()
        states = [module(input_of(module, x)) for module, x in inputs] or [s1]
        sums: list[Tensor | None] = [None] * self.layout.nodes
        position = 0
        for node in range(self.layout.nodes):
            while position < len(self.layout.edges) and self.layout.edges[position].node == node:
                out = self._edge(position, states, choices, drop)
                total = sums[node]
                if out is not None:
                    sums[node] = out if total is None else total + out
                position += 1
            total = sums[node]
            empty = total is None
            states.append(zeros_after_stride(states[0], 1 + self.reduction) if empty else total)
        return torch.cat([states[state] for state in self.layout.concat], 1)

    def _plan(self) -> CellPlan:
        """The cell in the form of the fused engine. Raises NotFusedError."""
        if any(edge.partial_channels > 1 for edge in self.layout.edges):
            raise NotFusedError("its edges take a part of their channels past the operations")
        edges: list[tuple[int, int, Sequence[nn.Module], int | None, bool]] = []
        watched: list[Watched] = [self._modules, self._ops._modules]
        mixed = []
        for edge, module in zip(self.layout.edges, self._ops, strict=True):
            modules: Sequence[nn.Module] = [module]
            update = True
            if isinstance(module, MixedOp):
                if type(module) not in (MixedOp, AttentionOp):
                    raise NotFusedError(f"an edge is a {type(module).__name__}, which may run in another way")
                check_plain(module)
                modules, update = list(module._ops), module.update_unselected_stats
                watched += [module._ops._modules, module.settings]
                mixed.append(module)
            edges.append((edge.node, edge.source, modules, edge.row, update))
        inputs = (self.preprocess0, self.preprocess1) if self.layout.inputs == 2 else (None,)
        return CellPlan(inputs, edges, self.layout.nodes, self.layout.concat, Watch((), watched, mixed))

    def _active(self, choices: Sequence[Choice] | None) -> list[int]:
        """The option of each edge, MIXED for all."""
        rows = [None if choices is None else edge.row for edge in self.layout.edges]
        active = [0 if row is None or choices is None else choices[row].active for row in rows]
        return [MIXED if option is None else option for option in active]

    def _why_not_fused(
        self,
        x: Tensor,
        active: list[int],
        choices: Sequence[Choice] | None,
        drop: float,
        gates: Tensor | None,
    ) -> str | None:
        """Why this call runs the plain modules; the plan has its own reasons."""
        if self.coefficients is not None and self.coefficients.requires_grad:
            return "its coefficients are learnt"
        if choices is not None:
            if gates is None or gates.dtype != x.dtype or gates.device != x.device:
                return "the gates are of another dtype or device than the input"
            if any(o == MIXED and e.attention for o, e in zip(active, self.layout.edges, strict=True)):
                return "an edge is mixed by attention"
            if gates.requires_grad and (drop > 0 or self.coefficients is not None):
                return "an edge with a gradient of its gates has another factor"
        return why_not_fused(x)

    def _factors(self, x: Tensor, active: list[int], drop: float) -> list[Tensor | None]:
        """What the output of each edge counts times besides its gates, None = 1."""
        factors: list[Tensor | None] = [None] * len(active)
        for position, (edge, option) in enumerate(zip(self.layout.edges, active, strict=True)):
            parts = []
            if option == PRUNED:
                continue
            if self.coefficients is not None:
                parts.append(self.coefficients[position])
            if edge.times != 1:
                parts.append(x.new_full((), edge.times))
            if drop > 0 and not isinstance(self._ops[position], nn.Identity):
                parts.append(kept_samples(x, drop))
            if parts:
                factors[position] = reduce(torch.mul, parts)
        return factors

    def _only(self, edge: EdgeLayout, module: nn.Module, x: Tensor) -> Tensor:
        """Output of an edge that holds one operation, or is called without gates."""
        if edge.partial_channels > 1:
            part, past = parted(x, edge.partial_channels, self._stride(edge))
            return shuffled(module(input_of(module, part)), past, edge.partial_channels)
        return cast(Tensor, module(input_of(module, x)))

    def mixed_edges(self) -> list[tuple[int, MixedOp]]:
        """(row of the gates, module) of every mixed edge, in the order of the layout."""
        pairs = zip(self.layout.edges, self._ops, strict=True)
        return [(edge.row, op) for edge, op in pairs if edge.row is not None and isinstance(op, MixedOp)]

    def derived_edges(self, active: Sequence[int]) -> list[str]:
        mixed = enumerate(self.mixed_edges())
        return [f"_ops.{at}._ops.{active[row]}" for at, (row, _) in mixed if active[row] != PRUNED]

    def _stride(self, edge: EdgeLayout) -> int:
        return 2 if self.reduction and edge.source < self.layout.inputs else 1

    def _edge(
        self, position: int, states: list[Tensor], choices: Sequence[Choice] | None, drop: float
    ) -> Tensor | None:
        """Output of an edge, None where it is zero and nothing asks for its gradient."""
        edge, module = self.layout.edges[position], self._ops[position]
        x = states[edge.source]
        if edge.row is None or choices is None:
            out = self._only(edge, module, x)
        else:
            weights, active, unit = choices[edge.row]
            if active == PRUNED and is_constant(weights):
                return None
            out = module(x, weights[: len(edge.primitives)], active=active, unit=unit)
        if self.coefficients is not None:
            out = out * self.coefficients[position]
        if edge.times != 1:
            out = out * edge.times
        if drop > 0 and not isinstance(module, nn.Identity):
            out = out * kept_samples(out, drop).view(-1, 1, 1, 1)
        return out


@dataclass(frozen=True)
class FixedEdges:
    """Makes cells of one layout, see ``CellMaker``.

    Args:    coefficients: (edges,), see ``Cell``.
    """

    layout: CellLayout
    coefficients: Tensor | None = None

    @property
    def inputs(self) -> int:
        return self.layout.inputs

    @property
    def width(self) -> int:
        return self.layout.width

    def __call__(self, place: Place, norms: Norms) -> Cell:
        return Cell(self.layout, place, norms, self.coefficients)


def preprocessing(place: Place, affine: bool) -> tuple[nn.Module, nn.Module]:
    """What brings the two inputs of a cell to its channels, and the older one to the size of the newer."""
    older, newer = place.previous
    if place.shrunk:
        first: nn.Module = FactorizedReduce(older, place.channels, affine)
    else:
        first = relu_conv_bn(older, place.channels, 1, 1, affine)
    return first, relu_conv_bn(newer, place.channels, 1, 1, affine)


def _edge_module(edge: EdgeLayout, channels: int, stride: int, norms: Norms) -> nn.Module:
    divisor = edge.partial_channels
    if edge.row is None:
        (name,) = edge.primitives
        part = part_of(channels, divisor)
        return build_primitive(name, part, stride, affine=norms.affine, pool_norm=norms.pool_norm)
    kind: Callable[..., MixedOp] = AttentionOp if edge.attention else MixedOp
    if divisor > 1:
        kind = partial(PartialMixedOp, partial_channels=divisor)
    return kind(
        channels,
        stride,
        edge.primitives,
        affine=norms.affine,
        pool_norm=norms.pool_norm,
        update_unselected_stats=norms.update_unselected_stats,
    )


def kept_samples(x: Tensor, drop: float) -> Tensor:
    """(B,): 0 for samples that are dropped, else what keeps the mean (Larsson et al. 2017, FractalNet)."""
    keep = 1 - drop
    return x.new_empty(len(x)).bernoulli_(keep) / keep
