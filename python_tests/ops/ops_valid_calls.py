# SPDX-License-Identifier: MIT
"""Right calls of every public operator, drawn once, for the torture to damage; and their twins."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ops_blocks_drawn import DTYPES, SEEDS, Numbers, behind, blocks, norm_parts, targets
from ops_cells_drawn import cells
from ops_drawn import masks, matrices
from ops_programs_drawn import programs
from ops_recurrent_drawn import recurrent_calls

from nasp_ext import ops
from nasp_ext.ops import reference

SIZES = st.tuples(*(st.integers(1, most) for most in (3, 10, 6, 6)))
Arguments = tuple[Any, ...]


def _pool(data: Any) -> tuple[Numbers, torch.Tensor, list[Any], Any]:
    numbers = Numbers(data.draw(SEEDS), data.draw(DTYPES), data.draw(st.booleans()))
    x = numbers.images(*data.draw(SIZES))
    shape = [data.draw(st.booleans()), data.draw(st.sampled_from([1, 3, 5])), data.draw(st.integers(1, 2))]
    return numbers, x, shape, data.draw(norm_parts(x.shape[1], numbers))


def pool_forward(data: Any) -> Arguments:
    _, x, shape, parts = _pool(data)
    return x, *shape, data.draw(st.booleans()), parts, 1e-3


def pool_backward_(data: Any) -> Arguments:
    numbers, x, shape, parts = _pool(data)
    z, norm = ops.pool_forward(x, *shape, data.draw(st.booleans()), parts, 1e-3)
    given_behind = data.draw(behind(z, norm, parts[2] is None, numbers))
    return *given_behind.arguments(), x, *shape, *data.draw(targets(x, numbers, required=True))


def _block(data: Any) -> tuple[Numbers, Any, Any]:
    block, numbers = data.draw(blocks(SIZES))
    return numbers, block, data.draw(norm_parts(sum(len(product) for product in block.products), numbers))


def block_forward(data: Any) -> Arguments:
    _, block, parts = _block(data)
    return *block.arguments(), data.draw(st.booleans()), parts, 1e-3


def block_backward(data: Any) -> Arguments:
    numbers, block, parts = _block(data)
    z, norm = ops.block_forward(*block.arguments(), data.draw(st.booleans()), parts, 1e-3)
    given_behind = data.draw(behind(z, norm, parts[2] is None, numbers))
    rest = data.draw(st.booleans()), *data.draw(targets(block.x, numbers))
    return *given_behind.arguments(), *block.arguments(), *rest


def _node(data: Any) -> tuple[Numbers, list[torch.Tensor], Arguments]:
    numbers = Numbers(data.draw(SEEDS), data.draw(DTYPES), data.draw(st.booleans()))
    shape, with_norm = data.draw(SIZES), data.draw(st.lists(st.booleans(), min_size=1, max_size=4))
    images = [numbers.images(*shape) for _ in range(len(with_norm) + 2)]
    norms = [numbers.norm(shape[1]) if one else images[0].new_empty(0, 0) for one in with_norm]
    factors = numbers.normal(len(norms), shape[0]) if data.draw(st.booleans()) else None
    return numbers, images, (images[2:], norms, factors)


def node_sum_(data: Any) -> Arguments:
    _, (out, other, *_), arguments = _node(data)
    return out, *arguments, data.draw(st.sampled_from([None, other, out]))


def node_gradient_sums(data: Any) -> Arguments:
    _, (grad, *_), arguments = _node(data)
    return grad, *arguments


def update_statistics_(data: Any) -> Arguments:
    numbers, count = Numbers(data.draw(SEEDS), data.draw(DTYPES)), data.draw(st.integers(1, 4))
    channels = [data.draw(st.integers(1, 20)) for _ in range(count)]
    means, variances = ([numbers.normal(c) for c in channels] for _ in range(2))
    batches, norms = [torch.tensor(3) for _ in channels], [numbers.norm(c) for c in channels]
    counts = [data.draw(st.integers(2, 2**31)) for _ in channels]
    return means, variances, batches, norms, counts, [data.draw(st.floats(0, 1)) for _ in channels]


def source_dots(data: Any) -> Arguments:
    return data.draw(programs()).arguments()


def cell_forward(data: Any) -> Arguments:
    return data.draw(cells()).forward()


def cell_backward(data: Any) -> Arguments:
    drawn = data.draw(cells())
    kept = ops.cell_forward(*drawn.forward())
    grad = drawn.numbers.normal(*kept[0].shape).to(memory_format=torch.channels_last)
    return drawn.backward(grad, kept)


def recurrent_forward(data: Any) -> Arguments:
    return *data.draw(recurrent_calls(2, 4, 6)).forward(), data.draw(st.booleans())


def recurrent_backward(data: Any) -> Arguments:
    drawn = data.draw(recurrent_calls(2, 4, 6))
    needs = data.draw(st.tuples(*(st.booleans() for _ in range(3))))
    return drawn.backward(drawn.grad(), ops.recurrent_forward(*drawn.forward(), True), needs)


def recurrent_dots(data: Any) -> Arguments:
    drawn = data.draw(recurrent_calls(2, 4, 6))
    tape = ops.recurrent_forward(*drawn.forward(), True)
    return drawn.dots(drawn.numbers.normal(*tape[1][1:].shape), tape)


def _tensors(data: Any) -> list[torch.Tensor]:
    numbers = Numbers(data.draw(SEEDS), data.draw(st.sampled_from([torch.float32, torch.bfloat16])))
    shape = data.draw(st.lists(st.integers(1, 4), max_size=4))
    return [numbers.normal(*shape) for _ in range(data.draw(st.integers(2, 5)))]


def mixed_sum(data: Any) -> Arguments:
    outputs = _tensors(data)
    return outputs, torch.linspace(-1, 1, len(outputs))


def branch_dots(data: Any) -> Arguments:
    grad, *outputs = _tensors(data)
    return grad, outputs


def prox(data: Any) -> Arguments:
    a = data.draw(matrices())
    return a, data.draw(masks(a))


def _matrix(data: Any) -> tuple[torch.Tensor, list[int] | None, int | None, torch.Tensor | None]:
    rows, options = data.draw(st.integers(2, 9)), data.draw(st.integers(1, 9))
    a = Numbers(data.draw(SEEDS), data.draw(DTYPES)).grid(rows, options, step=0.25)
    nodes = sorted({0, rows, data.draw(st.integers(1, rows))})
    mask = torch.rand(rows, options) < 0.8 if data.draw(st.booleans()) else None
    return a, *((nodes, data.draw(st.integers(1, 3))) if data.draw(st.booleans()) else (None, None)), mask


def select_active(data: Any) -> Arguments:
    return *_matrix(data), data.draw(st.booleans())


def nasp_step_(data: Any) -> Arguments:
    a, nodes, edges, mask = _matrix(data)
    moments = [torch.rand_like(a) for _ in range(2)] if data.draw(st.booleans()) else [None, None]
    cost = data.draw(st.sampled_from([None, torch.rand_like(a[0]), torch.rand_like(a)]))
    active = torch.zeros(len(a), dtype=torch.int32)
    numbers = data.draw(st.integers(1, 5)), 0.1, (0.5, 0.9), 1e-3, 0.1
    tensors = a.clamp(0, 1), torch.rand_like(a) - 0.5, torch.zeros_like(a), active, *moments
    return *tensors, *numbers, cost, 0.1, nodes, edges, mask, data.draw(st.booleans())


_STEP = ("step", "lr", "betas", "eps", "weight_decay", "cost", "eta", "node_offsets", "edges_per_node")
_STEP = (*_STEP, "mask", "keep_value")


def _by_name(function: Callable[..., Any], first: int, names: tuple[str, ...]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        if len(arguments) != first + len(names):
            raise TypeError("expected another number of arguments")
        return function(*arguments[:first], **dict(zip(names, arguments[first:], strict=True)))

    return call


@dataclass(frozen=True)
class Operator:
    """valid: draws right arguments; native and twin take them by position."""

    valid: Callable[[Any], Arguments]
    native: Callable[..., Any]
    twin: Callable[..., Any]


def _operator(valid: Callable[[Any], Arguments], name: str = "") -> Operator:
    name = name or valid.__name__
    return Operator(valid, getattr(ops, name), getattr(reference, name))


def _empty_images(data: Any) -> Arguments:
    return torch.ones(2), [data.draw(st.integers(1, 5)) for _ in range(4)]


OPERATORS = {
    function.__name__: _operator(function)
    for function in (
        *(block_forward, block_backward, pool_forward, pool_backward_, node_sum_, node_gradient_sums),
        *(update_statistics_, source_dots, cell_forward, cell_backward, mixed_sum, branch_dots),
        *(recurrent_forward, recurrent_backward, recurrent_dots),
    )
}
OPERATORS |= {name: _operator(prox, name) for name in ("prox_c", "prox_c1", "prox_c2")}
OPERATORS["select_active"] = Operator(
    select_active,
    _by_name(ops.select_active, 3, ("mask", "keep_value")),
    _by_name(reference.select_active, 3, ("mask", "keep_value")),
)
OPERATORS["nasp_step_"] = Operator(
    nasp_step_, _by_name(ops.nasp_step_, 6, _STEP), _by_name(reference.nasp_step_, 6, _STEP)
)
OPERATORS["empty_images"] = Operator(
    _empty_images,
    lambda like, size: ops.empty_images(like, size).to("meta"),  # new memory holds anything
    lambda like, size: torch.empty(size, dtype=like.dtype, device="meta", memory_format=torch.channels_last),
)


def drawn(operator: Operator, count: int) -> list[Arguments]:
    """The same arguments each time."""
    found: list[Arguments] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def draw(data: Any) -> None:
        found.append(operator.valid(data))

    draw()
    return found
