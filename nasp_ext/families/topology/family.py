# SPDX-License-Identifier: MIT
"""The family of cells whose nodes choose what they read; what it derives are cells of fixed edges."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.families.cells.family import CellFamily
from nasp_ext.families.cells.layout import CellMaker
from nasp_ext.families.topology.cell import WiredLayout
from nasp_ext.families.topology.space import WiredSpace


class TopologyFamily(CellFamily):
    """Supernets whose cells are wired anew at each call."""

    kind: ClassVar[str] = "topology"
    space: ClassVar[type[SearchSpace] | None] = WiredSpace

    @property
    def published(self) -> Mapping[str, AnyGenotype]:
        return {}

    def makers(self, space: WiredSpace) -> Sequence[CellMaker]:
        return [WiredLayout(space, reduction) for reduction in (False, True)]

    def owns(self, data: Mapping[str, Any]) -> bool:
        return False
