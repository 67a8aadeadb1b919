# SPDX-License-Identifier: MIT
"""block_forward, block_backward and the pools against their twins, over drawn shapes and instruction sets."""

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
    Behind,
    Numbers,
    behind,
    beside,
    blocks,
    copied,
    instruction_set,
    norm_parts,
    targets,
    up,
    with_magnitude,
)

from nasp_ext import ops
from nasp_ext.ops import reference


def assert_norm(found, z, parts, eps, assert_near):
    """The norm is that of the z that was found, in float64."""
    _, expected = reference.pool_forward(z.double(), True, 1, 1, True, tuple(up(list(parts))), eps)
    for row, (values, wanted) in enumerate(zip(found, expected, strict=True)):
        shift = [z, expected[0] * expected[3]] if row in (0, 4) else []
        assert_near(values, wanted, z.dtype, shift)


@pytest.mark.parametrize("isa", SETS)
@DRAWN
@given(data=st.data(), normed=st.booleans())
def test_block_forward_equals_the_reference(isa, data, normed, assert_near):
    block, numbers = data.draw(blocks())
    channels = sum(len(product) for product in block.products)
    parts = data.draw(norm_parts(channels, numbers))
    with instruction_set(isa):
        z, norm = ops.block_forward(*block.arguments(), normed, parts, 1e-3)
    expected, _ = reference.block_forward(*up(block.arguments()), False)
    assert z.is_contiguous(memory_format=torch.channels_last)
    assert_near(z, expected, z.dtype, [reference.block_forward(*block.magnitudes().arguments(), False)[0]])
    assert norm.shape == (5 if normed else 0, channels)
    if normed:
        assert_norm(norm, z, parts, 1e-3, assert_near)


@pytest.mark.parametrize("isa", SETS)
@DRAWN
@given(data=st.data(), normed=st.booleans(), need_weights=st.booleans())
def test_block_backward_equals_the_reference(isa, data, normed, need_weights, assert_near):
    block, numbers = data.draw(blocks())
    parts = data.draw(norm_parts(sum(len(product) for product in block.products), numbers))
    z, norm = ops.block_forward(*block.arguments(), normed, parts, 1e-3)
    given_behind = data.draw(behind(z, norm, parts[2] is None, numbers))
    out, base = data.draw(targets(block.x, numbers))
    twin_out, twin_base = copied(out, base)
    with instruction_set(isa):
        found = ops.block_backward(*given_behind.arguments(), *block.arguments(), need_weights, out, base)
    expected = reference.block_backward(
        *up(given_behind.arguments()), *up(block.arguments()), need_weights, twin_out, twin_base
    )
    of_x, *of_weights = with_magnitude(block, given_behind)
    if out is not None:
        assert_near(out, twin_out, out.dtype, [of_x])
        assert beside(out).isnan().all()
    in_sums, *gradients = found
    wanted_sums, *wanted = expected
    assert in_sums.dtype == torch.float64
    normalised = 1.0 if block.in_norm is None else ((block.x - _row(block, 0)) * _row(block, 2)).abs()
    assert_near(in_sums[:1], wanted_sums[:1], z.dtype, [of_x.sum((0, 2, 3))])
    assert_near(in_sums[1:], wanted_sums[1:], z.dtype, [(of_x * normalised).sum((0, 2, 3))])
    assert len(gradients[1]) == (len(block.products) if need_weights else 0)
    for gradient, twin, terms in zip(
        (gradients[0], *gradients[1]), (wanted[0], *wanted[1]), of_weights, strict=need_weights
    ):
        assert_near(gradient, twin, z.dtype, [terms])


def _row(block, number):
    return block.in_norm[number].view(-1, 1, 1)


POOLS = {
    "largest": st.booleans(),
    "kernel": st.sampled_from([1, 3, 5, 7]),
    "stride": st.sampled_from([1, 2, 3]),
}


