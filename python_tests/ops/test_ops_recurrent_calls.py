# SPDX-License-Identifier: MIT
"""Recurrent cells as they are called: no gradient, layouts, threads, memory, and what they refuse."""

import pytest
import torch
from ops_blocks_drawn import threads
from ops_recurrent_drawn import DARTS_V1, recurrent_call

from nasp_ext import ops

FORWARD = ("projected", "hidden", "entry", "weights", "mask", "terms", "coefficients", "outputs")
FORWARD = (*FORWARD, "norm", "mean", "var", "eps", "keep")
TAPE = ("out", "states", "masked", "entered", "products", "norms")
BACKWARD = ("grad", *FORWARD[1:-1], *TAPE, "need_inputs", "need_weights", "need_nodes")
DOTS = ("grad_nodes", "states", "masked", "products", "weights", "terms")


def arguments_of(name, **cell):
    """The right arguments of an operator by their names: 2 time steps, 3 rows, 5 units, 8 nodes."""
    drawn = recurrent_call(**cell)
    tape = ops.recurrent_forward(*drawn.forward(), True)
    if name == "recurrent_forward":
        return dict(zip(FORWARD, (*drawn.forward(), True), strict=True))
    if name == "recurrent_backward":
        return dict(zip(BACKWARD, drawn.backward(drawn.grad(), tape, (True,) * 3), strict=True))
    return dict(zip(DOTS, drawn.dots(torch.ones_like(tape[1][1:]), tape), strict=True))


@pytest.mark.parametrize("name", ["recurrent_forward", "recurrent_backward", "recurrent_dots"])
def test_call_that_autograd_would_record_raises(name):
    arguments = arguments_of(name)
    arguments["weights"][3].requires_grad_()
    with pytest.raises(RuntimeError, match=f"nasp_ext::{name} has no gradient: detach its inputs"):
        getattr(ops, name)(**arguments)
    with torch.no_grad():
        getattr(ops, name)(**arguments)


@pytest.mark.parametrize("name", ["recurrent_forward", "recurrent_backward", "recurrent_dots"])
def test_any_layout_gives_the_same_bits(name):
    def spread(value):
        if isinstance(value, list):
            return [spread(item) for item in value]
        if not isinstance(value, torch.Tensor) or not value.dim():
            return value
        return value.repeat_interleave(2, -1)[..., ::2].transpose(0, -1).contiguous().transpose(0, -1)

    cell = {"mask": torch.full((3, 5), 2.0), "coefficients": torch.linspace(1, 2, 8)}
    arguments = arguments_of(name, **cell)
    expected = getattr(ops, name)(**arguments)
    found = getattr(ops, name)(**{key: spread(value) for key, value in arguments.items()})
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_same_number_of_threads_gives_the_same_bits():
    drawn = recurrent_call(3, 300, 61, mask=torch.full((300, 61), 0.5))
    grad, results = drawn.grad(), []
    for _ in range(2):
        with threads(2):
            tape = ops.recurrent_forward(*drawn.forward(), True)
            gradients = ops.recurrent_backward(*drawn.backward(grad, tape, (True,) * 3))
            results.append((*tape, *gradients, ops.recurrent_dots(*drawn.dots(gradients[4], tape))))
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_sequences_of_other_lengths_share_their_memory():
    """What a tape of 40 time steps leaves behind serves one of 33, and another one after it."""
    longest = recurrent_call(40, 32, 64).forward()
    ops.release_memory()
    places = []
    for steps in (40, 33, 37):
        tape = ops.recurrent_forward(longest[0][:steps], *longest[1:], True)
        places.append([tape[i].data_ptr() for i in (1, 4)])
        del tape
    assert places[0] == places[1] == places[2]
    ops.release_memory()


def test_a_forward_without_a_tape_keeps_one_time_step():
    arguments = recurrent_call(50, 32, 64).forward()
    ops.release_memory()
    del_me = ops.recurrent_forward(*arguments, False)
    del del_me
    one_step = (9 * 64 + 2 * 64) * 32 * 4  # states, and the products of one node
    results = (50 * 32 * 64 + 50 * 9 * 2 * 64) * 4
    assert 0 < ops.release_memory() <= one_step + results


