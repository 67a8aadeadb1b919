# SPDX-License-Identifier: MIT
"""nasp_step_: the reference, torch.optim.Adam, and what must not change."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ops_drawn import QUICK, SEEDS, seeded

from nasp_ext import ops
from nasp_ext.ops import reference

DARTS_NODES = (0, 2, 5, 9, 14, 16, 19, 23, 28)


def fresh(rows, options, dtype=torch.float64, adam=True):
    """a, weight, active, exp_avg, exp_avg_sq"""
    a = torch.rand(rows, options, dtype=dtype)
    state = [torch.zeros_like(a), torch.zeros_like(a)] if adam else [None, None]
    weight, active = ops.select_active(a)
    return [a, weight, active, *state]


def step(module, state, grad, **options):
    a, weight, active, *moments = state
    module.nasp_step_(a, grad, weight, active, *moments, **options)


@QUICK
@given(
    rows=st.integers(0, 30),
    options=st.sampled_from([1, 3, 8, 9]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    adam=st.booleans(),
    masked=st.booleans(),
    cost=st.sampled_from([None, "shared", "per row"]),
    keep_value=st.booleans(),
    edges=st.sampled_from([None, 2]),
    seed=SEEDS,
)
def test_three_steps_equal_the_reference(rows, options, dtype, adam, masked, cost, keep_value, edges, seed):
    torch.manual_seed(rows)
    state = fresh(rows, options, dtype, adam)
    twin = copy.deepcopy(state)
    settings = {
        "lr": 0.05,
        "weight_decay": 1e-3,
        "eta": 0.3,
        "cost": None
        if cost is None
        else torch.rand((rows, options) if cost == "per row" else options, dtype=dtype),
        "mask": torch.rand(rows, options) < 0.7 if masked else None,
        "node_offsets": sorted({0, rows // 2, rows}),
        "edges_per_node": edges,
        "keep_value": keep_value,
    }
    for count in (1, 2, 3):
        grad = torch.randn(rows, options, dtype=dtype)
        step(ops, state, grad, step=count, generator=seeded(seed), **settings)
        step(reference, twin, grad, step=count, generator=seeded(seed), **settings)
    for found, expected in zip(state, twin, strict=True):
        if found is not None:
            torch.testing.assert_close(
                found, expected, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-6
            )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_hundred_steps_follow_torch_adam_with_clip_and_selection(dtype, assert_close):
    state = fresh(28, 8, dtype)
    parameter = torch.nn.Parameter(state[0].clone())
    adam = torch.optim.Adam([parameter], lr=0.01, betas=(0.5, 0.999), weight_decay=1e-3)
    for count in range(1, 101):
        grad = torch.randn(28, 8, dtype=dtype)
        step(
            ops,
            state,
            grad,
            step=count,
            lr=0.01,
            weight_decay=1e-3,
            node_offsets=DARTS_NODES,
            edges_per_node=2,
        )
        parameter.grad = grad.clone()
        adam.step()
        with torch.no_grad():
            parameter.clamp_(0, 1)
    assert_close(state[0], parameter.detach())
    assert_close(state[3], adam.state[parameter]["exp_avg"])
    assert_close(state[4], adam.state[parameter]["exp_avg_sq"])
    weight, active = ops.select_active(state[0], DARTS_NODES, 2)
    assert torch.equal(state[1], weight)
    assert torch.equal(state[2], active)


def test_plain_step_moves_against_the_gradient_and_clips():
    state = [torch.tensor([[0.5, 0.9]]), torch.zeros(1, 2), torch.zeros(1, dtype=torch.int32), None, None]
    step(ops, state, torch.tensor([[4.0, -4.0]]), step=1, lr=0.25)
    assert state[0].tolist() == [[0.0, 1.0]]
    assert state[1].tolist() == [[0.0, 1.0]]
    assert state[2].tolist() == [1]


def test_regulariser_is_taken_at_the_weight_before_the_call():
    a, weight = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.0, 1.0]])
    active = torch.tensor([1], dtype=torch.int32)
    cost = torch.tensor([10.0, 0.25])
    ops.nasp_step_(a, torch.zeros(1, 2), weight, active, step=1, lr=1.0, cost=cost, eta=0.5)
    assert a.tolist() == [[0.5, 0.25]]  # 0.5 - 2 * 0.5 * 0.25 * 1
    assert weight.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_gradient_that_is_not_finite_changes_nothing(bad):
    state = fresh(28, 8)
    before = copy.deepcopy(state)
    grad = torch.zeros(28, 8, dtype=torch.float64)
    grad[5, 3] = bad
    with pytest.raises(ValueError, match=r"finite gradient, found -?(nan|inf) in row 5, option 3"):
        step(ops, state, grad, step=1, lr=0.1)
    assert all(torch.equal(x, y) for x, y in zip(state, before, strict=True))


def test_nan_in_the_matrix_changes_nothing():
    state = fresh(4, 3)
    state[0][2, 1] = float("nan")
    before = copy.deepcopy(state)
    with pytest.raises(ValueError, match="finite architecture matrix, found nan in row 2, option 1"):
        step(ops, state, torch.ones(4, 3, dtype=torch.float64), step=1, lr=0.1)
    assert all(torch.equal(x.nan_to_num(9), y.nan_to_num(9)) for x, y in zip(state, before, strict=True))


def test_masked_option_keeps_its_entry_and_moments():
    state = fresh(5, 4)
    before = copy.deepcopy(state)
    mask = torch.tensor([True, False, True, True])
    grad = torch.randn(5, 4, dtype=torch.float64)
    grad[:, 1] = float("nan")
    step(ops, state, grad, step=1, lr=0.1, weight_decay=0.1, mask=mask)
    for index in (0, 3, 4):
        assert torch.equal(state[index][:, 1], before[index][:, 1])
        assert not torch.equal(state[index][:, 0], before[index][:, 0])


def test_strided_tensors_are_updated_in_place():
    plain = fresh(6, 5)
    strided = [
        torch.empty(2 * 6, 5, dtype=t.dtype)[::2].copy_(t) if t.dim() == 2 else t.clone() for t in plain
    ]
    grad = torch.randn(5, 6, dtype=torch.float64).T
    step(ops, plain, grad.contiguous(), step=1, lr=0.1)
    step(ops, strided, grad, step=1, lr=0.1)
    assert all(torch.equal(x, y) for x, y in zip(plain, strided, strict=True))


def test_many_rows_in_threads_equal_one_thread():
    state = fresh(20_001, 8, torch.float32)
    twin = copy.deepcopy(state)
    grad, cost = torch.randn(20_001, 8), torch.rand(8)
    threads = torch.get_num_threads()
    step(ops, state, grad, step=1, lr=0.1, cost=cost, eta=0.1)
    torch.set_num_threads(1)
    step(ops, twin, grad, step=1, lr=0.1, cost=cost, eta=0.1)
    torch.set_num_threads(threads)
    assert all(torch.equal(x, y) for x, y in zip(state, twin, strict=True))


def test_call_raises_the_version_of_what_it_changes():
    state = fresh(4, 3)
    before = [t._version for t in state]
    step(ops, state, torch.zeros(4, 3, dtype=torch.float64), step=1, lr=0.1)
    assert [t._version for t in state] == [v + 1 for v in before]


def test_parameter_that_requires_grad_is_updated_outside_the_graph():
    state = fresh(4, 3)
    parameter = state[0] = torch.nn.Parameter(state[0])
    step(ops, state, torch.ones(4, 3, dtype=torch.float64), step=1, lr=0.1)
    assert parameter.grad_fn is None
    assert not state[1].requires_grad
