# SPDX-License-Identifier: MIT
"""Whole cells: against their twin over drawn programs, and what they refuse."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from ops_blocks_drawn import DRAWN, SETS, instruction_set, up
from ops_blocks_samples import cell_sample, cell_samples, images, source_options
from ops_cells_drawn import cells

from nasp_ext import ops
from nasp_ext.ops import reference
from nasp_ext.ops.program import encode_cell, encode_sources
from nasp_ext.ops.program_values import CellProgram, Option, Pool, ProgramEdge, StateSource


@pytest.mark.parametrize("isa", SETS)
@DRAWN
@given(drawn=cells())
def test_cell_equals_the_reference(isa, drawn, assert_near):
    dtype = drawn.inputs[0].dtype
    twin = copy.deepcopy(drawn)
    twin.cell, twin.sources = up(twin.cell), up(twin.sources)
    twin.inputs, twin.factors = up(twin.inputs), None if twin.factors is None else twin.factors.double()
    with instruction_set(isa):
        kept = ops.cell_forward(*drawn.forward())
    expected = reference.cell_forward(*twin.forward())
    for found, wanted in zip(kept, expected, strict=True):
        assert_near(found, wanted, dtype, [torch.ones(1)])
    for found, wanted in zip(drawn.cell.statistics, twin.cell.statistics, strict=True):
        assert_near(found, wanted, dtype)
    # The backward of the same kept tensors: roundings of the forward move no ReLU.
    grad = drawn.numbers.normal(*kept[0].shape).to(memory_format=torch.channels_last)
    with instruction_set(isa):
        result = ops.cell_backward(*drawn.backward(grad, kept))
    wanted = reference.cell_backward(*twin.backward(grad.double(), up(kept)))
    scale = [grad.abs().sum().view(1) * (1 + max(k.abs().max() for k in kept if k.numel()))]
    for found, value in zip(result, wanted, strict=True):
        assert_near(found, value, dtype, scale)
    for found, value in zip(drawn.sources.statistics, twin.sources.statistics, strict=True):
        assert_near(found, value, dtype)


def test_cell_of_a_skip_and_a_pool_by_hand():
    """One input, a node that adds its skip and its 3×3 average, and a second node without edges."""
    x = torch.arange(16.0).view(1, 1, 4, 4)
    edges = (ProgramEdge(0, 0, False, Option()), ProgramEdge(0, 0, False, Option(Pool(False, 3, 1, None))))
    cell = CellProgram(nodes=2, concat=(1, 2), preprocess=(None,), edges=edges)
    program, *lists = encode_cell(cell)
    out, *kept = ops.cell_forward([x], program, *lists, None, [1, 4, 4])
    average = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(out, torch.cat([x + average, torch.zeros_like(x)], 1))
    grad = torch.ones_like(out)
    *_, of_x = ops.cell_backward(grad, [x], [out, *kept], program, [], [], None, False, False, [1])
    y = x.clone().requires_grad_()
    (y + torch.nn.functional.avg_pool2d(y, 3, 1, 1, count_include_pad=False)).sum().backward()
    torch.testing.assert_close(of_x, y.grad)


def changed(name, place, change):
    """The arguments of the first sample with one of them replaced."""
    arguments = list(copy.deepcopy(cell_samples(images(2, 4, 5, 5), images(2, 4, 5, 5, seed=1))[name][0]))
    arguments[place] = change(arguments[place])
    return arguments


def with_program(**changes):
    """The program of the first sample with other fields."""
    return lambda _: encode_cell(replace(CELL, **changes)).program


def leading_back(edge):
    """The second edge of the sample replaced."""
    return (CELL.edges[0], edge, CELL.edges[2])


CELL = cell_sample(4)
POOL = Option(Pool(True, 3, 1, None))
FORWARD = {
    "another number of inputs": (
        1,
        with_program(preprocess=(*CELL.preprocess, None)),
        "a cell with 1 inputs and 1 to 4096 nodes, found one with 2",
    ),
    "a node twice in the output": (
        1,
        with_program(concat=(1, 1)),
        r"different nodes in concat, 1\.\.2, found 1",
    ),
    "an input in the output": (1, with_program(concat=(0, 2)), r"different nodes in concat, 1\.\.2, found 0"),
    "a pool in front of an input": (1, with_program(preprocess=(POOL,)), "a chain in front of"),
    "an edge from the node itself": (
        1,
        with_program(edges=leading_back(ProgramEdge(0, 1, True, Option()))),
        "from states before them, found 1 -> 0",
    ),
    "more than its edges": (1, lambda p: [*p, 0], "to end after its edges"),
    "a weight too few": (2, lambda w: w[:-1], "expected more weights than 2"),
    "a weight too many": (2, lambda w: [*w, w[0]], "found 1, 0 and 0 left over"),
    "a statistic too few": (3, lambda s: s[:-1], "expected more statistics than 8"),
    "factors of another shape": (
        5,
        lambda f: f[:2],
        r"factors of shape \(3, 2\), contiguous, found \(2, 2\)",
    ),
    "a size without width": (6, lambda s: s[:2], "channels, height, width, found 2 numbers"),
}
BACKWARD = {
    "a kept tensor too few": (2, lambda k: k[:-1], "expected more tensors of the forward than"),
    "a kept tensor too many": (2, lambda k: [*k, k[0]], "tensors of the forward, found"),
    "no flag for an input": (9, lambda f: [], "a flag for each input, found 0"),
    "a source that ends early": (10, lambda s: s[:4], "expected 5 more items in the lists of the sources"),
    "too few weights of a source": (11, lambda w: w[:1], "expected 2 more items in the lists"),
}


@pytest.mark.parametrize("case", FORWARD)
def test_forward_refuses_what_does_not_fit_before_anything_moves(case):
    place, change, text = FORWARD[case]
    arguments = changed("cell_forward", place, change)
    before = copy.deepcopy(arguments[3])
    with pytest.raises(ValueError, match=text):
        ops.cell_forward(*arguments)
    assert all(one.equal(two) for one, two in zip(arguments[3], before, strict=True))


@pytest.mark.parametrize("case", BACKWARD)
def test_backward_refuses_what_does_not_fit(case):
    place, change, text = BACKWARD[case]
    with pytest.raises(ValueError, match=text):
        ops.cell_backward(*changed("cell_backward", place, change))


def test_source_that_leads_back_is_refused():
    """The options of state 1, whose edge ends in node 0, which is state 1."""
    empty, back = StateSource((), ()), StateSource((0,), source_options(4, True))
    sources = encode_sources([empty, back, empty])
    arguments = changed("cell_backward", 10, lambda _: sources.program)
    with pytest.raises(ValueError, match="nodes behind state 1, found node 0"):
        ops.cell_backward(*arguments)
