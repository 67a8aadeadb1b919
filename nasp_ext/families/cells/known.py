# SPDX-License-Identifier: MIT
"""The spaces of cells of the literature."""

from nasp_ext.arch.primitive_names import DARTS_PRIMITIVES, NONE
from nasp_ext.arch.registry import register_space
from nasp_ext.families.cells.space import CellSpace

# Yao et al. 2020, appendix B.3, as in the authors' released space (the printed list lacks sep_conv_7x7).
_NASP_NORMAL = (
    "skip_connect",
    "conv_3x1_1x3",
    "dil_conv_3x3",
    "conv_1x1",
    "conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
)
_NASP_REDUCE = ("skip_connect", "avg_pool_3x3", "max_pool_3x3", "max_pool_5x5", "max_pool_7x7")
# Dong & Yang 2020 (NAS-Bench-201), section 2.1.
_NAS_BENCH_201 = (NONE, "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")

DARTS = register_space(CellSpace("darts", DARTS_PRIMITIVES, DARTS_PRIMITIVES))
NASP = register_space(CellSpace("nasp", _NASP_NORMAL, _NASP_REDUCE))
NAS_BENCH_201 = register_space(
    CellSpace(
        "nas-bench-201",
        _NAS_BENCH_201,
        nodes=3,
        inputs=1,
        edges_per_node=None,
        output="last",
        none_allowed=True,
        pool_norm=False,
    )
)
