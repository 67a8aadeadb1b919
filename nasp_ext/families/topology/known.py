# SPDX-License-Identifier: MIT
"""The spaces of cells with a choice of wiring of the literature."""

from nasp_ext.arch.registry import register_space
from nasp_ext.families.topology.space import WiredSpace

# Akimoto et al. 2019 (ASNG-NAS), section 5.2, in the order of the text.
_ASNG = ("skip_connect", "sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3")

ASNG_CNN = register_space(WiredSpace("asng-cnn", _ASNG, _ASNG))
