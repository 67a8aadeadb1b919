# SPDX-License-Identifier: MIT
"""The families of search spaces: of each its space, genotype, networks, derivation and drawing."""

from nasp_ext.families.cells import known as _cells  # noqa: F401  registers its spaces
from nasp_ext.families.topology import known as _topology  # noqa: F401  registers its spaces
