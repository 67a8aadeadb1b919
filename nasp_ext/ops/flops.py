# SPDX-License-Identifier: MIT
"""The convolutions that the fused operators compute, read from the arguments of a call.

A product of matrices counts as the 1 × 1 convolution that it is.

By the convention of torch.utils.flop_counter a convolution is two operations for each multiply-add, padding
included, forward and for each of its gradients; pools, norms, sums and inner products count nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch import Tensor

from nasp_ext.ops.program import decode_cell, decode_source, decode_sources
from nasp_ext.ops.program_values import CellProgram, Geometry, Option, SourceOption

Shape = tuple[int, ...]  # (N, C, H, W)


@dataclass(frozen=True)
class Convolution:
    """One run of a convolution.

    Args:    images: (N, C, H, W); weight: (O, C / groups, kh, kw).
    """

    images: Shape
    weight: Shape
    geometry: Geometry
    groups: int = 1

    def out(self) -> Shape:
        """(N, O, H', W')."""
        return (self.images[0], self.weight[0], *self.geometry.size(self.images))

    def flops(self) -> int:
        """Also of the gradient of its images, and of its weight: each pairs the same numbers."""
        return 2 * prod(self.out()) * prod(self.weight[1:])


@dataclass
class Work:
    """What a call computes: convolutions forward, and those of which it computes one gradient each."""

    forward: list[Convolution] = field(default_factory=list)
    gradients: list[Convolution] = field(default_factory=list)

    def flops(self) -> int:
        return sum(convolution.flops() for convolution in (*self.forward, *self.gradients))

    def add(self, convolutions: Sequence[Convolution]) -> None:
        self.forward += convolutions

    def add_gradients(self, block: Sequence[Convolution], images: bool, weights: bool) -> None:
        """The gradients of a block; a depthwise convolution is not kept, its product reads it anew."""
        if not (images or weights):
            return
        for convolution in block:
            behind_depthwise = convolution is not block[0] and block[0].groups > 1
            self.gradients += [convolution] * ((images or behind_depthwise) + weights)
        if weights and block[0].groups > 1:
            self.forward.append(block[0])


def block_convolutions(
    images: Sequence[int], depthwise: Tensor | None, products: Sequence[Tensor], geometry: Sequence[int]
) -> list[Convolution]:
    """Those of a block: the depthwise one and its product, a plain one, or the two of a FactorizedReduce."""
    around = Geometry(*geometry)
    if depthwise is None:
        return [Convolution(tuple(images), tuple(product.shape), around) for product in products]
    first = Convolution(tuple(images), tuple(depthwise.shape), around, groups=depthwise.shape[0])
    return [first, *(Convolution(first.out(), tuple(p.shape), Geometry()) for p in products)]


def _option_blocks(option: Option[Tensor], images: Shape) -> tuple[list[list[Convolution]], Shape]:
    """The convolutions of each block of an option, and the shape of its output."""
    if option.pool is not None:
        stride = option.pool.stride
        return [], (*images[:2], *((size - 1) // stride + 1 for size in images[2:]))
    blocks = []
    for block in option.chain:
        blocks.append(block_convolutions(images, block.depthwise, block.products, block.geometry))
        channels = sum(product.shape[0] for product in block.products)
        images = (images[0], channels, *blocks[-1][-1].out()[2:])
    return blocks, images


def _flat(blocks: Sequence[Sequence[Convolution]]) -> list[Convolution]:
    return [convolution for block in blocks for convolution in block]


class _CellShapes:
    """The blocks of a cell's options, and the shape of each state.

    Args:    empty: the shape of a node into which no edge runs.
    """

    def __init__(self, cell: CellProgram[Tensor], inputs: Sequence[Tensor], empty: Shape) -> None:
        self.states: list[Shape] = []
        self.of_input: list[list[list[Convolution]]] = []
        for option, x in zip(cell.preprocess, inputs, strict=True):
            blocks, shape = _option_blocks(option or Option(), tuple(x.shape))
            self.of_input.append(blocks)
            self.states.append(shape)
        self.of_edge: list[list[list[Convolution]]] = []
        for node in range(cell.nodes):
            shape = empty
            for i in cell.numbers_of(node):
                _, source, _, option = cell.edges[i]
                blocks, shape = _option_blocks(option, self.states[source])
                self.of_edge.append(blocks)
            self.states.append(shape)


def block_forward(
    x: Tensor,
    _: Any,
    depthwise: Tensor | None,
    products: Sequence[Tensor],
    geometry: Sequence[int],
    *rest: Any,
) -> Work:
    return Work(block_convolutions(x.shape, depthwise, products, geometry))


def block_backward(*arguments: Any) -> Work:
    x, _, depthwise, products, geometry, _, need_weights, out, _ = arguments[6:]
    work = Work()
    block = block_convolutions(x.shape, depthwise, products, geometry)
    work.add_gradients(block, out is not None, need_weights)
    return work


def source_dots(
    x: Tensor,
    _: Any,
    program: Sequence[int],
    weights: Sequence[Tensor],
    statistics: Any,
    numbers: Sequence[float],
) -> Work:
    return Work(_source_convolutions(tuple(x.shape), decode_source(program, weights, None, numbers)))


def _source_convolutions(state: Shape, options: Sequence[SourceOption]) -> list[Convolution]:
    return [c for _, option in options for c in _flat(_option_blocks(option, state)[0])]


def cell_forward(
    inputs: Sequence[Tensor],
    program: Sequence[int],
    weights: Sequence[Tensor],
    _: Any,
    numbers: Sequence[float],
    factors: Any,
    size: Sequence[int],
) -> Work:
    cell = decode_cell(program, weights, None, numbers)
    shapes = _CellShapes(cell, inputs, (len(inputs[0]), *size))
    return Work([c for blocks in (*shapes.of_input, *shapes.of_edge) for c in _flat(blocks)])


def cell_backward(
    grad: Tensor,
    inputs: Sequence[Tensor],
    _: Any,
    program: Sequence[int],
    weights: Sequence[Tensor],
    numbers: Sequence[float],
    factors: Any,
    weighted: bool,
    need_weights: bool,
    need_inputs: Sequence[int],
    sources: Sequence[int],
    source_weights: Sequence[Tensor],
    source_statistics: Sequence[Tensor],
    source_numbers: Sequence[float],
) -> Work:
    """As csrc/cell/cell_backward.h goes: from the last node to the first, then the inputs."""
    cell = decode_cell(program, weights, None, numbers)
    batch, channels, *size = grad.shape
    shapes = _CellShapes(cell, inputs, (batch, channels // len(cell.concat), *size))
    of_sources = decode_sources(sources, source_weights, source_statistics, source_numbers)
    known, first = set(cell.concat), len(inputs)  # states of which there is a gradient
    wanted = {
        i
        for i, needed in enumerate(need_inputs)
        if needed or (need_weights and cell.preprocess[i] is not None)
    }
    wanted |= set(range(first, first + cell.nodes))
    work = Work()
    for state in reversed(range(first + cell.nodes)):
        if of_sources:
            nodes, options = of_sources[state]
            if known & {first + node for node in nodes}:
                work.add(_source_convolutions(shapes.states[state], options))
        if state not in known:
            continue
        for i in cell.numbers_of(state - first):
            _, source, mixed, _ = cell.edges[i]
            if mixed:  # its output was not kept
                work.add(_flat(shapes.of_edge[i]))
            for number, block in enumerate(shapes.of_edge[i]):
                if source in wanted or need_weights:
                    work.add_gradients(block, number > 0 or source in wanted, need_weights)
            if source in wanted:
                known.add(source)
    for i, blocks in enumerate(shapes.of_input):
        if i in known & wanted:
            for number, block in enumerate(blocks):
                work.add_gradients(block, number > 0 or bool(need_inputs[i]), need_weights)
    return work


def _product(rows: int, weight: Tensor) -> Convolution:
    """(rows, H) times (H, 2H)."""
    size, columns = weight.shape
    return Convolution((rows, size, 1, 1), (columns, size, 1, 1), Geometry())


def recurrent_forward(
    projected: Tensor,
    hidden: Tensor,
    entry: Tensor,
    weights: Sequence[Tensor],
    mask: Any,
    terms: Sequence[int],
    *rest: Any,
) -> Work:
    rows = len(projected) * len(hidden)
    return Work([_product(rows, entry), *(_product(rows, weights[node - 1]) for node in terms[::3])])


def recurrent_backward(
    grad: Tensor,
    hidden: Tensor,
    entry: Tensor,
    weights: Sequence[Tensor],
    mask: Any,
    terms: Sequence[int],
    coefficients: Any,
    outputs: Sequence[int],
    *rest: Any,
) -> Work:
    """As csrc/recurrent/recurrent_backward.h goes: through the states from which a way leads to an output."""
    need_inputs, need_weights, need_nodes = rest[-3:]
    work, batch, steps = Work(), len(hidden), len(grad)
    if not (need_inputs or need_weights or need_nodes):
        return work
    reached, triples = set(outputs), list(zip(terms[::3], terms[1::3], strict=False))
    # In front of the first time step a gradient may not be asked for.
    of_first, of_hidden = (steps - (not needed) for needed in (need_inputs or need_weights, need_inputs))
    for node, source in reversed(triples):
        if node not in reached:
            continue
        reached.add(source)
        weight = weights[node - 1]
        work.gradients.append(_product(batch * (steps if source else of_first), weight))
        work.gradients += [_product(batch * steps, weight)] * need_weights
    if 0 in reached:
        work.gradients.append(_product(batch * of_hidden, entry))
        work.gradients += [_product(batch * steps, entry)] * need_weights
    return work


def recurrent_dots(grad_nodes: Tensor, *rest: Any) -> Work:
    """The products of the pairs that did not run."""
    (_, steps, batch, _), (weights, terms) = grad_nodes.shape, rest[-2:]
    ran = set(zip(terms[::3], terms[1::3], strict=False))
    pairs = [(node, source) for node in range(1, len(weights) + 1) for source in range(node)]
    return Work(
        [_product(steps * batch, weights[node - 1]) for node, source in pairs if (node, source) not in ran]
    )


# By the operator of torch.ops.nasp_ext whose arguments they take.
COUNTED: dict[str, Callable[..., Work]] = {
    function.__name__: function
    for function in (
        *(block_forward, block_backward, source_dots, cell_forward, cell_backward),
        *(recurrent_forward, recurrent_backward, recurrent_dots),
    )
}


def flops_of(name: str) -> Callable[..., int]:
    """The formula of an operator in the form of ``register_flop_formula(..., get_raw=True)``."""

    def formula(*arguments: Any, out_val: Any = None) -> int:
        return COUNTED[name](*arguments).flops()

    return formula
