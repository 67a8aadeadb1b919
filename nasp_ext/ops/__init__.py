# SPDX-License-Identifier: MIT
"""Operators with C++ and CUDA kernels; ``reference`` has the same names in plain PyTorch."""

from nasp_ext.ops import reference as reference
from nasp_ext.ops._native import NAN_ROW, PRUNED, check_selection
from nasp_ext.ops.blocks import (
    NormParts,
    block_backward,
    block_forward,
    empty_images,
    node_gradient_sums,
    node_sum_,
    pool_backward_,
    pool_forward,
    release_memory,
    source_dots,
    update_statistics_,
)
from nasp_ext.ops.cells import cell_backward, cell_forward
from nasp_ext.ops.mixture import branch_dots, mixed_sum
from nasp_ext.ops.prox import prox_c, prox_c1, prox_c2, select_active
from nasp_ext.ops.recurrent import recurrent_backward, recurrent_dots, recurrent_forward
from nasp_ext.ops.step import nasp_step_

__all__ = [
    "NAN_ROW",
    "PRUNED",
    "NormParts",
    "block_backward",
    "block_forward",
    "branch_dots",
    "cell_backward",
    "cell_forward",
    "check_selection",
    "empty_images",
    "mixed_sum",
    "nasp_step_",
    "node_gradient_sums",
    "node_sum_",
    "pool_backward_",
    "pool_forward",
    "prox_c",
    "prox_c1",
    "prox_c2",
    "recurrent_backward",
    "recurrent_dots",
    "recurrent_forward",
    "reference",
    "release_memory",
    "select_active",
    "source_dots",
    "update_statistics_",
]
