# SPDX-License-Identifier: MIT
"""The architecture as a value: gates, spaces and genotypes, the families they are of, the spaces by name."""

from nasp_ext.arch.family import Family, families, family_named, family_of, register_family
from nasp_ext.arch.gates import MIXED, PRUNED, Choice, Gates
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.registry import names, register_space, space
from nasp_ext.arch.search_space import SearchSpace, check_made_for

__all__ = [
    "MIXED",
    "PRUNED",
    "AnyGenotype",
    "Choice",
    "Family",
    "Gates",
    "SearchSpace",
    "check_made_for",
    "families",
    "family_named",
    "family_of",
    "names",
    "register_family",
    "register_space",
    "space",
]
