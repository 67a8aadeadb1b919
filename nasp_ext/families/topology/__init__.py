# SPDX-License-Identifier: MIT
"""Cells whose nodes choose what they read: the CNN space of ASNG-NAS."""

from nasp_ext.arch.family import register_family
from nasp_ext.families.topology import known as _known  # noqa: F401  registers its spaces
from nasp_ext.families.topology.family import TopologyFamily

register_family(TopologyFamily())
