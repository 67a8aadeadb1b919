# SPDX-License-Identifier: MIT
"""The family in which every layer has its own cell."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.families.cells.cell import FixedEdges
from nasp_ext.families.cells.family import CellFamily
from nasp_ext.families.cells.layout import CellLayout, CellMaker
from nasp_ext.families.cells.network import NetworkSizes
from nasp_ext.families.layered.genotype import LayeredGenotype
from nasp_ext.families.layered.space import LayeredSpace

_T = TypeVar("_T")
_FIELDS = {"layers", "layer_nodes", "concat"}


class LayeredFamily(CellFamily):
    """Stacks of cells between a stem and a classifier, each with choices of its own."""

    kind: ClassVar[str] = "layered"
    space: ClassVar[type[SearchSpace] | None] = LayeredSpace

    @property
    def published(self) -> Mapping[str, AnyGenotype]:
        return {}

    def makers(self, space: LayeredSpace) -> Sequence[CellMaker]:
        return [FixedEdges(CellLayout.of_space(space, rows, space.cell)) for rows in space.cell_rows]

    def pool_norm(self, space: LayeredSpace) -> bool:
        return space.cell.pool_norm

    def places(self, cells: Sequence[_T], sizes: NetworkSizes) -> list[_T | None]:
        if len(cells) != sizes.cells:
            raise ValueError(f"expected cells={len(cells)}, as each layer has its own, got {sizes.cells}")
        return list(cells)

    def read(self, data: Mapping[str, Any]) -> AnyGenotype:
        if set(data) != _FIELDS:
            found = sorted(map(str, data))
            raise ValueError(f"expected a layered genotype with the fields {sorted(_FIELDS)}, got {found}")
        return LayeredGenotype(**data)

    def owns(self, data: Mapping[str, Any]) -> bool:
        return "layers" in data
