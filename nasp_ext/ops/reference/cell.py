# SPDX-License-Identifier: MIT
"""A cell step by step, made of the operators of ``blocks`` or of their twins; see ``reference``.

With those of PyTorch it is the twin of ``cell_forward`` and ``cell_backward``; with fake tensors it tells
their shapes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nasp_ext.ops.reference.lists import Norm, Option, Program, Reader, cut


class Cell:
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
        cell = Reader(program, weights, statistics, numbers).program()
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
                total = _channels_last(states[0].new_zeros((len(states[0]), *size)))
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
        return [_channels_last(out), *kept]

    def _sum(self, terms: list[Tensor], norms: list[Tensor], factors: Tensor | None) -> Tensor:
        out = torch.empty_like(_channels_last(terms[0]))
        self.kernels.node_sum_(out, terms, norms, factors)
        return out

    def _option(
        self, option: Option, x: Tensor, kept: list[Tensor], moved: list[Any], norms_alone: bool
    ) -> tuple[Tensor, Tensor]:
        norm = x.new_empty((0, 0))
        if option.pool is not None:
            *shape, bn = option.pool
            x, norm = self.kernels.pool_forward(x, *shape, bn.exists, bn.parts(), bn.eps)
            _keep(bn, x, norm, kept, moved, norms_alone)
        before = None
        for block in option.chain:
            bn = block.norm
            x, norm = self.kernels.block_forward(
                *(x, before, block.depthwise, block.products, block.geometry, block.relu),
                *(bn.exists, bn.parts(), bn.eps),
            )
            _keep(bn, x, norm, kept, moved, norms_alone)
            before = norm if bn.exists else None
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
        cell = Reader(program, weights, None, numbers).program()
        lists = (source_weights, source_statistics, source_numbers)
        reverse = _Reverse(self.kernels, cell, grad, inputs, kept, weights)
        return reverse.run(factors, weighted, need_weights, need_inputs, cut(sources, lists))


class _Reverse:
    """The gradients of all states; nothing is spared, what is not asked for is dropped in the end."""

    def __init__(
        self,
        kernels: Any,
        cell: Program,
        grad: Tensor,
        inputs: Sequence[Tensor],
        kept: Sequence[Tensor],
        weights: Sequence[Tensor],
    ) -> None:
        self.kernels, self.cell, self.inputs = kernels, cell, inputs
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
            self.states.append(next(left) if loose else cell.slice(out, state))
            self.grads.append(None if loose else cell.slice(grad, state))
        self.none = grad.new_empty((0,))
        self.weight_grads = [self.none] * len(weights)

    def _again(self, option: Option, x: Tensor, norms: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """z and norm of each block or of the pool, from the norms alone."""
        found: list[tuple[Tensor, Tensor]] = []
        none = (None,) * 4
        if option.pool is not None:
            *shape, _ = option.pool
            return [(self.kernels.pool_forward(x, *shape, False, none)[0], norms[0])]
        for block, norm in zip(option.chain, norms, strict=True):
            before = found[-1][1] if found and found[-1][1].numel() else None
            x, _ = self.kernels.block_forward(
                *(x, before, block.depthwise, block.products, block.geometry, block.relu, False, none)
            )
            found.append((x, norm))
        return found

    def run(
        self,
        factors: Tensor | None,
        weighted: bool,
        need_weights: bool,
        need_inputs: Sequence[int],
        sources: list[Any],
    ) -> list[Tensor]:
        cell, first = self.cell, len(self.inputs)
        dots, all_sums = [self.none] * len(self.states), [self.none] * cell.nodes
        for state in reversed(range(len(self.states))):
            if sources:
                nodes, *arguments = sources[state]
                grads = [self.grads[first + node] for node in nodes]
                known = [g for g in grads if g is not None]
                if known:
                    filled = [torch.zeros_like(known[0]) if g is None else g for g in grads]
                    dots[state] = self.kernels.source_dots(self.states[state], filled, *arguments)
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
        out = torch.empty_like(_channels_last(x))
        if option.pool is not None:
            *shape, bn = option.pool
            self._norm_grads(bn, sums)
            self.kernels.pool_backward_(grad, factor, sums, *kept[0], bn.batch, x, *shape, out, None)
        elif option.chain:
            self._chain(option, kept, x, grad, factor, sums, out)
        else:
            out = grad if factor is None else grad * factor.view(-1, 1, 1, 1)
        known = self.grads[source]
        self.grads[source] = out if known is None else _channels_last(known + out)

    def _chain(
        self,
        option: Option,
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
            in_norm = kept[i - 1][1] if i and option.chain[i - 1].norm.exists else None
            to = torch.empty_like(source) if i else out
            in_sums, depthwise, products = self.kernels.block_backward(
                *(grad, factor, sums, *kept[i], block.norm.batch, source, in_norm, block.depthwise),
                *(block.products, block.geometry, block.relu, True, to, None),
            )
            found = products if block.depthwise is None else [depthwise, *products]
            self.weight_grads[block.place : block.place + len(found)] = found
            self._norm_grads(block.norm, sums)
            grad, factor, sums = to, None, in_sums

    def _norm_grads(self, norm: Norm, sums: Tensor) -> None:
        if norm.affine is not None:
            found = [sums[1].to(norm.affine[0].dtype), sums[0].to(norm.affine[1].dtype)]
            self.weight_grads[norm.place : norm.place + 2] = found

    def _preprocess(self, i: int) -> Tensor:
        option, grad = self.cell.preprocess[i], self.grads[i]
        if grad is None:
            return self.none
        if option is None:
            return grad
        z, norm = self.of_input[i][-1]
        sums = self.kernels.node_gradient_sums(grad, [z], [norm], None)[0]
        out = torch.empty_like(_channels_last(self.inputs[i]))
        self._chain(option, self.of_input[i], self.inputs[i], grad, None, sums, out)
        return out


def _keep(
    norm: Norm, z: Tensor, rows: Tensor, kept: list[Tensor], moved: list[Any], norms_alone: bool
) -> None:
    kept += [rows] if norms_alone else [z, rows]
    if norm.batches is not None:
        moved.append((norm, rows, z.numel() // z.shape[1]))


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
