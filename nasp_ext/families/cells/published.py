# SPDX-License-Identifier: MIT
"""Cells of the literature as data."""

from nasp_ext.families.cells.genotype import Genotype

# By the names that code of the field gives them; python_tests/nn/test_nn_published.py has their parameters.
GENOTYPES = {
    # NASNet-A of Zoph et al. (CVPR 2018), as the code of DARTS (Liu et al. 2019) writes it.
    "NASNet": Genotype(
        normal=(
            *(("sep_conv_5x5", 1), ("sep_conv_3x3", 0)),
            *(("sep_conv_5x5", 0), ("sep_conv_3x3", 0)),
            *(("avg_pool_3x3", 1), ("skip_connect", 0)),
            *(("avg_pool_3x3", 0), ("avg_pool_3x3", 0)),
            *(("sep_conv_3x3", 1), ("skip_connect", 1)),
        ),
        normal_concat=(2, 3, 4, 5, 6),
        reduce=(
            *(("sep_conv_5x5", 1), ("sep_conv_7x7", 0)),
            *(("max_pool_3x3", 1), ("sep_conv_7x7", 0)),
            *(("avg_pool_3x3", 1), ("sep_conv_5x5", 0)),
            *(("skip_connect", 3), ("avg_pool_3x3", 2)),
            *(("sep_conv_3x3", 2), ("max_pool_3x3", 1)),
        ),
        reduce_concat=(4, 5, 6),
    ),
    # AmoebaNet-A of Real et al. (AAAI 2019), as the code of DARTS writes it.
    "AmoebaNet": Genotype(
        normal=(
            *(("avg_pool_3x3", 0), ("max_pool_3x3", 1)),
            *(("sep_conv_3x3", 0), ("sep_conv_5x5", 2)),
            *(("sep_conv_3x3", 0), ("avg_pool_3x3", 3)),
            *(("sep_conv_3x3", 1), ("skip_connect", 1)),
            *(("skip_connect", 0), ("avg_pool_3x3", 1)),
        ),
        normal_concat=(4, 5, 6),
        reduce=(
            *(("avg_pool_3x3", 0), ("sep_conv_3x3", 1)),
            *(("max_pool_3x3", 0), ("sep_conv_7x7", 2)),
            *(("sep_conv_7x7", 0), ("avg_pool_3x3", 1)),
            *(("max_pool_3x3", 0), ("max_pool_3x3", 1)),
            *(("conv_7x1_1x7", 0), ("sep_conv_3x3", 5)),
        ),
        reduce_concat=(3, 4, 6),
    ),
    # Liu, Simonyan, Yang: DARTS (ICLR 2019), first order.
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
    # The same, second order.
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
    # Xu et al.: PC-DARTS (ICLR 2020), searched on CIFAR-10.
    "PC_DARTS_CIFAR": Genotype(
        normal=(
            *(("sep_conv_3x3", 1), ("skip_connect", 0)),
            *(("sep_conv_3x3", 0), ("dil_conv_3x3", 1)),
            *(("sep_conv_5x5", 0), ("sep_conv_3x3", 1)),
            *(("avg_pool_3x3", 0), ("dil_conv_3x3", 1)),
        ),
        normal_concat=(2, 3, 4, 5),
        reduce=(
            *(("sep_conv_5x5", 1), ("max_pool_3x3", 0)),
            *(("sep_conv_5x5", 1), ("sep_conv_5x5", 2)),
            *(("sep_conv_3x3", 0), ("sep_conv_3x3", 3)),
            *(("sep_conv_3x3", 1), ("sep_conv_3x3", 2)),
        ),
        reduce_concat=(2, 3, 4, 5),
    ),
    # The same, searched on ImageNet.
    "PC_DARTS_IMAGENET": Genotype(
        normal=(
            *(("skip_connect", 1), ("sep_conv_3x3", 0)),
            *(("sep_conv_3x3", 0), ("skip_connect", 1)),
            *(("sep_conv_3x3", 1), ("sep_conv_3x3", 3)),
            *(("sep_conv_3x3", 1), ("dil_conv_5x5", 4)),
        ),
        normal_concat=(2, 3, 4, 5),
        reduce=(
            *(("sep_conv_3x3", 0), ("skip_connect", 1)),
            *(("dil_conv_5x5", 2), ("max_pool_3x3", 1)),
            *(("sep_conv_3x3", 2), ("sep_conv_3x3", 1)),
            *(("sep_conv_5x5", 0), ("sep_conv_3x3", 3)),
        ),
        reduce_concat=(2, 3, 4, 5),
    ),
    # Yao et al.: NASP (AAAI 2020), the cell of 12 operations in the authors' code (2.44 % on CIFAR-10).
    "NASP": Genotype(
        normal=(
            *(("conv_3x1_1x3", 0), ("conv_3x3", 1)),
            *(("dil_conv_3x3", 2), ("conv_3x3", 1)),
            *(("dil_conv_3x3", 2), ("conv_3x3", 0)),
            *(("skip_connect", 0), ("dil_conv_3x3", 3)),
        ),
        normal_concat=(2, 3, 4, 5),
        reduce=(
            *(("max_pool_3x3", 0), ("max_pool_3x3", 1)),
            *(("skip_connect", 2), ("max_pool_5x5", 1)),
            *(("skip_connect", 2), ("skip_connect", 3)),
            *(("skip_connect", 0), ("skip_connect", 1)),
        ),
        reduce_concat=(2, 3, 4, 5),
    ),
}
