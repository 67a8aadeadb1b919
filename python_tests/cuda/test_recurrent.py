# SPDX-License-Identifier: MIT
"""The CUDA side of recurrent cells against the reference, and how many launches whole sequences take.

Each test runs in the emulator, in several orders of threads, and on a GPU where there is one.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest
import torch
from block_cases import to
from torch import Tensor

from nasp_ext import ops
from nasp_ext.ops import reference

Close = Callable[[Tensor, Tensor, torch.dtype], None]
DTYPES = [torch.float32, torch.float64]
EPS = 0.1  # BNs of few rows multiply roundings by up to 1 / sqrt(eps)
NEEDS = list(product((False, True), repeat=3))
TANH, RELU, SIGMOID, IDENTITY = range(4)

# Terms (node, source, activation). A path through 3 nodes; all pairs of them, node 2 with two functions;
# a node without terms, and one that nothing reads.
PATH = ((1, 0, TANH), (2, 1, RELU), (3, 0, SIGMOID))
MIXTURE = ((1, 0, RELU), (2, 0, TANH), (2, 1, SIGMOID), (3, 0, IDENTITY), (3, 1, TANH), (3, 2, RELU))
GAPS = ((1, 0, IDENTITY), (3, 2, TANH), (3, 0, SIGMOID))


@dataclass(frozen=True)
class Cell:
    """The arguments of ``ops.recurrent_forward`` in their order, but ``keep``."""

    projected: Tensor
    hidden: Tensor
    entry: Tensor
    weights: list[Tensor]
    mask: Tensor | None
    terms: list[int]
    coefficients: Tensor | None
    outputs: list[int]
    norm: bool
    mean: Tensor | None
    var: Tensor | None
    eps: float = EPS

    def arguments(self) -> tuple[Any, ...]:
        return tuple(vars(self).values())

    def backward(
        self, grad: Tensor, tape: Sequence[Tensor], needs: tuple[bool, bool, bool]
    ) -> tuple[Any, ...]:
        return (grad, *self.arguments()[1:], *tape, *needs)

    def dots(self, grad_nodes: Tensor, tape: Sequence[Tensor]) -> tuple[Any, ...]:
        return grad_nodes, tape[1], tape[2], tape[4], self.weights, self.terms


def cell_of(
    terms: Sequence[tuple[int, int, int]],
    outputs: Sequence[int] = (1, 2, 3),
    statistics: str = "batch",
    masked: bool = True,
    weighted: bool = True,
    dtype: torch.dtype = torch.float64,
    sizes: tuple[int, int, int] = (3, 6, 10),
    nodes: int = 3,
) -> Cell:
    steps, batch, size = sizes

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=dtype)

    entry, *weights = (normal(size, 2 * size) / size**0.5 for _ in range(nodes + 1))
    given = statistics == "given"
    return Cell(
        projected=normal(steps, batch, 2 * size),
        hidden=normal(batch, size),
        entry=entry,
        weights=weights,
        mask=normal(batch, size) if masked else None,
        terms=[number for term in terms for number in term],
        coefficients=normal(len(terms)) if weighted else None,
        outputs=list(outputs),
        norm=statistics != "none",
        mean=normal(len(weights) + 1, size) if given else None,
        var=normal(len(weights) + 1, size).abs() + 0.5 if given else None,
    )


def cells(dtype: torch.dtype) -> list[Cell]:
    several = product((PATH, MIXTURE, GAPS), ("none", "given", "batch"), (False, True))
    found = [
        cell_of(terms, (1, 2, 3), statistics, masked, masked, dtype) for terms, statistics, masked in several
    ]
    return [
        *found,
        cell_of(PATH, (0, 2), "batch", True, False, dtype),  # node 3 reaches no output
        cell_of(PATH, (0,), "batch", False, True, dtype),  # no node does
        cell_of(MIXTURE, (3,), "given", True, True, dtype, sizes=(1, 1, 1)),
        cell_of(MIXTURE, (2, 3), "batch", True, True, dtype, sizes=(2, 70, 33)),
        cell_of((), (0, 1), "batch", False, False, dtype),
    ]


def up(value: Any) -> Any:
    """In float64."""
    if isinstance(value, Tensor):
        return value.double().cpu()
    return [up(item) for item in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_tape_is_that_of_the_reference(device: torch.device, close: Close, dtype: torch.dtype) -> None:
    for cell in cells(dtype):
        expected = reference.recurrent_forward(*up(cell.arguments()), True)
        tape = ops.recurrent_forward(*to(device, cell.arguments()), True)
        for found, wanted in zip(tape, expected, strict=True):
            close(found, wanted.to(dtype), dtype)
        out, *rest, norms = ops.recurrent_forward(*to(device, cell.arguments()), False)
        assert torch.equal(out, tape[0])
        assert torch.equal(norms, tape[-1])
        assert not any(t.numel() for t in rest)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_those_of_the_reference(device: torch.device, close: Close, dtype: torch.dtype) -> None:
    for number, cell in enumerate(cells(dtype)):
        grad = torch.randn_like(cell.projected[..., : cell.hidden.shape[1]])
        tape = ops.recurrent_forward(*to(device, cell.arguments()), True)
        before = [t.clone() for t in tape]
        for needs in {NEEDS[number % 8], (True, True, True)}:
            expected = reference.recurrent_backward(*up(cell.backward(grad, tape, needs)))
            gradients = ops.recurrent_backward(*to(device, cell.backward(grad, tape, needs)))
            for found, wanted in zip(gradients, expected, strict=True):
                close(found, wanted.to(dtype), dtype)
        assert all(map(torch.equal, tape, before))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dots_are_those_of_the_reference(device: torch.device, close: Close, dtype: torch.dtype) -> None:
    for cell in cells(dtype):
        tape = ops.recurrent_forward(*to(device, cell.arguments()), True)
        grad_nodes = torch.randn(tape[1][1:].shape, dtype=dtype)
        dots = ops.recurrent_dots(*to(device, cell.dots(grad_nodes, tape)))
        expected = reference.recurrent_dots(*up(cell.dots(grad_nodes, tape)))
        close(dots, expected.to(dtype), dtype)


def test_a_sequence_twice_has_the_same_bits(device: torch.device) -> None:
    cell = to(device, cell_of(MIXTURE, dtype=torch.float32, sizes=(3, 70, 9)).arguments())
    cell = Cell(*cell)
    tapes = [ops.recurrent_forward(*cell.arguments(), True) for _ in range(2)]
    assert all(map(torch.equal, *tapes))
    grad = torch.randn_like(tapes[0][0])
    gradients = [ops.recurrent_backward(*cell.backward(grad, tape, (True, True, True))) for tape in tapes]
    assert all(map(torch.equal, *gradients))
    dots = [ops.recurrent_dots(*cell.dots(gradients[0][4], tape)) for tape in tapes]
    assert torch.equal(*dots)


def test_a_nan_is_not_hidden(device: torch.device) -> None:
    cell = cell_of(PATH, statistics="none", masked=False)
    cell.projected[1, 2, 3] = torch.nan  # of a gate: one number of s_0, then the whole row
    out, states, *_ = ops.recurrent_forward(*to(device, cell.arguments()), True)
    assert states[0, 1].isnan().nonzero().tolist() == [[2, 3]]
    assert states[1:, 1:, 2].isnan().all()
    assert out.isnan().sum() == 2 * cell.hidden.shape[1]


def test_what_does_not_fit_raises_what_it_raises_on_the_cpu(device: torch.device) -> None:
    cell = cell_of(PATH)
    for wrong, message in (
        (replace(cell, hidden=cell.hidden[:, 1:]), "expected entry of shape"),
        (replace(cell, outputs=[4]), "expected states 0 to 3 in outputs"),
        (replace(cell, terms=[1, 1, 0]), "expected terms of a node 1 to 3"),
        (replace(cell, projected=cell.projected.float()), "expected projected in Double, found Float"),
        (cell_of(PATH, sizes=(2, 1, 5)), "expected more than one row for the statistics of the batch"),
    ):
        with pytest.raises(ValueError, match=message):
            ops.recurrent_forward(*to(device, wrong.arguments()), True)


# The sequence of the papers: 35 time steps, 8 nodes; NASP's path has a term for each node, DARTS's mixture
# every pair.
STEPS, NODES = 35, 8
EIGHT = tuple((node, (node - 1) // 2, node % 4) for node in range(1, NODES + 1))
EVERY_PAIR = tuple((node, source, TANH) for node in range(1, NODES + 1) for source in range(node))


def launches(emulator: ctypes.CDLL, action: Callable[[], Any]) -> tuple[Any, tuple[int, int, int]]:
    """What an action returns; its launches: kernels, matrix products, fills and copies by PyTorch."""
    before = emulator.nasp_launches(), emulator.nasp_matrix_products()
    with torch.autograd.profiler.profile() as profile:
        result = action()
    names = [event.name for event in profile.function_events]
    small = sum(names.count(f"aten::{name}") for name in ("zero_", "copy_", "clone"))
    return result, (
        emulator.nasp_launches() - before[0],
        emulator.nasp_matrix_products() - before[1],
        small,
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("path", [True, False], ids=["path", "mixture"])
def test_a_sequence_takes_a_kernel_and_a_product_for_each_node(
    emulator: ctypes.CDLL, path: bool, masked: bool
) -> None:
    """The launches of a GPU. A weight step is forward and backward; an architecture step needs no gradient of
    the weights or inputs, but dots."""
    emulator.nasp_set_order(ctypes.c_uint64(0))
    native = torch.ops.nasp_emulated
    terms = EIGHT if path else EVERY_PAIR
    cell = cell_of(*(terms, range(1, NODES + 1), "batch", masked), not path, sizes=(STEPS, 2, 3), nodes=NODES)
    tape, forward = launches(emulator, lambda: native.recurrent_forward(*cell.arguments(), True))
    grad = torch.randn_like(tape[0])

    def backward(*needs: bool) -> tuple[Any, tuple[int, int, int]]:
        return launches(emulator, lambda: native.recurrent_backward(*cell.backward(grad, tape, needs)))

    _, of_weights = backward(True, True, False)
    gradients, of_nodes = backward(False, False, True)
    _, of_dots = launches(emulator, lambda: native.recurrent_dots(*cell.dots(gradients[-1], tape)))

    passes, products, pairs = STEPS * (NODES + 1), STEPS * (len(terms) + 1), len(EVERY_PAIR)
    # The products of the entry are added to a copy of what is projected, made for all time steps at once.
    assert forward == (passes + masked, products, 1)
    # h_{-1}: one pass in the end. Weights: one product for each term, two for the entry where the hidden
    # state in front of the sequence lies apart from the others.
    assert of_weights == (passes + 1, products + len(terms) + (1 if masked else 2), 0)
    # Of the first time step nothing in front of s_0 is asked for, so no gradient reaches it.
    first = sum(source == 0 for _, source, _ in terms) + 1
    assert of_nodes == (passes - 1, products - first, 0)
    # Two kernels for each pair, a product where it did not run; the sums are set to 0 and converted.
    assert of_dots == (2 * pairs, pairs - len(terms), 1)
