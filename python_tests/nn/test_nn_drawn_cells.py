# SPDX-License-Identifier: MIT
"""Fused cells against plain modules over drawn cells, in float64: every result within 1e-10 of its terms."""

import copy

import pytest
import torch
from nn_cells_drawn import DrawnCase, drawn_case
from nn_fused import observed
from nn_rounding import term_sizes
from torch import Tensor, nn

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


def differences(case: DrawnCase) -> dict[str, float]:
    """The results that differ: how far, in parts of the larger of the result and its terms."""
    found, expected = seen(case, case.module, False), seen(case, case.module, True)
    apart = {}
    for name in found | expected:
        # Of what the output does not depend on, the gradient is 0 or there is none.
        one, wanted = found.get(name), expected.get(name)
        one, wanted = (torch.zeros(()) if value is None else value for value in (one, wanted))
        difference = float((one - wanted).abs().max()) if one.numel() else 0.0
        if not difference <= TOLERANCE * float(wanted.abs().amax() if wanted.numel() else 0):
            apart[name] = difference
    if not apart:
        return {}
    sizes = term_sizes(case.module, lambda module: seen(case, module, True))
    return {name: apart[name] / sizes[name] for name in apart if not apart[name] <= TOLERANCE * sizes[name]}


@pytest.mark.parametrize("group", range(GROUPS))
def test_drawn_cells_are_those_of_plain_modules(group, fused_runs):
    refused = 0
    for number in range(group * CASES, (group + 1) * CASES):
        case = drawn_case(number)
        text = refusal(case, True)
        if text is not None:  # a BatchNorm of single values
            assert "more than 1 value per channel" in text, number
            assert "more than 1 value per channel" in str(refusal(case, False)), number
            refused += 1
            continue
        assert differences(case) == {}, f"case {number}"
    assert fused_runs.count("cell") >= CASES - refused > CASES // 2
