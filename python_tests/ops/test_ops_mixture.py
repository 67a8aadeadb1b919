# SPDX-License-Identifier: MIT
"""branch_dots and mixed_sum: against the reference, in every layout, with first and second derivatives."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ops_drawn import DTYPES, QUICK

from nasp_ext import ops
from nasp_ext.ops import reference

LAYOUTS = ["contiguous", "channels_last", "transposed", "sliced", "expanded"]


def draw_tensor(shape, dtype, layout):
    x = torch.randn(shape).to(dtype)
    if layout == "channels_last" and len(shape) == 4:
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "transposed" and len(shape) > 1:
        return x.mT.contiguous().mT
    if layout == "sliced" and len(shape) > 0:
        return torch.randn(*shape[:-1], 2 * shape[-1]).to(dtype)[..., ::2]
    if layout == "expanded" and len(shape) > 0:
        return x[:1].expand(shape)
    return x


SHAPES = st.one_of(
    st.lists(st.integers(0, 9), max_size=4).map(tuple), st.sampled_from([(4095,), (4097,), (3, 16, 9, 31)])
)
SHARED_LAYOUT = st.booleans()


@st.composite
def branches(draw, count):
    torch.manual_seed(draw(st.integers(0, 2**16)))
    shape, dtype = draw(SHAPES), draw(st.sampled_from(DTYPES))
    if draw(SHARED_LAYOUT):
        layouts = [draw(st.sampled_from(LAYOUTS))] * count
    else:
        layouts = [draw(st.sampled_from(LAYOUTS)) for _ in range(count)]
    return [draw_tensor(shape, dtype, layout) for layout in layouts]


def arithmetic(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


@QUICK
@given(data=st.data(), count=st.sampled_from([1, 2, 7, 8, 13, 64]))
def test_dots_equal_the_reference(data, count):
    grad, *outputs = data.draw(branches(count + 1))
    found, expected = ops.branch_dots(grad, outputs), reference.branch_dots(grad, outputs)
    assert found.dtype == arithmetic(grad.dtype)
    scale = torch.stack([(grad.double() * y.double()).abs().sum() for y in outputs])
    tolerance = 1e-14 if grad.dtype == torch.float64 else 1e-6
    assert ((found.double() - expected.double()).abs() <= tolerance * scale + 1e-30).all()


@QUICK
@given(data=st.data(), count=st.sampled_from([1, 2, 7, 8, 13, 64]))
def test_mixture_equals_the_reference(data, count):
    outputs = data.draw(branches(count))
    weights = torch.randn(count, dtype=arithmetic(outputs[0].dtype))
    found, expected = ops.mixed_sum(outputs, weights), reference.mixed_sum(outputs, weights)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[
        found.dtype
    ]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_fused_gradients_equal_those_of_the_reference(dtype, layout):
    tensors = [draw_tensor((3, 4, 7, 60), dtype, layout) for _ in range(6)]
    weights = torch.randn(5, dtype=arithmetic(dtype))
    grads = []
    for module in (ops, reference):
        leaves = [t.clone().requires_grad_() for t in (*tensors[:5], weights)]
        mixture = module.mixed_sum(leaves[:5], leaves[5])
        grads.append(torch.autograd.grad(mixture, leaves, tensors[5]))
    for found, expected in zip(*grads, strict=True):
        tolerance = {torch.float64: 1e-12, torch.float32: 1e-4}.get(found.dtype, 2e-2)
        torch.testing.assert_close(
            found, expected, rtol=tolerance, atol=100 * tolerance if found.dim() == 1 else 0
        )


def leaves(count, shape=(2, 3)):
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(count)]


def test_mixture_passes_gradcheck_and_gradgradcheck():
    weights = torch.randn(3, dtype=torch.float64, requires_grad=True)
    inputs = (weights, *leaves(3))
    assert torch.autograd.gradcheck(lambda w, *ys: ops.mixed_sum(ys, w), inputs)
    assert torch.autograd.gradgradcheck(lambda w, *ys: ops.mixed_sum(ys, w), inputs)


def test_dots_pass_gradcheck_and_gradgradcheck():
    inputs = tuple(leaves(4))
    assert torch.autograd.gradcheck(lambda g, *ys: ops.branch_dots(g, ys), inputs)
    assert torch.autograd.gradgradcheck(lambda g, *ys: ops.branch_dots(g, ys), inputs)


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_gradient_of_one_input_alone_is_right(wanted):
    inputs = [torch.randn(2, dtype=torch.float64), *(t.detach() for t in leaves(2))]
    inputs[wanted].requires_grad_()
    found = torch.autograd.grad(ops.mixed_sum(inputs[1:], inputs[0]).sum(), inputs[wanted])
    expected = torch.autograd.grad(reference.mixed_sum(inputs[1:], inputs[0]).sum(), inputs[wanted])
    torch.testing.assert_close(found, expected)


def test_half_weights_mix_half_outputs():
    outputs = [torch.randn(5).bfloat16() for _ in range(2)]
    weights = torch.tensor([0.5, 2.0], dtype=torch.bfloat16, requires_grad=True)
    mixture = ops.mixed_sum(outputs, weights)
    torch.testing.assert_close(mixture, reference.mixed_sum(outputs, weights))
    mixture.sum().backward()
    assert weights.grad.dtype == torch.bfloat16


def test_bits_do_not_depend_on_the_number_of_threads():
    tensors = [torch.randn(1_000_003) for _ in range(4)]
    weights = torch.randn(3)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append((ops.branch_dots(tensors[0], tensors[1:]), ops.mixed_sum(tensors[1:], weights)))
    torch.set_num_threads(threads)
    assert all(torch.equal(x, y) for other in results[1:] for x, y in zip(results[0], other, strict=True))


def test_long_float_sums_stay_accurate():
    grad, output = torch.rand(4_000_000), torch.rand(4_000_000)
    exact = (grad.double() * output.double()).sum()
    assert abs(ops.branch_dots(grad, [output]).double().item() / exact.item() - 1) < 1e-6


def test_mixture_keeps_the_layout_that_its_outputs_share():
    outputs = [draw_tensor((2, 4, 3, 3), torch.float32, "channels_last") for _ in range(2)]
    assert ops.mixed_sum(outputs, torch.ones(2)).is_contiguous(memory_format=torch.channels_last)
