# SPDX-License-Identifier: MIT
"""source_dots in plain PyTorch: an interpreter of its programs; see ``reference``."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nasp_ext.ops.program import decode_source
from nasp_ext.ops.program_values import Norm, Option
from nasp_ext.ops.reference.blocks import block_forward, node_sum_, pool_forward, update_statistics_


def source_dots(
    x: Tensor,
    grads: Sequence[Tensor],
    program: Sequence[int],
    weights: Sequence[Tensor],
    statistics: Sequence[Tensor],
    numbers: Sequence[float],
) -> Tensor:
    """<grads[e], O(x)> of every option."""
    dots = []
    for edge, option in decode_source(program, weights, statistics, numbers):
        dots.append((grads[edge].double() * _output(option, x).double()).sum())
    return torch.stack(dots).to(x.dtype) if dots else x.new_zeros(0)


def _output(option: Option[Tensor], x: Tensor) -> Tensor:
    pool = option.pool
    if pool is not None:
        z, _ = pool_forward(x, pool.max, pool.kernel, pool.stride, False)
        return _normalised(pool.norm, z)
    for block in option.chain:
        products = list(block.products)
        z, _ = block_forward(x, None, block.depthwise, products, block.geometry, block.relu, False)
        x = _normalised(block.norm, z)
    return x


def _normalised(norm: Norm[Tensor] | None, z: Tensor) -> Tensor:
    """z behind its BN, whose running statistics move."""
    if norm is None:
        return z
    # The norm of z itself: a pool of one pixel.
    _, rows = pool_forward(z, True, 1, 1, True, norm.parts(), norm.eps)
    if norm.running is not None and norm.batches is not None:
        (mean, var), count = norm.running, z.numel() // z.shape[1]
        update_statistics_([mean], [var], [norm.batches], [rows], [count], [norm.momentum])
    out = torch.empty_like(z)
    node_sum_(out, [z], [rows])
    return out
