# SPDX-License-Identifier: MIT
"""The backward of a cell step by step; see ``cell``."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nasp_ext.ops.program import encode_source
from nasp_ext.ops.program_values import Block, CellProgram, Norm, Option, StateSource


class Reverse:
    """The gradients of all states; nothing is spared, what is not asked for is dropped in the end.

    Args:    cell: with the places of its weights among ``weights``.
    """

    def __init__(
        self,
        kernels: Any,
        cell: CellProgram[int],
        grad: Tensor,
        inputs: Sequence[Tensor],
        kept: Sequence[Tensor],
        weights: Sequence[Tensor],
    ) -> None:
        self.kernels, self.cell, self.inputs, self.weights = kernels, cell, inputs, weights
        out, *rest = kept
        left = iter(rest)
        self.states = list(inputs)
        self.of_input: list[list[tuple[Tensor, Tensor]]] = [[] for _ in inputs]
        for i, chain in enumerate(cell.preprocess):
            if chain is not None:
                self.of_input[i] = [(next(left), next(left)) for _ in chain.chain]
                z, norm = self.of_input[i][-1]
                self.states[i] = next(left) if norm.numel() else z
        self.of_edge: list[list[tuple[Tensor, Tensor]]] = []
        self.grads: list[Tensor | None] = [None] * len(inputs)
        for node in range(cell.nodes):
            for i in cell.numbers_of(node):
                _, source, mixed, option = cell.edges[i]
                count = 1 if option.pool is not None else len(option.chain)
                if mixed:
                    norms = [next(left) for _ in range(count)]
                    self.of_edge.append(self._again(option, self.states[source], norms))
                else:
                    self.of_edge.append([(next(left), next(left)) for _ in range(count)])
            state, loose = len(inputs) + node, len(inputs) + node not in cell.concat
            self.states.append(next(left) if loose else _slice(cell, out, state))
            self.grads.append(None if loose else _slice(cell, grad, state))
        self.none = grad.new_empty((0,))
        self.weight_grads = [self.none] * len(weights)

    def _convolutions(self, block: Block[int]) -> tuple[Tensor | None, list[Tensor]]:
        depthwise = None if block.depthwise is None else self.weights[block.depthwise]
        return depthwise, [self.weights[place] for place in block.products]

    def _again(self, option: Option[int], x: Tensor, norms: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """z and norm of each block or of the pool, from the norms alone."""
        found: list[tuple[Tensor, Tensor]] = []
        none = (None,) * 4
        pool = option.pool
        if pool is not None:
            z, _ = self.kernels.pool_forward(x, pool.max, pool.kernel, pool.stride, False, none)
            return [(z, norms[0])]
        for block, norm in zip(option.chain, norms, strict=True):
            before = found[-1][1] if found and found[-1][1].numel() else None
            x, _ = self.kernels.block_forward(
                *(x, before, *self._convolutions(block), block.geometry, block.relu, False, none)
            )
            found.append((x, norm))
        return found

    def run(
        self,
        factors: Tensor | None,
        weighted: bool,
        need_weights: bool,
        need_inputs: Sequence[int],
        sources: Sequence[StateSource],
    ) -> list[Tensor]:
        cell, first = self.cell, len(self.inputs)
        dots, all_sums = [self.none] * len(self.states), [self.none] * cell.nodes
        for state in reversed(range(len(self.states))):
            if sources:
                nodes, options = sources[state]
                grads = [self.grads[first + node] for node in nodes]
                known = [g for g in grads if g is not None]
                if known:
                    filled = [torch.zeros_like(known[0]) if g is None else g for g in grads]
                    lists = encode_source(options)
                    dots[state] = self.kernels.source_dots(self.states[state], filled, *lists)
            grad, node = self.grads[state], state - first
            numbers = cell.numbers_of(node)
            if grad is None or not numbers:
                continue
            terms = [
                self.of_edge[i][-1][0] if self.of_edge[i] else self.states[cell.edges[i][1]] for i in numbers
            ]
            norms = [self.of_edge[i][-1][1] if self.of_edge[i] else grad.new_empty((0, 0)) for i in numbers]
            rows = None if factors is None else factors[numbers]
            sums = self.kernels.node_gradient_sums(grad, terms, norms, rows)
            all_sums[node] = sums
            if weighted and rows is not None:
                all_sums[node] = self.kernels.node_gradient_sums(grad, terms, norms, None)
            for place, i in enumerate(numbers):
                self._edge(i, grad, None if factors is None else factors[i], sums[place])
        input_grads = [self._preprocess(i) for i in range(first)]
        return [
            *(*dots, *all_sums),
            *(grad if wanted else self.none for grad, wanted in zip(input_grads, need_inputs, strict=True)),
            *(self.weight_grads if need_weights else [self.none] * len(self.weight_grads)),
        ]

    def _edge(self, number: int, grad: Tensor, factor: Tensor | None, sums: Tensor) -> None:
        _, source, _, option = self.cell.edges[number]
        x, kept = self.states[source], self.of_edge[number]
        out = torch.empty_like(in_channels_last(x))
        pool = option.pool
        if pool is not None:
            self._norm_grads(pool.norm, sums)
            self.kernels.pool_backward_(
                *(grad, factor, sums, *kept[0], _takes_batch(pool.norm)),
                *(x, pool.max, pool.kernel, pool.stride, out, None),
            )
        elif option.chain:
            self._chain(option, kept, x, grad, factor, sums, out)
        else:
            out = grad if factor is None else grad * factor.view(-1, 1, 1, 1)
        known = self.grads[source]
        self.grads[source] = out if known is None else in_channels_last(known + out)

    def _chain(
        self,
        option: Option[int],
        kept: list[tuple[Tensor, Tensor]],
        x: Tensor,
        grad: Tensor,
        factor: Tensor | None,
        sums: Tensor,
        out: Tensor,
    ) -> None:
        for i in reversed(range(len(option.chain))):
            block = option.chain[i]
            source = kept[i - 1][0] if i else x
            in_norm = kept[i - 1][1] if i and option.chain[i - 1].norm is not None else None
            to = torch.empty_like(source) if i else out
            in_sums, depthwise, products = self.kernels.block_backward(
                *(grad, factor, sums, *kept[i], _takes_batch(block.norm), source, in_norm),
                *(*self._convolutions(block), block.geometry, block.relu, True, to, None),
            )
            if block.depthwise is not None:
                self.weight_grads[block.depthwise] = depthwise
            for place, found in zip(block.products, products, strict=True):
                self.weight_grads[place] = found
            self._norm_grads(block.norm, sums)
            grad, factor, sums = to, None, in_sums

    def _norm_grads(self, norm: Norm[int] | None, sums: Tensor) -> None:
        if norm is not None and norm.affine is not None:
            for place, row in zip(norm.affine, (sums[1], sums[0]), strict=True):
                self.weight_grads[place] = row.to(self.weights[place].dtype)

    def _preprocess(self, i: int) -> Tensor:
        option, grad = self.cell.preprocess[i], self.grads[i]
        if grad is None:
            return self.none
        if option is None:
            return grad
        z, norm = self.of_input[i][-1]
        sums = self.kernels.node_gradient_sums(grad, [z], [norm], None)[0]
        out = torch.empty_like(in_channels_last(self.inputs[i]))
        self._chain(option, self.of_input[i], self.inputs[i], grad, None, sums, out)
        return out


def _takes_batch(norm: Norm[int] | None) -> bool:
    return norm is not None and norm.batch


def _slice(cell: CellProgram[int], images: Tensor, state: int) -> Tensor:
    """The channels of a state in the output of the cell, or in its gradient."""
    channels = images.shape[1] // len(cell.concat)
    return images.narrow(1, cell.concat.index(state) * channels, channels)


def in_channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
