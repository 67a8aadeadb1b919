# SPDX-License-Identifier: MIT
"""source_dots in plain PyTorch: an interpreter of its programs; see ``reference``."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nasp_ext.ops.reference.blocks import block_forward, node_sum_, pool_forward, update_statistics_
from nasp_ext.ops.reference.lists import counted, taken


def source_dots(
    x: Tensor,
    grads: Sequence[Tensor],
    program: Sequence[int],
    weights: Sequence[Tensor],
    statistics: Sequence[Tensor],
    numbers: Sequence[float],
) -> Tensor:
    """<grads[e], O(x)> of every option."""
    reader = _Reader(x, iter(program), iter(weights), iter(statistics), iter(numbers))
    dots = []
    for edge in reader.numbers:
        output = reader.option()
        dots.append((grads[edge].double() * output.double()).sum())
    left = [list(items) for items in (reader.weights, reader.statistics, reader.floats)]
    if any(left):
        raise ValueError(f"expected every weight, statistic and number to be used, found {left} left over")
    return torch.stack(dots).to(x.dtype) if dots else x.new_zeros(0)


class _Reader:
    """Reads the lists as csrc/source/program.h describes them, and runs what it reads."""

    def __init__(
        self,
        x: Tensor,
        numbers: Iterator[int],
        weights: Iterator[Tensor],
        statistics: Iterator[Tensor],
        floats: Iterator[float],
    ) -> None:
        self.x, self.numbers, self.weights = x, numbers, weights
        self.statistics, self.floats = statistics, floats

    def option(self) -> Tensor:
        """The output of the option that comes next."""
        kind = taken(self.numbers)
        if kind == 0:
            return self.x
        if kind == 1:
            largest, kernel_size, stride = taken(self.numbers), taken(self.numbers), taken(self.numbers)
            z, _ = pool_forward(self.x, bool(largest), kernel_size, stride, False)
            return self._normalised(z)
        y = self.x
        for _ in range(counted(self.numbers, 1)):
            y = self._block(y)
        return y

    def _block(self, x: Tensor) -> Tensor:
        has_depthwise, parts = taken(self.numbers), taken(self.numbers)
        geometry = [taken(self.numbers) for _ in range(8)]
        relu = bool(taken(self.numbers))
        depthwise = taken(self.weights) if has_depthwise else None
        products = [taken(self.weights) for _ in range(parts)]
        z, _ = block_forward(x, None, depthwise, products, geometry, relu, False)
        return self._normalised(z)

    def _normalised(self, z: Tensor) -> Tensor:
        """z behind the BN that comes next, whose running statistics move."""
        exists, affine, of_batch, moves = (taken(self.numbers) for _ in range(4))
        if not exists:
            return z
        weight, bias = (taken(self.weights), taken(self.weights)) if affine else (None, None)
        mean = var = None
        if moves or not of_batch:
            mean, var = taken(self.statistics), taken(self.statistics)
        batches = [taken(self.statistics)] if moves else []
        eps, momentum = taken(self.floats), taken(self.floats)
        parts = (weight, bias, None, None) if of_batch else (weight, bias, mean, var)
        # The norm of z itself: a pool of one pixel.
        _, norm = pool_forward(z, True, 1, 1, True, parts, eps)
        if mean is not None and var is not None and batches:
            count = z.numel() // z.shape[1]
            update_statistics_([mean], [var], batches, [norm], [count], [momentum])
        out = torch.empty_like(z)
        node_sum_(out, [z], [norm])
        return out
