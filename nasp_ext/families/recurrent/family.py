# SPDX-License-Identifier: MIT
"""The family of recurrent cells: networks, derivation and drawings."""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from nasp_ext.arch.family import Family
from nasp_ext.arch.gates import Gates
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.families.recurrent.drawing import recurrent_drawings
from nasp_ext.families.recurrent.dropout import Dropouts
from nasp_ext.families.recurrent.genotype import RecurrentGenotype
from nasp_ext.families.recurrent.network import RecurrentNetwork
from nasp_ext.families.recurrent.published import GENOTYPES
from nasp_ext.families.recurrent.space import RecurrentSpace


class RecurrentFamily(Family):
    """Language models of one recurrent cell."""

    kind: ClassVar[str] = "recurrent"
    space: ClassVar[type[SearchSpace] | None] = RecurrentSpace

    @property
    def published(self) -> Mapping[str, AnyGenotype]:
        return GENOTYPES

    def supernet(
        self,
        space: RecurrentSpace,
        vocabulary: int,
        embedding: int = 300,
        *,
        dropout: float = 0.0,
        dropouth: float = 0.0,
        dropoutx: float = 0.0,
        dropouti: float = 0.0,
        dropoute: float = 0.0,
    ) -> RecurrentNetwork:
        """See ``nasp_ext.supernet``."""
        drop = Dropouts(dropout, dropouth, dropoutx, dropouti, dropoute)
        return RecurrentNetwork(space, vocabulary, embedding, drop, norm=True)

    def derived(
        self,
        genotype: RecurrentGenotype,
        vocabulary: int,
        embedding: int = 850,
        *,
        dropout: float = 0.0,
        dropouth: float = 0.0,
        dropoutx: float = 0.0,
        dropouti: float = 0.0,
        dropoute: float = 0.0,
        norm: bool = False,
        coefficients: Tensor | None = None,
    ) -> RecurrentNetwork:
        """See ``nasp_ext.derived_network``."""
        drop = Dropouts(dropout, dropouth, dropoutx, dropouti, dropoute)
        return RecurrentNetwork(genotype, vocabulary, embedding, drop, norm=norm, coefficients=coefficients)

    def derive(self, supernet: RecurrentNetwork, gates: Gates, *, inherit_weights: bool) -> RecurrentNetwork:
        """See ``nasp_ext.derive``."""
        space = supernet.space
        assert space is not None  # of a supernet
        active = space.discrete(gates)
        genotype = space.genotype(gates)
        assert isinstance(genotype, RecurrentGenotype)
        kept = space.kept(active)
        values = gates.weight.detach()[list(kept), [active[row] for row in kept]]
        factors = values if inherit_weights and bool((values != 1).any()) else None
        net = RecurrentNetwork(
            genotype,
            supernet.vocabulary,
            supernet.embedding,
            supernet.dropouts,
            norm=inherit_weights and supernet.cell.norm is not None,
            coefficients=factors,
        )
        like = next(supernet.parameters())
        net.to(like.device, like.dtype)
        if inherit_weights:
            net.train(supernet.training)
            net.cell.norm = copy.deepcopy(supernet.cell.norm)  # with its settings and mode
            if supernet.decoder.weight is not supernet.encoder.weight:
                net.decoder.weight = nn.Parameter(net.decoder.weight.detach().clone())
            own = {} if factors is None else {"coefficients": factors.to(like)}
            net.load_state_dict(supernet.state_dict() | own)
        return net

    def depends_on_input(self, genotype: RecurrentGenotype, cells: int) -> bool:
        reached = {0}
        for step, source, _ in genotype.terms:
            reached |= {step} if source in reached else set()
        return not reached.isdisjoint(genotype.concat)

    def drawings(self, genotype: RecurrentGenotype) -> dict[str, str]:
        return recurrent_drawings(genotype)

    def read(self, data: Mapping[str, Any]) -> AnyGenotype:
        return RecurrentGenotype.from_json(data)

    def owns(self, data: Mapping[str, Any]) -> bool:
        return "recurrent" in data and "normal" not in data
