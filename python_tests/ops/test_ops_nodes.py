# SPDX-License-Identifier: MIT
"""Node sums and running statistics: against their twins and against the modules of PyTorch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ops_blocks_drawn import (
    DRAWN,
    DTYPES,
    FEW,
    SEEDS,
    SETS,
    SIZES,
    Numbers,
    beside,
    in_memory,
    instruction_set,
    up,
)

from nasp_ext import ops
from nasp_ext.ops import reference


@st.composite
def nodes(draw):
    """numbers, shape, terms, norms, factors of a node."""
    numbers = Numbers(draw(SEEDS), draw(DTYPES), draw(st.booleans()))
    shape = draw(SIZES)
    with_norm = draw(st.lists(st.booleans(), min_size=1, max_size=5))
    terms = [numbers.images(*shape) for _ in with_norm]
    empty = terms[0].new_empty(0, 0)
    norms = [numbers.norm(shape[1]) if one else empty for one in with_norm]
    factors = numbers.normal(len(terms), shape[0]) if draw(st.booleans()) else None
    return numbers, shape, terms, norms, factors


def magnitudes(terms, norms, factors, base):
    """The same for which every product is positive."""
    shift = [norm.new_zeros(0, 0) if norm.numel() == 0 else norm.abs() for norm in norms]
    return [term.abs() for term in terms], shift, *(None if t is None else t.abs() for t in (factors, base))


@pytest.mark.parametrize("isa", SETS)
@DRAWN
@given(node=nodes(), base=st.sampled_from(["none", "other", "out"]))
def test_node_sum_equals_the_reference(isa, node, base, assert_near):
    numbers, shape, *arguments = node
    out = in_memory(numbers.normal(*shape), True)
    arguments.append({"none": None, "other": numbers.images(*shape), "out": out}[base])
    before = None if base == "none" else arguments[-1].double().clone()
    with instruction_set(isa):
        ops.node_sum_(out, *arguments)
    expected, terms = (torch.empty(shape, dtype=torch.float64) for _ in range(2))
    arguments[-1] = before
    reference.node_sum_(expected, *up(arguments))
    reference.node_sum_(terms, *magnitudes(*up(arguments)))
    assert_near(out, expected, out.dtype, [terms])
    assert beside(out).isnan().all()


@pytest.mark.parametrize("isa", SETS)
@DRAWN
@given(node=nodes())
def test_node_gradient_sums_equal_the_reference(isa, node, assert_near):
    numbers, shape, terms, norms, factors = node
    grad = numbers.images(*shape, values=numbers.normal(*shape))
    with instruction_set(isa):
        sums = ops.node_gradient_sums(grad, terms, norms, factors)
    expected = reference.node_gradient_sums(*up([grad, terms, norms, factors]))
    assert sums.dtype == torch.float64
    for term, norm, found, wanted in zip(terms, norms, sums, expected, strict=True):
        normalised = (term - norm[0].view(-1, 1, 1)) * norm[2].view(-1, 1, 1) if norm.numel() else term
        largest = 1.0 if factors is None else factors.abs().max()
        size = grad.double().abs() * largest
        assert_near(found[0], wanted[0], grad.dtype, [size.sum((0, 2, 3))])
        assert_near(found[1], wanted[1], grad.dtype, [(size * normalised.abs()).sum((0, 2, 3))])


@FEW
@given(size=SIZES.filter(lambda size: size[0] * size[2] * size[3] > 1), seed=SEEDS, dtype=DTYPES)
def test_statistics_move_as_those_of_a_batch_norm(size, seed, dtype, assert_near):
    numbers = Numbers(seed, dtype)
    modules = [torch.nn.BatchNorm2d(size[1], momentum=m).to(dtype) for m in (0.1, 0.9, 0.0)]
    images = [numbers.images(*size) + 1 for _ in modules]
    norms = [ops.pool_forward(x, True, 1, 1)[1] for x in images]
    names = ("running_mean", "running_var", "num_batches_tracked")
    found = [[getattr(module, name).clone() for module in modules] for name in names]
    twins = up(found)
    counts, momenta = [x.numel() // size[1] for x in images], [module.momentum for module in modules]
    for _ in range(2):
        ops.update_statistics_(*found, norms, counts, momenta)
        reference.update_statistics_(*twins, up(norms), counts, momenta)
        for module, x in zip(modules, images, strict=True):
            module(x)
    for name, values, twin in zip(names, found, twins, strict=True):
        for module, value, one in zip(modules, values, twin, strict=True):
            assert value.dtype == getattr(module, name).dtype
            assert_near(value, getattr(module, name), dtype)
            assert_near(value, one, dtype)
