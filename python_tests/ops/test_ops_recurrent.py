# SPDX-License-Identifier: MIT
"""Recurrent cells: against their twins over drawn calls, and the twins against autograd."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from ops_blocks_drawn import DRAWN, SETS, instruction_set, threads, up
from ops_recurrent_drawn import DARTS_V1, recurrent_call, recurrent_calls

from nasp_ext import ops
from nasp_ext.ops import reference
from nasp_ext.ops.reference.recurrent import ACTIVATIONS

NEEDS = st.tuples(st.booleans(), st.booleans(), st.booleans())


def magnitude(tensors):
    """Of what is summed up: the tolerance is relative to it."""
    return [t.double().abs() for t in tensors]


@pytest.mark.parametrize("isa", SETS)
@DRAWN
@given(drawn=recurrent_calls())
def test_recurrent_forward_equals_the_reference(isa, drawn, assert_near):
    with instruction_set(isa):
        tape = ops.recurrent_forward(*drawn.forward(), True)
    expected = reference.recurrent_forward(*up(drawn.forward()), True)
    for found, wanted in zip(tape, expected, strict=True):
        assert_near(found, wanted, drawn.projected.dtype, magnitude([drawn.projected]))


@pytest.mark.parametrize("isa", SETS)
@DRAWN
@given(drawn=recurrent_calls(), needs=NEEDS)
def test_recurrent_backward_equals_the_reference(isa, drawn, needs, assert_near):
    grad = drawn.grad()
    with instruction_set(isa):
        tape = ops.recurrent_forward(*drawn.forward(), True)
        gradients = ops.recurrent_backward(*drawn.backward(grad, tape, needs))
    # Of the same tape: roundings of the forward move no ReLU.
    expected = reference.recurrent_backward(*up(drawn.backward(grad, tape, needs)))
    for found, wanted in zip(gradients, expected, strict=True):
        assert_near(found, wanted, grad.dtype, magnitude(gradients))


@pytest.mark.parametrize("isa", SETS)
@DRAWN
@given(drawn=recurrent_calls())
def test_recurrent_dots_equal_the_reference(isa, drawn, assert_near):
    tape = ops.recurrent_forward(*drawn.forward(), True)
    grad_nodes = drawn.numbers.normal(*tape[1][1:].shape)
    with instruction_set(isa):
        dots = ops.recurrent_dots(*drawn.dots(grad_nodes, tape))
    expected = reference.recurrent_dots(*up(drawn.dots(grad_nodes, tape)))
    scale = grad_nodes.double().abs().sum() * tape[1].double().abs().max()
    assert_near(dots, expected, dots.dtype, [scale.view(1)])


@pytest.mark.parametrize("norm, masked, count", [(False, True, 2), (True, False, 1), (True, True, 2)])
def test_many_rows_equal_the_reference(norm, masked, count, assert_near):
    """More than are summed up in float, and than one thread takes."""
    rows, size = 700, 29
    mask = torch.full((rows, size), 0.5) if masked else None
    drawn = recurrent_call(2, rows, size, norm=norm, mask=mask, gain=0.3)
    drawn.projected += 3  # columns that are far from 0 keep their variance
    grad, needs = drawn.grad(), (True, True, True)
    with threads(count):
        tape = ops.recurrent_forward(*drawn.forward(), True)
        gradients = ops.recurrent_backward(*drawn.backward(grad, tape, needs))
        dots = ops.recurrent_dots(*drawn.dots(gradients[4], tape))
    for found, wanted in zip(tape, reference.recurrent_forward(*up(drawn.forward()), True), strict=True):
        assert_near(found, wanted, torch.float32)
    expected = reference.recurrent_backward(*up(drawn.backward(grad, tape, needs)))
    for found, wanted in zip(gradients, expected, strict=True):
        assert_near(found, wanted, torch.float32)
    wanted = reference.recurrent_dots(*up(drawn.dots(gradients[4], tape)))
    assert_near(dots, wanted, torch.float32, [gradients[4].double().abs().sum().view(1)])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("inputs", [False, True])
def test_gradients_of_a_long_sequence_are_those_of_its_halves(inputs, masked, assert_near):
    """The whole is longer than the gradients of its products are kept, the halves are not."""
    steps, rows, size, half = 26, 400, 100, 13
    mask = torch.full((rows, size), 0.5) if masked else None
    drawn = recurrent_call(steps, rows, size, norm=False, mask=mask)
    needs, grad = (inputs, True, True), drawn.grad()
    hidden, *cell = drawn.cell
    tape = ops.recurrent_forward(drawn.projected, hidden, *cell, True)
    whole = ops.recurrent_backward(grad, hidden, *cell, *tape, *needs)
    starts = hidden, tape[0][half - 1]
    tapes = [
        ops.recurrent_forward(part, start, *cell, True)
        for part, start in zip(drawn.projected.split(half), starts, strict=True)
    ]
    second = ops.recurrent_backward(grad[half:], starts[1], *cell, *tapes[1], True, True, True)
    grad[half - 1] += second[1]
    first = ops.recurrent_backward(grad[:half], hidden, *cell, *tapes[0], True, True, True)
    joined = (
        *(torch.cat([first[0], second[0]]), first[1]),
        *(first[2] + second[2], first[3] + second[3], torch.cat([first[4], second[4]], 1)),
    )
    for found, wanted in zip(whole, joined, strict=True):
        if found.numel() or inputs:
            assert_near(found, wanted, torch.float32)


def test_dots_of_many_rows_are_those_of_their_parts(assert_near):
    """More than are multiplied at a time."""
    drawn = recurrent_call(6, 2000, 50, norm=False)
    tape = ops.recurrent_forward(*drawn.forward(), True)
    grad_nodes = torch.randn(tape[1][1:].shape)
    dots = ops.recurrent_dots(*drawn.dots(grad_nodes, tape))
    parts = []
    for t in range(6):
        step = [x if not x.numel() else x[:, t : t + 1].contiguous() for x in tape]
        parts.append(ops.recurrent_dots(*drawn.dots(grad_nodes[:, t : t + 1], step)))
    assert_near(dots, sum(part.double() for part in parts), torch.float32, [grad_nodes.abs().sum().view(1)])


@DRAWN
@given(drawn=recurrent_calls(), needs=NEEDS)
def test_without_a_tape_the_bits_are_the_same(drawn, needs):
    tape = ops.recurrent_forward(*drawn.forward(), True)
    out, *rest, norms = ops.recurrent_forward(*drawn.forward(), False)
    torch.testing.assert_close((out, norms), (tape[0], tape[5]), rtol=0, atol=0)
    assert all(t.shape == (0,) for t in rest)


@DRAWN
@given(drawn=recurrent_calls())
def test_backward_changes_no_argument_and_gives_the_same_bits_again(drawn):
    tape = ops.recurrent_forward(*drawn.forward(), True)
    arguments = drawn.backward(drawn.grad(), tape, (True, True, True))
    before = up(arguments)
    first = ops.recurrent_backward(*arguments)
    torch.testing.assert_close(ops.recurrent_backward(*arguments), first, rtol=0, atol=0)
    assert all(
        torch.equal(now.double(), then)
        for now, then in zip(arguments, before, strict=True)
        if isinstance(now, torch.Tensor)
    )


def plain_cell(projected, hidden, entry, weights, mask, terms, coefficients, outputs, norm, mean, var, eps):
    """As a module would write it."""

    def normalised(z, state):
        given = (None, None) if mean is None else (mean[state], var[state])
        return F.batch_norm(z, *given, training=mean is None, eps=eps) if norm else z

    def term(state, weight, f, step=0.0):
        c, h = (step + (state if mask is None else state * mask) @ weight).chunk(2, -1)
        return state + torch.sigmoid(c) * (ACTIVATIONS[f](h) - state)

    triples = list(zip(terms[::3], terms[1::3], terms[2::3], strict=True))
    found = []
    for step in projected:
        states = [normalised(term(hidden, entry, 0, step), 0)]
        for node, weight in enumerate(weights, 1):
            z = sum(
                ((1 if coefficients is None else coefficients[p]) * term(states[source], weight, f))
                for p, (to, source, f) in enumerate(triples)
                if to == node
            )
            states.append(normalised(z + torch.zeros_like(hidden), node))
        hidden = sum(states[i] for i in outputs) / len(outputs)
        found.append(hidden)
    return torch.stack(found)


@DRAWN
@given(drawn=recurrent_calls())
def test_cell_and_its_gradients_are_those_of_plain_modules(drawn, assert_near):
    projected, hidden, entry, weights, mask, terms, coefficients, *rest = up(drawn.forward())
    leaves = [projected, hidden, entry, *weights, torch.ones(len(terms) // 3).double()]
    if coefficients is not None:
        leaves[-1] = coefficients
    leaves = [leaf.requires_grad_() for leaf in leaves]
    out = plain_cell(*leaves[:3], leaves[3:-1], mask, terms, leaves[-1], *rest)
    grad = drawn.grad().double()
    wanted = torch.autograd.grad(out, leaves, grad, materialize_grads=True, allow_unused=True)
    with torch.no_grad():
        arguments = (*leaves[:3], leaves[3:-1], mask, terms, coefficients, *rest)
        tape = ops.recurrent_forward(*arguments, True)
        of_projected, of_hidden, of_entry, of_weights, of_nodes = ops.recurrent_backward(
            grad, *arguments[1:], *tape, True, True, True
        )
        dots = ops.recurrent_dots(of_nodes, tape[1], tape[2], tape[4], leaves[3:-1], terms)
    assert_near(tape[0], out.detach(), torch.float64)
    for found, expected in zip((of_projected, of_hidden, of_entry, *of_weights), wanted, strict=False):
        assert_near(found, expected, torch.float64, magnitude(wanted))
    rows = [(node - 1) * node // 2 + source for node, source in zip(terms[::3], terms[1::3], strict=True)]
    assert_near(dots[rows, terms[2::3]], wanted[-1], torch.float64, magnitude(wanted))


def test_dots_of_a_hand_written_cell():
    """One unit: s_0 = 1, and all products are 0, so a term is s_0 + (f(0) − s_0) / 2."""
    zero = torch.zeros(1, 2)
    arguments = (torch.zeros(1, 1, 2), torch.full((1, 1), 2.0), zero, [zero], None, [1, 0, 3], None, [1])
    tape = ops.recurrent_forward(*arguments, False, None, None, 0.0, True)
    assert tape[1].flatten().tolist() == [1.0, 0.5]
    dots = ops.recurrent_dots(torch.full((1, 1, 1, 1), 4.0), tape[1], tape[2], tape[4], [zero], [1, 0, 3])
    assert dots.tolist() == [[2.0, 2.0, 3.0, 2.0]]


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gates_and_activations_keep_their_digits_and_limits(dtype, isa):
    """tanh(h) through an open gate, then sigmoid(c) of an activation of 1, with a hidden state of 0."""
    small = torch.logspace(-30, 2, 400, dtype=torch.float64)
    edges = torch.tensor([0.0, float("inf"), 88.5, 89.5, 709.5, 711, 3e38], dtype=torch.float64)
    x = torch.cat([small, -small, edges, -edges, torch.tensor([float("nan")])]).to(dtype)
    inf, size = torch.full_like(x, float("inf")), len(x)
    zero = torch.zeros(size, 2 * size, dtype=dtype)
    projected = torch.stack([torch.cat([inf, x]), torch.cat([x, inf])]).unsqueeze(1)
    found = []
    for step in projected:
        arguments = step[None], torch.zeros(1, size, dtype=dtype), zero, [zero], None, [], None, [0]
        with instruction_set(isa):
            found.append(ops.recurrent_forward(*arguments, False, None, None, 0.0, False)[0].view(-1))
    rtol = 4 * torch.finfo(dtype).eps
    tanh, sigmoid = torch.tanh(x.double()), torch.sigmoid(x.double())
    torch.testing.assert_close(found[0].double(), tanh, rtol=rtol, atol=0, equal_nan=True)
    least = 0 if dtype == torch.float64 else 1e-37  # the reciprocal of e^x near overflow is denormal
    torch.testing.assert_close(found[1].double(), sigmoid, rtol=rtol, atol=least, equal_nan=True)
    assert not found[1][x == -float("inf")].item()


@pytest.mark.parametrize("f", range(4))
@pytest.mark.parametrize("norm", [False, True])
def test_a_nan_reaches_the_output_and_every_gradient(norm, f):
    drawn = recurrent_call(nodes=1, terms=[1, 0, f], norm=norm)
    drawn.projected[0, 1, 2] = float("nan")
    tape = ops.recurrent_forward(*drawn.forward(), True)
    assert tape[0][0, 1, 2].isnan()
    gradients = ops.recurrent_backward(*drawn.backward(drawn.grad(), tape, (True, True, True)))
    assert gradients[0][0, 1, 2].isnan()
    assert all(g.isnan().any() for g in gradients)
    dots = ops.recurrent_dots(*drawn.dots(torch.ones_like(gradients[4]), tape))
    assert dots.isnan().all()


def test_states_that_lead_nowhere_have_gradients_of_zero():
    drawn = recurrent_call(outputs=[3], norm=False)
    tape = ops.recurrent_forward(*drawn.forward(), True)
    gradients = ops.recurrent_backward(*drawn.backward(drawn.grad(), tape, (True, True, True)))
    reached = [bool(of_node.any()) for of_node in gradients[4]]
    assert reached == [bool(of_weight.any()) for of_weight in gradients[3]] == [True] * 3 + [False] * 5
    assert len(DARTS_V1) == 3 * len(reached)
