# SPDX-License-Identifier: MIT
"""Cells of the literature as data."""

from nasp_ext.families.cells.genotype import Genotype

# Published cells of Liu, Simonyan, Yang: DARTS (ICLR 2019). Without auxiliary head, at C = 36, 20 cells and
# 10 classes, V1 (first order) has 3,169,414 parameters and V2 (second order) 3,349,342.
GENOTYPES = {
    "DARTS_V1": Genotype(
        normal=(
            *(("sep_conv_3x3", 1), ("sep_conv_3x3", 0)),
            *(("skip_connect", 0), ("sep_conv_3x3", 1)),
            *(("skip_connect", 0), ("sep_conv_3x3", 1)),
            *(("sep_conv_3x3", 0), ("skip_connect", 2)),
        ),
        normal_concat=(2, 3, 4, 5),
        reduce=(
            *(("max_pool_3x3", 0), ("max_pool_3x3", 1)),
            *(("skip_connect", 2), ("max_pool_3x3", 0)),
            *(("max_pool_3x3", 0), ("skip_connect", 2)),
            *(("skip_connect", 2), ("avg_pool_3x3", 0)),
        ),
        reduce_concat=(2, 3, 4, 5),
    ),
    "DARTS_V2": Genotype(
        normal=(
            *(("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
            *(("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
            *(("sep_conv_3x3", 1), ("skip_connect", 0)),
            *(("skip_connect", 0), ("dil_conv_3x3", 2)),
        ),
        normal_concat=(2, 3, 4, 5),
        reduce=(
            *(("max_pool_3x3", 0), ("max_pool_3x3", 1)),
            *(("skip_connect", 2), ("max_pool_3x3", 1)),
            *(("max_pool_3x3", 0), ("skip_connect", 2)),
            *(("skip_connect", 2), ("max_pool_3x3", 1)),
        ),
        reduce_concat=(2, 3, 4, 5),
    ),
}
