# SPDX-License-Identifier: MIT
"""A whole cell in one native call, forward and backward; see ``blocks``, whose operators it is made of.

``ops.program`` writes the lists that describe a cell; csrc/cell/cell.h says what ``kept`` holds.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nasp_ext import _C as _C  # registers torch.ops.nasp_ext
from nasp_ext.ops import blocks
from nasp_ext.ops._native import mark_moved, register_fake
from nasp_ext.ops.reference.cell import CellInterpreter

_CELL_FORWARD = torch.ops.nasp_ext.cell_forward.default
_CELL_BACKWARD = torch.ops.nasp_ext.cell_backward.default
_FAKE = CellInterpreter(blocks)  # on fake tensors the operators of a cell are fake as well


def cell_forward(
    inputs: Sequence[Tensor],
    program: Sequence[int],
    weights: Sequence[Tensor],
    statistics: Sequence[Tensor],
    numbers: Sequence[float],
    factors: Tensor | None,
    size: Sequence[int],
) -> list[Tensor]:
    """Run the chosen option of each edge and sum them up in the nodes (Yao et al. 2020, eq. 7).

    Args:
        inputs: (N, C_i, H_i, W_i) each, channels_last.
        program, weights, statistics, numbers: the cell; running statistics move as the modules' would.
        factors: (E, N), what each of the E edges that run counts times; None = 1.
        size: channels, height and width of a node, for cells in which no edge runs.
    Returns: the output (N, len(concat) · C, H, W), channels_last, then what ``cell_backward`` needs.
    Raises:  ValueError: for a program that does not fit its tensors.
    """
    arguments = (inputs, program, weights, statistics, numbers, factors, size)
    kept: list[Tensor] = blocks.run_operator(_CELL_FORWARD, *arguments)
    mark_moved(statistics)
    return kept


def cell_backward(
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
    """The gradients of a cell, and with ``sources`` the inner products of the options that did not run.

    Args:
        grad: of the output; kept: the output and what the forward kept.
        weighted: the factors are gates, one number in each row: the sums of the edges are those in front of
            them.
        need_weights, need_inputs: what is asked for; one flag (0 or 1) for each input.
        sources, …: see csrc/program/cell_sources.h; empty if the gradient of the options is not asked for.
    Returns:
        for each state (inputs, then nodes) the inner products of its options, for each node the sums
        (E, 2, C) of its edges, see ``node_gradient_sums``, the gradients of inputs and weights; an empty
        tensor in the place of each that there is not.
    Raises:  ValueError: for lists that do not fit.
    """
    result: list[Tensor] = blocks.run_operator(
        _CELL_BACKWARD,
        *(grad, inputs, kept, program, weights, numbers, factors, weighted, need_weights, need_inputs),
        *(sources, source_weights, source_statistics, source_numbers),
    )
    mark_moved(source_statistics)
    return result


register_fake("cell_forward", _FAKE.forward)
register_fake("cell_backward", _FAKE.backward)
