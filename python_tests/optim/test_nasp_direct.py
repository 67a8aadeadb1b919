# SPDX-License-Identifier: MIT
"""A step of a small matrix goes past the dispatcher: same bits, and only where that is safe."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasp_ext.ops.direct import DirectStep
from nasp_ext.optim import NASP

NODES = (2, 3, 4, 5)


@pytest.fixture
def direct_calls(monkeypatch):
    """The step numbers of the calls that went past the dispatcher."""
    calls = []
    call = DirectStep.__call__

    def spy(self, grad, step, *arguments):
        calls.append(step)
        return call(self, grad, step, *arguments)

    monkeypatch.setattr(DirectStep, "__call__", spy)
    return calls


def walk(a, steps=4, seed=None, change=lambda optimizer, step: None, **options):
    """A, the moments and the gates of every step."""
    a = a.clone().requires_grad_()
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    optimizer = NASP([a], 0.1, generator=generator, **{"nodes": "darts", **options})
    torch.manual_seed(1)
    seen = []
    for step in range(steps):
        a.grad = (torch.randint(-2, 3, a.shape) / 2).to(a.dtype)
        change(optimizer, step)
        optimizer.step()
        gates = optimizer.gates()[0]
        moments = [optimizer.state[a].get(name) for name in ("exp_avg", "exp_avg_sq")]
        seen.append((a.detach().clone(), gates.active, gates.weight, *(m for m in moments if m is not None)))
    return seen


def assert_same(one, two):
    for seen, expected in zip(one, two, strict=True):
        for x, y in zip(seen, expected, strict=True):
            assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y


def some_of(mask):
    """The mask with an option in every row."""
    return mask | ~mask.any(-1, keepdim=True)


def by_operator(monkeypatch, *arguments, **options):
    """The walk with every step through the operator."""
    with monkeypatch.context() as patch:
        patch.setattr(DirectStep, "make", lambda *_, **__: None)
        return walk(*arguments, **options)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.sampled_from([2, 5, 14]),
    columns=st.sampled_from([1, 3, 8, 9]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    preset=st.sampled_from(["official", "paper"]),
    keep=st.sampled_from([None, 1, 2]),
    masked=st.sampled_from([None, "row", "matrix", "column"]),
    cost=st.sampled_from([None, "shared", "per row"]),
    seed=st.sampled_from([None, 3, "seeded"]),
)
def test_walk_has_the_bits_of_the_operator(rows, columns, dtype, preset, keep, masked, cost, seed):
    torch.manual_seed(0)
    shapes = {"row": (columns,), "matrix": (rows, columns), "column": (rows, 1)}
    costs = {"shared": columns, "per row": (rows, columns)}
    options = {
        "preset": preset,
        "edges_per_node": keep,
        "mask": None if masked is None else some_of(torch.rand(shapes[masked]) < 0.7),
        "cost": None if cost is None else torch.rand(costs[cost]),
        "eta": 0.0 if cost is None else 0.3,
        "seed": seed,
    }
    a = (torch.randint(0, 3, (rows, columns)) / 2).to(dtype)
    with pytest.MonkeyPatch.context() as patch:
        expected = by_operator(patch, a, **options)
    assert_same(walk(a, **options), expected)


def test_usual_steps_go_past_the_dispatcher(direct_calls):
    walk(torch.rand(14, 8))
    assert direct_calls == [1, 2, 3, 4]


def test_large_matrix_goes_through_the_operator(direct_calls):
    walk(torch.rand(4097, 8), edges_per_node=None, nodes=None)
    assert direct_calls == []


def grad_of_columns(optimizer, step):
    (a,) = optimizer.param_groups[0]["params"]
    a.grad = a.grad.t().contiguous().t()


def grad_of_one_row(optimizer, step):
    (a,) = optimizer.param_groups[0]["params"]
    a.grad = a.grad[:1].expand_as(a)


def other_mask(optimizer, step):
    optimizer.param_groups[0]["mask"] = torch.arange(8) > step


def mask_in_place(optimizer, step):
    optimizer.param_groups[0]["mask"][step % 14] = torch.arange(8) > step


def other_nodes(optimizer, step):
    optimizer.param_groups[0]["nodes"] = (5, 4, 3, 2) if step % 2 else NODES


def other_numbers(optimizer, step):
    optimizer.param_groups[0].update(lr=0.1 / (step + 1), betas=(0.1 * step, 0.9), eps=1e-6, weight_decay=0.1)


def all_edges_kept(optimizer, step):
    optimizer.param_groups[0].update(edges_per_node=None if step > 1 else 1, keep_value=step > 2)


def other_moments(optimizer, step):
    for state in optimizer.state.values():
        state["exp_avg"] = state["exp_avg"].clone() + step


def moved_moments(optimizer, step):
    for state in optimizer.state.values():
        state["exp_avg_sq"].data = state["exp_avg_sq"].clone() * 2


def moved_matrix(optimizer, step):
    (a,) = optimizer.param_groups[0]["params"]
    a.data = a.detach().clone()


def fewer_edges_by_state(optimizer, step):
    optimizer.load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize(
    "change",
    [
        grad_of_columns,
        grad_of_one_row,
        other_mask,
        mask_in_place,
        other_nodes,
        other_numbers,
        all_edges_kept,
        other_moments,
        moved_moments,
        moved_matrix,
        fewer_edges_by_state,
    ],
)
def test_change_between_steps_is_seen(monkeypatch, change):
    def options():
        return {"mask": torch.ones(14, 8, dtype=torch.bool), "nodes": NODES, "change": change}

    a = torch.rand(14, 8)
    assert_same(walk(a, **options()), by_operator(monkeypatch, a, **options()))


@pytest.mark.parametrize("shrunk", [("matrix",), ("gradient",), ("matrix", "gradient")])
def test_what_shrank_in_place_is_refused_and_nothing_behind_it_is_written(shrunk):
    a = torch.rand(14, 8, requires_grad=True)
    optimizer = NASP([a], edges_per_node=None)
    a.grad = torch.ones(14, 8)
    optimizer.step()
    whole = a.data
    if "matrix" in shrunk:
        a.data = whole[:7]
    if "gradient" in shrunk:
        a.grad.data = a.grad[:7]
    behind = whole[7:].clone()
    with pytest.raises(ValueError, match=r"to be \(7, 8\), found \(14, 8\)|gradient of the shape of a"):
        optimizer.step()
    assert torch.equal(whole[7:], behind)


def test_step_raises_the_version_so_that_autograd_sees_it():
    a = torch.rand(14, 8, requires_grad=True)
    optimizer = NASP([a], nodes=NODES)
    loss = a.square().sum()
    a.grad = torch.ones_like(a)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    ("option", "value"), [("betas", (0.5, 1.5)), ("edges_per_node", 0), ("nodes", (14, 0))]
)
def test_option_that_was_spoilt_later_is_still_refused(option, value):
    a = torch.rand(14, 8, requires_grad=True)
    optimizer = NASP([a], nodes=NODES)
    a.grad = torch.ones_like(a)
    optimizer.step()
    before = a.detach().clone()
    optimizer.param_groups[0][option] = value
    with pytest.raises(ValueError, match="expected"):
        optimizer.step()
    assert torch.equal(a, before)


def test_sparse_gradient_is_refused():
    a = torch.rand(14, 8, requires_grad=True)
    optimizer = NASP([a], nodes=NODES)
    a.grad = torch.ones_like(a)
    optimizer.step()
    a.grad = None
    a.grad = torch.ones(14, 8).to_sparse()
    with pytest.raises(TypeError, match="dense gradient"):
        optimizer.step()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_number_that_is_not_finite_is_found_anywhere(dtype, value, direct_calls):
    for size in (1, 7, 40):
        for place in range(size):
            a = torch.full((1, size), 0.5, dtype=dtype, requires_grad=True)
            optimizer = NASP([a])
            a.grad = torch.ones_like(a)
            optimizer.step()
            before = a.detach().clone()
            a.grad[0, place] = value
            with pytest.raises(ValueError, match=f"finite gradient, found .*option {place};"):
                optimizer.step()
            assert torch.equal(a, before)
    assert direct_calls
