# SPDX-License-Identifier: MIT
"""The family of cells with a choice per edge: its networks, and what of it others made of cells share."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from nasp_ext.arch.family import Family, family_of
from nasp_ext.arch.gates import PRUNED, Gates
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.families.cells.cell import FixedEdges
from nasp_ext.families.cells.drawing import cell_drawings
from nasp_ext.families.cells.genotype import CellsGenotype, Genotype
from nasp_ext.families.cells.layout import CellLayout, CellMaker, NetworkCell, Norms
from nasp_ext.families.cells.network import Network, NetworkSizes
from nasp_ext.families.cells.published import GENOTYPES
from nasp_ext.families.cells.space import CellSpace

_T = TypeVar("_T")


class CellFamily(Family):
    """Stacks of cells between a stem and a classifier; a normal cell and one that reduces, or one alone."""

    kind: ClassVar[str] = "cells"
    space: ClassVar[type[SearchSpace] | None] = CellSpace

    @property
    def published(self) -> Mapping[str, AnyGenotype]:
        return GENOTYPES

    def makers(self, space: Any) -> Sequence[CellMaker]:
        """Of each cell that has rows of its own."""
        return [FixedEdges(CellLayout.of_space(space, rows, space)) for rows in space.cell_rows]

    def pool_norm(self, space: Any) -> bool:
        """Whether a BN follows the pools of a supernet."""
        found: bool = space.pool_norm
        return found

    def reductions(self, found: Any, cells: int) -> tuple[int, int] | None:
        """Where a space or a genotype wants the reductions of so many cells; None = at 1/3 and 2/3."""
        return None

    def places(self, cells: Sequence[_T], sizes: NetworkSizes) -> list[_T | None]:
        """What stands in each place of a network.

        Args:
            cells: of the normal and the reduction cell, or of the only one, which leaves the places of
                reductions to residual blocks (None).
        """
        both = (cells[0], cells[1] if len(cells) > 1 else None)
        return [both[sizes.reduces(number)] for number in range(sizes.cells)]

    def supernet(
        self,
        space: Any,
        channels: int = 16,
        cells: int = 8,
        classes: int = 10,
        *,
        in_channels: int = 3,
        stem_multiplier: int | None = None,
        affine: bool = False,
        pool_norm: bool | None = None,
        update_unselected_stats: bool = True,
    ) -> Network:
        """See ``nasp_ext.supernet``."""
        makers = self.makers(space)
        stem = _stem_multiplier(makers[0].inputs) if stem_multiplier is None else stem_multiplier
        reductions = self.reductions(space, cells)
        sizes = NetworkSizes(channels, cells, classes, in_channels, stem, reductions)
        with_norm = self.pool_norm(space) if pool_norm is None else pool_norm
        net = Network(self.places(makers, sizes), sizes, Norms(affine, with_norm, update_unselected_stats))
        net.space = space
        return net

    def derived(
        self,
        genotype: CellsGenotype,
        channels: int = 36,
        cells: int = 20,
        classes: int = 10,
        *,
        in_channels: int = 3,
        stem_multiplier: int | None = None,
        auxiliary: bool = False,
        affine: bool = True,
        pool_norm: bool = False,
        drop_path: float = 0.0,
        coefficients: Sequence[Tensor | None] | None = None,
        partial_channels: int = 1,
        fused: bool | None = None,
    ) -> Network:
        """See ``nasp_ext.derived_network``."""
        stem = _stem_multiplier(genotype.inputs) if stem_multiplier is None else stem_multiplier
        reductions = self.reductions(genotype, cells)
        sizes = NetworkSizes(channels, cells, classes, in_channels, stem, reductions)
        factors = [None] * len(genotype.cells) if coefficients is None else coefficients
        makers = [
            FixedEdges(CellLayout.of_genotype(genotype, cell, partial_channels), own)
            for cell, own in zip(genotype.cells, factors, strict=True)
        ]
        net = Network(
            self.places(makers, sizes),
            sizes,
            Norms(affine, pool_norm),
            auxiliary=auxiliary,
            drop_path=drop_path,
        )
        net.genotype, net.fused = genotype, fused
        return net

    def derive(self, supernet: Network, gates: Gates, *, inherit_weights: bool) -> Network:
        """See ``nasp_ext.derive``; the genotype may be of another family than the supernet."""
        space, sizes, norms = supernet.space, supernet.sizes, supernet.norms
        assert space is not None  # of a supernet
        active = space.discrete(gates)
        inherited: dict[str, Any] = {}
        if inherit_weights:
            inherited = {
                "affine": norms.affine,
                "pool_norm": norms.pool_norm,
                "coefficients": _coefficients(space, gates, active),
                "partial_channels": space.partial_channels,
            }
        genotype = space.genotype(gates)
        net = family_of(genotype).derived(
            genotype,
            sizes.channels,
            sizes.cells,
            sizes.classes,
            in_channels=sizes.in_channels,
            stem_multiplier=sizes.stem_multiplier,
            **inherited,
        )
        assert isinstance(net, Network)
        like = next(supernet.parameters())
        net.to(like.device, like.dtype)
        if inherit_weights:
            net.load_state_dict(_inherited(supernet, net, active))
            net.train(supernet.training)
        return net

    def depends_on_input(self, genotype: CellsGenotype, cells: int) -> bool:
        sizes = NetworkSizes(1, cells, 1, reductions=self.reductions(genotype, cells))
        before, last = True, True
        for cell in self.places(genotype.cells, sizes):
            reached = last if cell is None else genotype.leads_on(cell, (before, last)[-genotype.inputs :])
            before, last = last, reached
        return last

    def drawings(self, genotype: CellsGenotype) -> dict[str, str]:
        return cell_drawings(genotype)

    def read(self, data: Mapping[str, Any]) -> AnyGenotype:
        return Genotype.from_json(data)

    def owns(self, data: Mapping[str, Any]) -> bool:
        return "normal" in data


def _stem_multiplier(inputs: int) -> int:
    """Cells of one input have no preprocessing: the stem gives them their channels."""
    return 3 if inputs == 2 else 1


def _coefficients(space: SearchSpace, gates: Gates, active: tuple[int, ...]) -> list[Tensor | None] | None:
    """The active weights of the kept edges of each cell, None where all are 1."""
    if not space.has_gradient:
        return None  # its gates have no other weight than 1
    factors: list[Tensor | None] = []
    for rows in space.cell_rows:
        kept = [(row, active[row]) for row in rows if active[row] != PRUNED]
        values = torch.stack([gates.weight.detach()[at] for at in kept]) if kept else torch.ones(0)
        factors.append(None if (values == 1).all() else values)
    return factors


def _inherited(supernet: Network, net: Network, active: tuple[int, ...]) -> dict[str, Tensor]:
    """The supernet's state under the names of the derived network."""
    source, state = supernet.state_dict(), {}
    prefixes = {}
    for number, cell in enumerate(supernet.cells):
        assert isinstance(cell, NetworkCell)
        for position, name in enumerate(cell.derived_edges(active)):
            prefixes[f"cells.{number}._ops.{position}"] = f"cells.{number}.{name}"
        source |= {f"cells.{number}.{name}": own for name, own in cell.derived_tensors(active).items()}
    for name, value in net.state_dict().items():
        edge = ".".join(name.split(".")[:4])
        own = name.endswith(".coefficients")
        state[name] = value if own else source[prefixes.get(edge, edge) + name[len(edge) :]]
    return state
