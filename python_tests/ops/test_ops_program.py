# SPDX-License-Identifier: MIT
"""The coder of option lists: the lists themselves, once, number by number; then round trips."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasp_ext import ops
from nasp_ext.ops.program import (
    Lists,
    concatenated,
    decode_cell,
    decode_source,
    decode_sources,
    encode_cell,
    encode_option,
    encode_source,
    encode_sources,
    last_affine,
)
from nasp_ext.ops.program_values import (
    Block,
    CellProgram,
    Geometry,
    Norm,
    Option,
    Pool,
    ProgramEdge,
    SourceOption,
    StateSource,
)

MOVING = Norm(True, True, 1e-5, 0.1, None, ("mean", "var"), "batches")
STORED = Norm(False, False, 1e-3, 0.2, ("scale", "shift"), ("mean of before", "var of before"))
SEPARABLE = Block(Geometry(5, 3, 2, 1, 4, 2, 2, 1), "depthwise", ("product",), True, STORED)
HALVES = Block(Geometry.square(stride=2), None, ("half", "other half"), False, None)
CELL = CellProgram(
    nodes=2,
    concat=(3, 2),
    preprocess=(None, Option(chain=(SEPARABLE, HALVES))),
    edges=(ProgramEdge(0, 1, False, Option()), ProgramEdge(1, 2, True, Option(Pool(True, 3, 2, MOVING)))),
)
# The protocol of csrc/program/cell_program.h and option.h, the one place where its numbers stand bare.
NUMBERS = [
    *(2, 2, 2, 3, 2),  # inputs, nodes, length of concat, concat
    *(0, 1),  # nothing in front of the first input, an option in front of the second:
    *(2, 2),  # a chain, of two blocks:
    *(1, 1, 5, 3, 2, 1, 4, 2, 2, 1, 1),  # depthwise, products, geometry, relu
    *(1, 1, 0, 0),  # its norm: exists, affine, batch statistics, moves the running ones
    *(0, 2, 1, 1, 2, 2, 0, 0, 1, 1, 0),
    *(0, 0, 0, 0),  # no norm
    2,  # edges: node, source, mixed, option
    *(0, 1, 0, 0),  # an identity
    *(1, 2, 1, 1, 1, 3, 2),  # a pool: max, kernel, stride
    *(1, 0, 1, 1),
]
WEIGHTS = ["depthwise", "product", "scale", "shift", "half", "other half"]
STATISTICS = ["mean of before", "var of before", "mean", "var", "batches"]


def test_cell_is_written_number_by_number():
    assert encode_cell(CELL) == Lists(NUMBERS, WEIGHTS, STATISTICS, [1e-3, 0.2, 1e-5, 0.1])


def test_sources_are_written_number_by_number():
    """For each state: nodes, entries, weights, statistics, numbers, then the nodes and the entries."""
    options = (SourceOption(1, Option(Pool(False, 5, 1, MOVING))), SourceOption(0, Option()))
    found = encode_sources([StateSource((1, 0), options), StateSource((), ())])
    program = [*(2, 11, 0, 3, 2), *(1, 0), *(1, 1, 0, 5, 1, 1, 0, 1, 1), *(0, 0), *(0, 0, 0, 0, 0)]
    assert found == Lists(program, [], ["mean", "var", "batches"], [1e-5, 0.1])


def test_native_operators_read_what_is_written():
    """Against PyTorch's layers: a 5x3 window, stored statistics, a pool in a mixture."""
    x = torch.randn(2, 4, 9, 8).to(memory_format=torch.channels_last)
    conv = torch.nn.Conv2d(4, 6, (5, 3), (2, 1), (4, 2), (2, 1), bias=False)
    norm, pooled = torch.nn.BatchNorm2d(6).eval(), torch.nn.BatchNorm2d(6)
    for t in (norm.weight, norm.bias, norm.running_mean):
        t.data.normal_()
    affine, held = (norm.weight.detach(), norm.bias.detach()), (norm.running_mean, norm.running_var)
    stored = Norm(False, False, norm.eps, 0.1, affine, held)
    moving = [pooled.running_mean.clone(), pooled.running_var.clone(), torch.tensor(0)]
    behind = Norm(True, True, pooled.eps, 0.1, None, (moving[0], moving[1]), moving[2])
    block = Block(Geometry(5, 3, 2, 1, 4, 2, 2, 1), None, (conv.weight.detach(),), True, stored)
    edges = (ProgramEdge(0, 0, True, Option(Pool(True, 3, 2, behind))), ProgramEdge(1, 1, False, Option()))
    cell = CellProgram(2, (2, 1), (Option(chain=(block,)),), edges)
    with torch.no_grad():
        out, *_ = ops.cell_forward([x], *encode_cell(cell), None, [6, 5, 5])
        expected = pooled(torch.nn.functional.max_pool2d(norm(conv(x.relu())), 3, 2, 1))
    torch.testing.assert_close(out, torch.cat([expected, expected], 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(moving[0], pooled.running_mean)
    assert moving[2] == 1


TOKENS = st.integers(0, 99)
PAIRS = st.tuples(TOKENS, TOKENS)
FLOATS = st.floats(0, 1)


@st.composite
def norms(draw) -> Norm | None:
    if draw(st.booleans()):
        return None
    batch, moves = draw(st.booleans()), draw(st.booleans())
    running = draw(PAIRS) if moves or not batch else None
    affine, batches = draw(st.none() | PAIRS), draw(TOKENS) if moves else None
    return Norm(batch, moves, draw(FLOATS), draw(FLOATS), affine, running, batches)


GEOMETRIES = st.builds(Geometry, *(st.integers(0, 9) for _ in Geometry._fields))
PRODUCTS = st.lists(TOKENS, min_size=1, max_size=2).map(tuple)
BLOCKS = st.builds(Block, GEOMETRIES, st.none() | TOKENS, PRODUCTS, st.booleans(), norms())
POOLS = st.builds(Pool, st.booleans(), st.integers(1, 9), st.integers(1, 9), norms())
CHAINS = st.lists(BLOCKS, min_size=1, max_size=3).map(lambda blocks: Option(chain=tuple(blocks)))
OPTIONS = st.just(Option()) | POOLS.map(Option) | CHAINS
SOURCES = st.lists(st.builds(SourceOption, st.integers(0, 9), OPTIONS), max_size=4)
STATES = st.builds(StateSource, st.lists(st.integers(0, 9), max_size=3).map(tuple), SOURCES.map(tuple))


@st.composite
def programs(draw) -> CellProgram:
    inputs, nodes = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    states = st.sampled_from(range(inputs, inputs + nodes))
    concat = draw(st.lists(states, min_size=1, max_size=nodes, unique=True))
    preprocess = draw(st.lists(st.none() | CHAINS, min_size=inputs, max_size=inputs))
    ends = [
        (node, source)
        for node in range(nodes)
        for source in draw(st.lists(st.integers(0, inputs + node - 1), max_size=2))
    ]
    edges = tuple(ProgramEdge(*end, draw(st.booleans()), draw(OPTIONS)) for end in ends)
    return CellProgram(nodes, tuple(concat), tuple(preprocess), edges)


DRAWN = settings(max_examples=60, deadline=None, derandomize=True)


@DRAWN
@given(programs())
def test_cell_is_what_it_was_after_writing_and_reading(cell):
    assert decode_cell(*encode_cell(cell)) == cell


@DRAWN
@given(SOURCES)
def test_options_of_a_state_are_what_they_were(options):
    assert decode_source(*encode_source(options)) == options


@DRAWN
@given(st.lists(STATES, max_size=3))
def test_sources_are_what_they_were(states):
    assert decode_sources(*encode_sources(states)) == states


@DRAWN
@given(SOURCES, SOURCES)
def test_lists_in_a_row_are_those_of_all_options(some, more):
    assert concatenated([encode_source(some), encode_source(more)]) == encode_source(some + more)


@DRAWN
@given(OPTIONS, st.lists(TOKENS, max_size=3))
def test_last_affine_finds_the_weight_of_the_last_norm(option, before):
    weights = before + encode_option(option).weights
    place, last = last_affine(option, len(weights)), option.norms()[-1:]
    if not last or last[0] is None or last[0].affine is None:
        assert place is None
    else:
        assert tuple(weights[place : place + 2]) == last[0].affine


def test_call_without_statistics_is_read_without_them():
    program, weights, _, numbers = encode_cell(CELL)
    norm = decode_cell(program, weights, None, numbers).edges[1].option.pool.norm
    assert (norm.moves, norm.running, norm.batches) == (True, None, None)


LISTS = encode_cell(CELL)
DAMAGED = {
    "an entry too few": (LISTS._replace(program=LISTS.program[:-1]), "found their end"),
    "an entry too many": (LISTS._replace(program=[*LISTS.program, 0]), "left over"),
    "a weight too few": (LISTS._replace(weights=LISTS.weights[:-1]), "found their end"),
    "a weight too many": (LISTS._replace(weights=[*LISTS.weights, "x"]), "left over"),
    "a statistic too many": (LISTS._replace(statistics=[*LISTS.statistics, "x"]), "left over"),
    "a number too many": (LISTS._replace(numbers=[*LISTS.numbers, 0.5]), "left over"),
    "too many nodes": (encode_cell(CellProgram(4097, (1,), (None,), ())), "1 to 4096 nodes, found 4097"),
    "an input in the output": (encode_cell(CellProgram(1, (0,), (None,), ())), "different nodes in concat"),
    "an edge that leads back": (
        encode_cell(CellProgram(1, (1,), (None,), (ProgramEdge(0, 1, False, Option()),))),
        "from states before",
    ),
    "three products": (
        encode_cell(
            CellProgram(1, (1,), (Option(chain=(Block(Geometry(), None, (1, 2, 3), True, None),)),), ())
        ),
        "1 or 2 tensors of product weights in a block, found 3",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_lists_that_no_cell_gives_are_refused(case):
    lists, text = DAMAGED[case]
    with pytest.raises(ValueError, match=text):
        decode_cell(*lists)


def test_geometry_knows_the_size_of_what_it_gives():
    geometry = Geometry(5, 3, 2, 1, 4, 2, 2, 1)
    conv = torch.nn.functional.conv2d(
        torch.zeros(1, 1, 9, 8), torch.zeros(1, 1, 5, 3), None, *geometry.around
    )
    assert geometry.size((1, 1, 9, 8)) == tuple(conv.shape[2:])
    assert geometry.kernel == (5, 3)
