# SPDX-License-Identifier: MIT
"""A cell step by step, made of the operators of ``blocks`` or of their twins; see ``reference``.

With those of PyTorch it is the twin of ``cell_forward`` and ``cell_backward``; with fake tensors it tells
their shapes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nasp_ext.ops.program import decode_cell, decode_sources
from nasp_ext.ops.program_values import Norm, Option
from nasp_ext.ops.reference.cell_reverse import Reverse, in_channels_last


class CellInterpreter:
    """Args:    kernels: a module with block_forward, block_backward, pool_forward and so on."""

    def __init__(self, kernels: Any) -> None:
        self.kernels = kernels

    def forward(
        self,
        inputs: Sequence[Tensor],
        program: Sequence[int],
        weights: Sequence[Tensor],
        statistics: Sequence[Tensor],
        numbers: Sequence[float],
        factors: Tensor | None,
        size: Sequence[int],
    ) -> list[Tensor]:
        """The output, then what the backward needs."""
        cell = decode_cell(program, weights, statistics, numbers)
        kept: list[Tensor] = []
        states: list[Tensor] = []
        moved: list[Any] = []
        for option, x in zip(cell.preprocess, inputs, strict=True):
            if option is None:
                states.append(x)
                continue
            z, norm = self._option(option, x, kept, moved, False)
            if norm.numel():
                z = self._sum([z], [norm], None)
                kept.append(z)
            states.append(z)
        for node in range(cell.nodes):
            found = []
            for i in cell.numbers_of(node):
                _, source, mixed, option = cell.edges[i]
                found.append(self._option(option, states[source], kept, moved, mixed))
            if found:
                rows = None if factors is None else factors[cell.numbers_of(node)]
                total = self._sum([z for z, _ in found], [norm for _, norm in found], rows)
            else:
                total = in_channels_last(states[0].new_zeros((len(states[0]), *size)))
            states.append(total)
            if len(inputs) + node not in cell.concat:
                kept.append(total)
        if moved:
            norms, rows_of, counts = zip(*moved, strict=True)
            self.kernels.update_statistics_(
                [n.running[0] for n in norms],
                [n.running[1] for n in norms],
                [n.batches for n in norms],
                *(list(rows_of), list(counts), [n.momentum for n in norms]),
            )
        out = torch.cat([states[state] for state in cell.concat], 1)
        return [in_channels_last(out), *kept]

    def _sum(self, terms: list[Tensor], norms: list[Tensor], factors: Tensor | None) -> Tensor:
        out = torch.empty_like(in_channels_last(terms[0]))
        self.kernels.node_sum_(out, terms, norms, factors)
        return out

    def _option(
        self, option: Option[Tensor], x: Tensor, kept: list[Tensor], moved: list[Any], norms_alone: bool
    ) -> tuple[Tensor, Tensor]:
        norm = x.new_empty((0, 0))
        pool = option.pool
        if pool is not None:
            x, norm = self.kernels.pool_forward(x, pool.max, pool.kernel, pool.stride, *_of_norm(pool.norm))
            _keep(pool.norm, x, norm, kept, moved, norms_alone)
        before = None
        for block in option.chain:
            x, norm = self.kernels.block_forward(
                *(x, before, block.depthwise, list(block.products), block.geometry, block.relu),
                *_of_norm(block.norm),
            )
            _keep(block.norm, x, norm, kept, moved, norms_alone)
            before = None if block.norm is None else norm
        return x, norm

    def backward(
        self,
        grad: Tensor,
        inputs: Sequence[Tensor],
        kept: Sequence[Tensor],
        program: Sequence[int],
        weights: Sequence[Tensor],
        numbers: Sequence[float],
        factors: Tensor | None,
        weighted: bool,
        need_weights: bool,
        need_inputs: Sequence[int],
        sources: Sequence[int] = (),
        source_weights: Sequence[Tensor] = (),
        source_statistics: Sequence[Tensor] = (),
        source_numbers: Sequence[float] = (),
    ) -> list[Tensor]:
        """Dots of each state, sums of each node, gradients of inputs and weights."""
        cell = decode_cell(program, range(len(weights)), None, numbers)
        reverse = Reverse(self.kernels, cell, grad, inputs, kept, weights)
        others = decode_sources(sources, source_weights, source_statistics, source_numbers)
        return reverse.run(factors, weighted, need_weights, need_inputs, others)


def _of_norm(norm: Norm[Tensor] | None) -> tuple[bool, tuple[Tensor | None, ...], float]:
    """What block_forward and pool_forward are told of the BatchNorm behind."""
    return (False, (None,) * 4, 0.0) if norm is None else (True, norm.parts(), norm.eps)


def _keep(
    norm: Norm[Tensor] | None,
    z: Tensor,
    rows: Tensor,
    kept: list[Tensor],
    moved: list[Any],
    norms_alone: bool,
) -> None:
    kept += [rows] if norms_alone else [z, rows]
    if norm is not None and norm.batches is not None:
        moved.append((norm, rows, z.numel() // z.shape[1]))