@pytest.mark.parametrize("isa", SETS)
@DRAWN
@given(
    data=st.data(), size=SIZES, seed=SEEDS, dtype=DTYPES, sliced=st.booleans(), normed=st.booleans(), **POOLS
)
def test_pool_equals_the_reference(
    isa, data, size, seed, dtype, sliced, normed, largest, kernel, stride, assert_near
):
    numbers = Numbers(seed, dtype, sliced)
    x, parts = numbers.images(*size), data.draw(norm_parts(size[1], numbers))
    pool = largest, kernel, stride
    with instruction_set(isa):
        z, norm = ops.pool_forward(x, *pool, normed, parts, 1e-3)
    assert_near(z, reference.pool_forward(x.double(), *pool, False)[0], dtype)
    assert norm.shape == (5 if normed else 0, size[1])
    if normed:
        assert_norm(norm, z, parts, 1e-3, assert_near)
    given_behind = data.draw(behind(z, norm, parts[2] is None, numbers))
    out, base = data.draw(targets(x, numbers, required=True))
    twin_out, twin_base = copied(out, base)
    with instruction_set(isa):
        ops.pool_backward_(*given_behind.arguments(), x, *pool, out, base)
    reference.pool_backward_(*up(given_behind.arguments()), up(x), *pool, twin_out, twin_base)
    terms = torch.empty_like(twin_out)
    reference.pool_backward_(*given_behind.magnitudes().arguments(), up(x), *pool, terms, None)
    assert_near(out, twin_out, dtype, [terms])
    assert beside(out).isnan().all()


SPECIAL = torch.tensor([-float("inf"), float("nan"), 0.0, -0.0, 1.0, 1.0, 2.0])


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("largest", [True, False])
@FEW
@given(size=SIZES, seed=SEEDS, dtype=DTYPES, kernel=POOLS["kernel"], stride=POOLS["stride"])
def test_pool_of_infinities_nans_and_ties_is_that_of_pytorch(
    isa, largest, size, seed, dtype, kernel, stride, assert_near
):
    picks = torch.randint(len(SPECIAL), size, generator=torch.Generator().manual_seed(seed))
    numbers = Numbers(seed, dtype)
    x = numbers.images(*size, values=SPECIAL[picks].to(dtype))
    with instruction_set(isa):
        z, norm = ops.pool_forward(x, largest, kernel, stride, False)
        grad = numbers.images(*z.shape)
        out = torch.empty_like(x)
        ops.pool_backward_(grad, None, norm, z, norm, False, x, largest, kernel, stride, out, None)
    leaf = x.clone().requires_grad_()
    kind = torch.nn.MaxPool2d if largest else torch.nn.AvgPool2d
    options = {} if largest else {"count_include_pad": False}
    expected = kind(kernel, stride, kernel // 2, **options)(leaf)
    torch.testing.assert_close(z, expected.detach(), rtol=0, atol=1e-6, equal_nan=True)
    expected.backward(grad)
    assert_near(out, leaf.grad, dtype)


@pytest.mark.parametrize("isa", SETS)
@FEW
@given(data=st.data(), normed=st.booleans())
def test_nan_in_a_block_goes_where_pytorch_sends_it(isa, data, normed, assert_near):
    block, numbers = data.draw(blocks())
    at = tuple(int(torch.randint(size, (), generator=numbers.generator)) for size in block.x.shape)
    block.x[at] = float("nan")
    with instruction_set(isa):
        z, norm = ops.block_forward(*block.arguments())
    expected, expected_norm = reference.block_forward(*up(block.arguments()))
    assert z.isnan().equal(expected.isnan())
    assert norm.isnan().equal(expected_norm.isnan())
    # Behind running statistics, or no BN, the gradient does not depend on z.
    running = numbers.norm(z.shape[1]) if normed else z.new_empty(0, 0)
    grad = numbers.images(*z.shape)
    of_norm = Behind(grad, None, z.new_empty(2, 0).double(), z, running, False)
    out, twin = torch.empty_like(block.x), torch.empty_like(block.x).double()
    with instruction_set(isa):
        found = ops.block_backward(*of_norm.arguments(), *block.arguments(), True, out, None)
    wanted = reference.block_backward(*up(of_norm.arguments()), *up(block.arguments()), True, twin, None)
    assert_near(out, twin, z.dtype, [with_magnitude(block, of_norm)[0]])
    for gradient, one in zip((*found[:2], *found[2]), (*wanted[:2], *wanted[2]), strict=True):
        assert gradient.isnan().equal(one.isnan())
