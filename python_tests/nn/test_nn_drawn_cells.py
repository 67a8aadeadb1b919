# SPDX-License-Identifier: MIT
"""Fused cells against plain modules over drawn cells, in float64: every result within 1e-10 of its terms."""

import copy

import pytest
import torch
from nn_cells_drawn import DrawnCase, drawn_case
from nn_fused import images, observed
from nn_rounding import term_sizes
from torch import Tensor, nn

from nasp_ext.arch.gates import PRUNED, Gates
from nasp_ext.families.cells.cell import Cell
from nasp_ext.families.cells.layout import CellLayout, EdgeLayout, Norms, Place
from nasp_ext.nn import plain_modules

TOLERANCE = 1e-10
GROUPS, CASES = 10, 20  # groups of cases, and the cases of each


def seen(case: DrawnCase, module: nn.Module, plain: bool) -> dict[str, Tensor | None]:
    """All that one call shows; the module stays as it was."""
    module = copy.deepcopy(module)
    with plain_modules(plain):
        return observed(module, case.call, case.inputs, case.upstream)


def refusal(case: DrawnCase, plain: bool) -> str | None:
    try:
        seen(case, case.module, plain)
    except ValueError as error:
        return str(error)
    return None


def apart(case: DrawnCase) -> dict[str, float]:
    """How far each result is from that of plain modules, where that is more than a part of itself."""
    found, expected = seen(case, case.module, False), seen(case, case.module, True)
    differences = {}
    for name in found | expected:
        # Of what the output does not depend on, the gradient is 0 or there is none.
        one, wanted = found.get(name), expected.get(name)
        one, wanted = (torch.zeros(()) if value is None else value for value in (one, wanted))
        difference = float((one - wanted).abs().max()) if one.numel() else 0.0
        if not difference <= TOLERANCE * float(wanted.abs().amax() if wanted.numel() else 0):
            differences[name] = difference
    return differences


def beyond_terms(case: DrawnCase, differences: dict[str, float]) -> dict[str, float]:
    """Those that are more than a part of the terms that cancel in the result, in parts of these."""
    if not differences:
        return {}
    sizes = term_sizes(case.module, lambda module: seen(case, module, True))
    parts = {name: difference / sizes[name] for name, difference in differences.items()}
    return {name: part for name, part in parts.items() if not part <= TOLERANCE}


@pytest.mark.parametrize("group", range(GROUPS))
def test_drawn_cells_are_those_of_plain_modules(group, fused_runs):
    refused = cancelled = 0
    for number in range(group * CASES, (group + 1) * CASES):
        case = drawn_case(number)
        text = refusal(case, True)
        if text is not None:  # a BatchNorm of single values
            assert "more than 1 value per channel" in text, number
            assert "more than 1 value per channel" in str(refusal(case, False)), number
            refused += 1
            continue
        differences = apart(case)
        assert beyond_terms(case, differences) == {}, f"case {number}"
        cancelled += bool(differences)
    assert cancelled < CASES // 2
    assert len(fused_runs) >= CASES - refused > CASES // 2
    assert {"cell", "mixed_op"} <= set(fused_runs)


def test_edge_without_a_choice_runs_beside_pruned_gates(fused_runs):
    edges = (EdgeLayout(0, 0, ("sep_conv_3x3",), None), EdgeLayout(0, 1, ("conv_1x1", "none"), 0))
    cell = Cell(CellLayout(edges, 1, (2,)), Place((3, 5), 4, False, False), Norms(True, True)).double()
    cell.drop = 0.0
    weight = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    inputs = [images(2, 3, 6, 5).requires_grad_(), images(2, 5, 6, 5, seed=1), weight]
    assert apart(DrawnCase(cell, inputs, Gates(weight, (PRUNED,)), False)) == {}
    assert fused_runs == ["cell"]
