# SPDX-License-Identifier: MIT
"""source_dots: against its twin over drawn programs, and what it refuses."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from ops_blocks_drawn import DRAWN, SETS, instruction_set, up
from ops_programs_drawn import programs

from nasp_ext import ops
from nasp_ext.ops import reference
from nasp_ext.ops.program import encode_source
from nasp_ext.ops.program_values import Block, Geometry, Norm, Option, SourceOption


@pytest.mark.parametrize("isa", SETS)
@DRAWN
@given(drawn=programs(least=0))
def test_source_dots_equal_the_reference(isa, drawn, assert_near):
    x, grads, program, weights, statistics, numbers = drawn.arguments()
    twin_statistics = up(statistics)
    with instruction_set(isa):
        dots = ops.source_dots(x, grads, program, weights, statistics, numbers)
    expected = reference.source_dots(*up([x, grads]), program, up(weights), twin_statistics, numbers)
    assert dots.dtype == x.dtype
    assert_near(dots, expected, x.dtype, [torch.stack([grad.double().abs().sum() for grad in grads])])
    for found, wanted in zip(statistics, twin_statistics, strict=True):
        assert_near(found, wanted, x.dtype)


def block_option(**changes):
    norm = Norm(True, True, 1e-5, 0.1, None, (torch.zeros(3), torch.ones(3)), torch.tensor(0))
    block = Block(Geometry(), None, (torch.eye(3).view(3, 3, 1, 1),), True, norm)
    return Option(chain=(replace(block, **changes),))


def block_program(*options):
    """A 1×1 block whose BN moves its statistics, and a skip, if no others are given."""
    x = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    options = options or (SourceOption(0, block_option()), SourceOption(0, Option()))
    return [x, [torch.ones_like(x)], *encode_source(options)]


def test_dots_of_a_hand_written_program():
    arguments = block_program()
    x, (grad,), *_ = arguments
    module = torch.nn.BatchNorm2d(3)
    block, skip = ops.source_dots(*arguments)
    torch.testing.assert_close(skip, x.sum())
    torch.testing.assert_close(block, (module(x.relu()) * grad).sum().detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(arguments[4][0], module.running_mean)
    torch.testing.assert_close(arguments[4][1], module.running_var)
    assert arguments[4][2] == 1


def without(index, place):
    arguments = block_program()
    del arguments[index][place]
    return arguments


def with_program(program):
    """With numbers that no value encodes to."""
    arguments = block_program()
    arguments[2] = program
    return arguments


CASES = {
    "a weight too few": (without(3, 0), "expected more weights than 0"),
    "a statistic too few": (without(4, 2), "expected more statistics than 2"),
    "a number too few": (without(5, 1), "expected more numbers than 1"),
    "a program that ends early": (without(2, -1), "expected more entries in the program than 19"),
    "an edge that does not exist": (block_program(SourceOption(1, Option())), r"gradient in 0\.\.0, found 1"),
    "a kind that does not exist": (with_program([0, 3]), r"kind in 0\.\.2, found 3"),
    "no blocks": (with_program([0, 2, 0]), "at least one block"),
    "a weight that nothing reads": (
        [*block_program()[:3], [torch.eye(3).view(3, 3, 1, 1)] * 2, *block_program()[4:]],
        "found 1, 0 and 0 left over",
    ),
    "a gradient of another shape": (
        [
            block_program()[0],
            [torch.ones(2, 3, 4, 3).to(memory_format=torch.channels_last)],
            *block_program()[2:],
        ],
        r"grads of shape \(2, 3, 4, 4\), found \(2, 3, 4, 3\)",
    ),
    "gradients of two shapes, one of which no option reads": (
        [block_program()[0], [block_program()[1][0], torch.ones(2, 3, 1, 1)], *block_program()[2:]],
        r"grads of shape \(2, 3, 4, 4\), found \(2, 3, 1, 1\)",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_program_that_does_not_fit_is_refused_before_anything_moves(case):
    arguments, text = CASES[case]
    before = copy.deepcopy(arguments[4])
    with pytest.raises(ValueError, match=text):
        ops.source_dots(*arguments)
    assert all(one.equal(two) for one, two in zip(arguments[4], before, strict=True))


def test_a_single_value_per_channel_moves_no_variance():
    x, _, *rest = block_program()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        ops.source_dots(x[:1, :, :1, :1], [x[:1, :, :1, :1]], *rest)