@pytest.mark.parametrize(
    "change, message",
    [
        ({"hidden": torch.ones(3)}, r"hidden of shape \(B, H\), B and H at least 1, found \(3,\)"),
        ({"hidden": torch.ones(0, 5)}, r"hidden of shape \(B, H\), B and H at least 1, found \(0, 5\)"),
        ({"projected": torch.ones(0, 3, 10)}, r"projected of at least one time step, .*found \(0, 3, 10\)"),
        ({"projected": torch.ones(2, 3, 9)}, r"projected of shape \(2, 3, 10\), found \(2, 3, 9\)"),
        ({"projected": torch.ones(2, 3, 10).double()}, "projected in Float, found Double"),
        ({"entry": torch.ones(5, 5)}, r"entry of shape \(5, 10\), found \(5, 5\)"),
        ({"weights": [torch.ones(10, 5)] * 8}, r"weights of shape \(5, 10\), found \(10, 5\)"),
        ({"weights": []}, "weights of 1 to 32 nodes, found 0"),
        ({"weights": [torch.ones(5, 10)] * 33}, "weights of 1 to 32 nodes, found 33"),
        ({"mask": torch.ones(5)}, r"mask of shape \(3, 5\), found \(5,\)"),
        ({"terms": DARTS_V1[:-1]}, "node, source and activation each, found 23 numbers"),
        ({"terms": [9, 0, 0]}, "node 1 to 8, a source 0 to node - 1 .*found 9, 0, 0"),
        ({"terms": [0, 0, 0]}, "node 1 to 8, .*found 0, 0, 0"),
        ({"terms": [2, 2, 0]}, "source 0 to node - 1 .*found 2, 2, 0"),
        ({"terms": [2, 1, 4]}, "activation 0 to 3, found 2, 1, 4"),
        ({"terms": [2, 1, 0, 1, 0, 0]}, "sorted by their node, found node 1 behind node 2"),
        ({"terms": [2, 1, 0, 2, 1, 1]}, "found two of node 2 and source 1"),
        ({"coefficients": torch.ones(7)}, r"coefficients of shape \(8,\), found \(7,\)"),
        ({"outputs": []}, "at least one state in outputs, found none"),
        ({"outputs": [9]}, "states 0 to 8 in outputs, ascending, found 9"),
        ({"outputs": [2, 1]}, "ascending, found 1"),
        ({"outputs": [1, 1]}, "ascending, found 1"),
        ({"mean": torch.ones(9, 5)}, "mean and var, or none of them"),
        ({"mean": torch.ones(5), "var": torch.ones(9, 5)}, r"mean of shape \(9, 5\), found \(5,\)"),
        ({"mean": torch.ones(9, 5), "var": torch.ones(9, 5), "norm": False}, "no mean and var without norm"),
        ({"eps": -1.0}, "eps >= 0, found -1"),
        ({"eps": float("nan")}, "eps >= 0, found nan"),
        ({"hidden": torch.ones(1, 5), "projected": torch.ones(2, 1, 10)}, "more than one row .*found B = 1"),
    ],
)
def test_forward_refuses_what_does_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        ops.recurrent_forward(**{**arguments_of("recurrent_forward"), **change})


@pytest.mark.parametrize("norm", [False, True])
def test_one_row_has_no_statistics_of_its_own_but_takes_given_ones(norm):
    given = {"mean": torch.zeros(9, 5), "var": torch.ones(9, 5)} if norm else {}
    out = ops.recurrent_forward(*recurrent_call(batch=1, norm=norm, **given).forward(), False)[0]
    assert out.isfinite().all()


@pytest.mark.parametrize("name", ["states", "products", "out", "norms", "masked", "entered"])
def test_backward_refuses_a_tape_that_was_not_kept(name):
    arguments = arguments_of("recurrent_backward", mask=torch.ones(3, 5))
    with pytest.raises(ValueError, match=f"{name} of shape .*found \\(0,\\)"):
        ops.recurrent_backward(**{**arguments, name: torch.ones(0)})


@pytest.mark.parametrize("name", ["norms", "masked", "entered"])
def test_backward_refuses_a_tape_of_another_cell(name):
    arguments = arguments_of("recurrent_backward", norm=False)
    with pytest.raises(ValueError, match=f"{name} without elements, .*found \\(2,\\)"):
        ops.recurrent_backward(**{**arguments, name: torch.ones(2)})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"grad_nodes": torch.ones(7, 2, 3, 5)}, r"grad_nodes of shape \(N, T, B, H\), N = 8"),
        ({"states": torch.ones(8, 2, 3, 5)}, r"states of shape \(9, 2, 3, 5\), found \(8, 2, 3, 5\)"),
        ({"products": torch.ones(8, 2, 3, 10)}, r"products of shape \(9, 2, 3, 10\)"),
        ({"masked": torch.ones(3)}, r"masked of shape \(9, 2, 3, 5\), found \(3,\)"),
        ({"terms": []}, r"products of shape \(1, 2, 3, 10\)"),
        ({"weights": [torch.ones(5, 9)] * 8}, r"weights of shape \(5, 10\)"),
    ],
)
def test_dots_refuse_what_does_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        ops.recurrent_dots(**{**arguments_of("recurrent_dots"), **change})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_refused(dtype):
    arguments = recurrent_call(dtype=dtype).forward()
    with pytest.raises(ValueError, match="expected float32 or float64, found"):
        ops.recurrent_forward(*arguments, True)


def test_a_sequence_without_an_end_is_refused_before_it_is_made():
    endless = torch.ones(1, 3, 10).expand(1 << 42, 3, 10)
    arguments = {**arguments_of("recurrent_forward"), "projected": endless}
    with pytest.raises(ValueError, match=r"at most 2\^47 bytes in all"):
        ops.recurrent_forward(**arguments)
