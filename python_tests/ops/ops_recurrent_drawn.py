# SPDX-License-Identifier: MIT
"""Hypothesis strategies for recurrent cells: awkward sizes, any terms, dropout, BNs of both kinds."""

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from ops_blocks_drawn import DTYPES, SEEDS, Numbers
from torch import Tensor

EPS = 0.1  # BNs of few rows multiply roundings by up to 1 / sqrt(eps)


@dataclass
class RecurrentCall:
    """The arguments of a forward but ``keep``, and what the others are made of."""

    numbers: Numbers
    projected: Tensor
    cell: tuple[Any, ...]

    def forward(self) -> tuple[Any, ...]:
        return self.projected, *self.cell

    def grad(self) -> Tensor:
        steps, batch, twice = self.projected.shape
        return self.numbers.normal(steps, batch, twice // 2)

    def backward(self, grad: Tensor, tape: tuple[Tensor, ...], needs: tuple[bool, ...]) -> tuple[Any, ...]:
        return grad, *self.cell, *tape, *needs

    def dots(self, grad_nodes: Tensor, tape: tuple[Tensor, ...]) -> tuple[Any, ...]:
        _, _, weights, _, terms, *_ = self.cell
        return grad_nodes, tape[1], tape[2], tape[4], weights, terms


def term_numbers(pairs: list[tuple[int, int, int]]) -> list[int]:
    return [number for term in pairs for number in term]


@st.composite
def recurrent_calls(draw: Any, steps: int = 3, batch: int = 6, size: int = 40) -> RecurrentCall:
    numbers = Numbers(draw(SEEDS), draw(DTYPES))
    steps, size, nodes = draw(st.integers(1, steps)), draw(st.integers(1, size)), draw(st.integers(1, 5))
    norm, of_batch, masked = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    batch = draw(st.integers(2 if norm and of_batch else 1, batch))
    every = [(node, source) for node in range(1, nodes + 1) for source in range(node)]
    chosen = [pair for pair in every if draw(st.integers(0, 2))]
    terms = term_numbers([(*pair, draw(st.integers(0, 3))) for pair in chosen])
    outputs = sorted(draw(st.sets(st.integers(0, nodes), min_size=1)))
    # The rows of W_0 behind those of the input: no start of a memory of its own.
    entry = (numbers.normal(size + 3, 2 * size) / size**0.5)[3:]
    weights = [numbers.normal(size, 2 * size) / size**0.5 for _ in range(nodes)]
    mask = (numbers.normal(batch, size) > -0.5).to(entry.dtype) * 1.5 if masked else None
    coefficients = numbers.normal(len(chosen)) if draw(st.booleans()) else None
    mean, var = numbers.normal(nodes + 1, size), numbers.normal(nodes + 1, size).abs() + 0.5
    given = (mean, var) if norm and not of_batch else (None, None)
    cell = numbers.normal(batch, size), entry, weights, mask, terms, coefficients, outputs, norm, *given, EPS
    return RecurrentCall(numbers, numbers.normal(steps, batch, 2 * size), cell)


def recurrent_samples() -> dict[str, list[tuple[Any, ...]]]:
    """Calls by the schemas of the operators."""
    given = {"mean": torch.zeros(9, 5), "var": torch.ones(9, 5), "mask": torch.full((3, 5), 2.0)}
    cells = [recurrent_call(), recurrent_call(**given), recurrent_call(terms=[], nodes=1, norm=False)]
    samples: dict[str, list[tuple[Any, ...]]] = {}
    for number, drawn in enumerate(cells):
        tape = torch.ops.nasp_ext.recurrent_forward(*drawn.forward(), True)
        needs = number < 2, number > 0, number != 1
        calls = {
            "recurrent_forward": (*drawn.forward(), number < 2),
            "recurrent_backward": drawn.backward(drawn.grad(), tape, needs),
            "recurrent_dots": drawn.dots(torch.ones_like(tape[1][1:]), tape),
        }
        for name, arguments in calls.items():
            samples.setdefault(name, []).append(arguments)
    return samples


# Eight steps as DARTS_V1 has them: one source and activation (of ``recurrent_forward``) for each.
DARTS_V1 = term_numbers(
    [(1, 0, 1), (2, 1, 1), (3, 2, 0), (4, 3, 1), (5, 4, 1), (6, 1, 3), (7, 5, 1), (8, 1, 1)]
)


def recurrent_call(
    steps: int = 2,
    batch: int = 3,
    size: int = 5,
    dtype: torch.dtype = torch.float32,
    terms: list[int] | None = None,
    nodes: int = 8,
    gain: float = 1.0,
    **changes: Any,
) -> RecurrentCall:
    """One cell; ``changes`` replace arguments by their names."""
    numbers = Numbers(7, dtype)
    entry, *weights = (numbers.normal(size, 2 * size) * (gain / size**0.5) for _ in range(nodes + 1))
    cell = {
        **{"hidden": numbers.normal(batch, size), "entry": entry, "weights": weights, "mask": None},
        **{"terms": DARTS_V1 if terms is None else terms, "coefficients": None},
        **{"outputs": list(range(1, nodes + 1)), "norm": True, "mean": None, "var": None, "eps": EPS},
    }
    projected = numbers.normal(steps, batch, 2 * size)
    assert changes.keys() <= cell.keys()
    return RecurrentCall(numbers, projected, tuple({**cell, **changes}.values()))
