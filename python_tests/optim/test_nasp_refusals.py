# SPDX-License-Identifier: MIT
"""NASP refuses what it cannot do, says what to do instead, and leaves A alone."""

import gc

import pytest
import torch
from torch.optim import optimizer as torch_optimizer

from nasp_ext.optim import NASP
from nasp_ext.optim.guard import _Guard


def matrix(rows=14, options=8, **kwargs):
    return torch.full((rows, options), 0.5, requires_grad=True, **kwargs)


@pytest.mark.parametrize("where", ["gradient", "architecture matrix"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_number_is_an_error_and_no_parameter_moves(where, value):
    good, bad = matrix(), matrix()
    optimizer = NASP([good, bad], nodes="darts", lr=0.1)
    good.grad, bad.grad = torch.ones_like(good), torch.ones_like(bad)
    with torch.no_grad():
        (bad.grad if where == "gradient" else bad)[3, 2] = value
    before = bad.detach().clone()
    with pytest.raises(ValueError, match=r"found (nan|NaN|inf) in row 3"):
        optimizer.step()
    assert torch.equal(good, torch.full_like(good, 0.5))
    assert torch.equal(bad.nan_to_num(9), before.nan_to_num(9))


def test_a_refused_step_of_one_matrix_leaves_no_trace():
    bad, good = (NASP([matrix()], nodes="darts", lr=0.1, generator=torch.Generator()) for _ in range(2))
    for optimizer, gradients in ((bad, (1.0, float("nan"), 1.0)), (good, (1.0, 1.0))):
        (a,) = optimizer.param_groups[0]["params"]
        for value in gradients:
            a.grad = torch.ones_like(a) * value  # all entries tie, so the generator decides
            if value == value:
                optimizer.step()
                continue
            with pytest.raises(ValueError, match="finite gradient, found"):
                optimizer.step()
    (refused,), (plain,) = (o.param_groups[0]["params"] for o in (bad, good))
    assert torch.equal(refused, plain)
    assert bad.state[refused]["step"] == good.state[plain]["step"] == 2
    assert bad.gates()[0].active == good.gates()[0].active


def test_a_bad_number_under_the_mask_is_nothing():
    a = matrix()
    mask = torch.arange(8) < 7
    optimizer = NASP([a], nodes="darts", mask=mask, generator=None)
    a.grad = torch.ones_like(a)
    a.grad[0, 7] = float("inf")
    optimizer.step()
    assert optimizer.gates()[0].active[0] == 0


def test_a_nan_is_found_before_the_first_selection():
    a = matrix()
    with torch.no_grad():
        a[2, 1] = float("nan")
    with pytest.raises(ValueError, match=r"(?i)nan"):
        NASP([a], nodes="darts").gates()


def test_weight_optimizer_with_the_same_tensor_is_refused_at_once():
    a, w = matrix(), torch.rand(3, requires_grad=True)
    with pytest.raises(ValueError, match=r"shape \(14, 8\), also in SGD.*weight_parameters"):
        NASP([a], nodes="darts", weight_optimizer=torch.optim.SGD([w, a], lr=0.1))


def test_any_optimizer_with_the_same_tensor_is_stopped_before_it_modifies():
    a, w = matrix(), torch.ones(3, requires_grad=True)
    other = torch.optim.SGD([w, a], lr=0.1)
    optimizer = NASP([a], nodes="darts")
    w.grad, a.grad = torch.ones_like(w), torch.ones_like(a)
    with pytest.raises(ValueError, match="also in SGD"):
        other.step()
    assert torch.equal(w, torch.ones(3))
    assert torch.equal(a, torch.full_like(a, 0.5))
    optimizer.step()


def test_the_guard_goes_with_the_last_optimizer():
    """A guard of its own: other tests may have left optimizers to that of the package."""
    guard, one, two = _Guard(), NASP([matrix()], nodes="darts"), NASP([matrix()], nodes="darts")
    guard.add(one)
    guard.add(two)
    hooks, hook = torch_optimizer._global_optimizer_pre_hooks, guard._handle.id
    assert hook in hooks
    del one
    gc.collect()
    assert hook in hooks
    del two
    gc.collect()
    assert hook not in hooks


def test_an_optimizer_dropped_in_a_cycle_guards_nothing():
    a = matrix()
    optimizer = NASP([a], nodes="darts")
    optimizer.myself = optimizer
    del optimizer
    a.grad = torch.ones_like(a)
    torch.optim.SGD([a], lr=0.25).step()
    assert a[0, 0].item() == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "fast"}, "expected preset to be one of .*official.*paper.*'fast'"),
        ({"lr": -1.0}, "expected lr to be a finite number >= 0"),
        ({"lr": float("nan")}, "expected lr"),
        ({"betas": (0.5, 1.0)}, "expected betas"),
        ({"eta": 0.1}, "eta = 0.1 needs cost="),
        ({"edges_per_node": 0}, "edges_per_node"),
        ({"nodes": (2, 3)}, r"sum to 14, got \(2, 3\) with sum 5"),
        ({"cost": torch.ones(7), "eta": 0.1}, r"expected cost to fit the matrix \(14, 8\).*got \(7,\)"),
        ({"cost": -torch.ones(8), "eta": 0.1}, "cost to hold finite numbers >= 0"),
        ({"mask": torch.ones(14, 7, dtype=torch.bool)}, r"expected mask to fit .*got \(14, 7\)"),
    ],
)
def test_bad_option_is_a_clear_error(options, message):
    with pytest.raises(ValueError, match=message):
        NASP([matrix()], **{"nodes": "darts", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": ["official"]}, "preset"),
        ({"lr": "0.1"}, "lr to be a finite number >= 0, got '0.1'"),
        ({"lr": True}, "lr to be"),
        ({"lr": None}, "lr to be"),
        ({"lr": 1j}, "lr to be"),
        ({"lr": float("inf")}, "lr to be"),
        ({"lr": torch.tensor(-1.0)}, "lr to be"),
        ({"eps": "1e-8"}, "eps to be"),
        ({"weight_decay": float("nan")}, "weight_decay to be"),
        ({"eta": -0.1, "cost": torch.ones(8)}, "eta to be"),
        ({"betas": [0.5]}, "betas to be two numbers"),
        ({"betas": 0.5}, "betas to be two numbers"),
        ({"betas": "ab"}, "betas to be two numbers"),
        ({"betas": ("a", "b")}, "betas to be two numbers"),
        ({"betas": (0.5, float("nan"))}, "betas to be two numbers"),
        ({"edges_per_node": 1.5}, "edges_per_node to be None .*got 1.5"),
        ({"edges_per_node": True}, "edges_per_node to be None"),
        ({"edges_per_node": "two"}, "edges_per_node to be None"),
        ({"nodes": 14}, "nodes to be the rows of each node.*got 14"),
        ({"nodes": "nasp"}, "nodes to be the rows of each node.*got 'nasp'"),
        ({"nodes": (2.0, 3.0, 4.0, 5.0)}, "nodes to be the rows"),
        ({"nodes": (True, 4, 4, 5)}, "nodes to be the rows"),
        ({"nodes": (14, 0)}, "one row or more"),
        ({"nodes": (-2, 16)}, "one row or more"),
        ({"cost": [1.0] * 8}, "cost to be a tensor"),
        ({"cost": float("inf")}, "cost to be a tensor"),
        ({"cost": torch.full((8,), float("nan"))}, "cost to hold finite numbers"),
        ({"cost": torch.full((8,), float("inf"))}, "cost to hold finite numbers"),
        ({"cost": torch.ones(8, dtype=torch.complex64)}, "cost to hold numbers"),
        ({"mask": [True] * 8}, "mask to be a tensor"),
        ({"mask": torch.ones(8)}, "mask to be bool"),
        (
            {"mask": torch.arange(14)[:, None] != torch.full((1, 8), 3)},
            "every row an option, found none in row 3",
        ),
        ({"keep_value": 1}, "keep_value to be"),
        ({"generator": 3}, "generator to be"),
    ],
)
def test_option_of_another_type_or_range_is_refused_at_once(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        NASP([matrix()], **{"nodes": "darts", **options})


@pytest.mark.parametrize("operator", [False, True])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("lr", float("inf")), ("lr", -1.0), ("lr", float("nan")), ("lr", "0.1"), ("lr", 1e300)],
        *[("betas", [0.5]), ("betas", (0.5, 0.9, 0.9)), ("betas", (0.5, float("nan"))), ("eps", -1.0)],
        *[("weight_decay", float("inf")), ("eta", float("nan")), ("eta", "1"), ("edges_per_node", 1.5)],
        *[
            ("nodes", None),
            ("nodes", (2, 3)),
            ("mask", torch.ones(7, dtype=torch.bool)),
            ("mask", torch.ones(8)),
        ],
        *[("cost", torch.ones(3)), ("cost", torch.full((8,), float("nan"))), ("cost", None)],
    ],
)
def test_option_spoilt_later_is_refused_and_no_matrix_moves(option, value, operator):
    options = {"nodes": "darts", "eta": 0.1, "cost": torch.ones(8), "generator": torch.Generator()}
    spoilt, untouched = ([matrix(), matrix(), matrix()] for _ in range(2))
    walks = []
    for matrices in (spoilt, untouched):
        groups = [{"params": matrices[:1]}, {"params": matrices[1:]}]
        optimizer = NASP(groups, lr=0.1, **{**options, "generator": torch.Generator()})
        for step in range(3):
            for a in matrices:
                a.grad = torch.full_like(a, 0.1)
                if operator:
                    a.grad = a.grad.t().contiguous().t()
            if matrices is spoilt and step == 1:
                good = optimizer.param_groups[1][option]
                optimizer.param_groups[1][option] = value
                before = [a.detach().clone() for a in matrices]
                with pytest.raises((ValueError, TypeError), match=r"expected|needs"):
                    optimizer.step()
                assert all(map(torch.equal, matrices, before))
                optimizer.param_groups[1][option] = good
            optimizer.step()
        walks.append((matrices, [g.active for g in optimizer.gates()], optimizer))
    (one, active, refused), (two, expected, plain) = walks
    assert all(map(torch.equal, one, two))
    assert active == expected
    assert [refused.state[a]["step"] for a in one] == [plain.state[a]["step"] for a in two] == [3, 3, 3]


def test_first_step_that_is_refused_leaves_no_trace():
    walks = []
    for refused in (False, True):
        a, b = matrix(), matrix()
        optimizer = NASP([a, b], nodes="darts", lr=0.1, generator=torch.Generator())
        if refused:
            a.grad, b.grad = torch.ones_like(a), torch.full_like(b, float("nan"))
            with pytest.raises(ValueError, match="finite gradient"):
                optimizer.step()
            assert not optimizer.state[a]
            assert not optimizer.state[b]
        a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)
        optimizer.step()
        walks.append([g.active for g in optimizer.gates()])
    assert walks[0] == walks[1]


@pytest.mark.parametrize(
    ("parameter", "error"),
    [
        (torch.rand(8, requires_grad=True), ValueError),
        (torch.rand(2, 3, 4, requires_grad=True), ValueError),
        (torch.rand(2, 0, requires_grad=True), ValueError),
        (torch.rand(2, 3, dtype=torch.float16, requires_grad=True), TypeError),
        (3.0, TypeError),
    ],
)
def test_what_is_no_architecture_matrix_is_refused(parameter, error):
    with pytest.raises(error, match="expected"):
        NASP([parameter], nodes="darts")


def test_a_bad_group_is_not_added():
    optimizer = NASP([matrix()], nodes="darts")
    with pytest.raises(ValueError, match="13 rows"):
        optimizer.add_param_group({"params": [matrix(13)]})
    assert len(optimizer.param_groups) == 1


def test_a_generator_on_another_device_is_refused():
    class OnGpu:
        device = torch.device("cuda")

    with pytest.raises(ValueError, match=r"CPU torch\.Generator"):
        NASP([matrix()], nodes="darts", generator=OnGpu())


@pytest.mark.parametrize("group", [{}, {"params": None}, {"params": {torch.rand(2, 3)}}, {"params": 3}])
def test_params_that_are_no_list_of_matrices_are_refused(group):
    optimizer = NASP([torch.rand(2, 3)])
    with pytest.raises(TypeError, match="params of a group to be a matrix or a list of them"):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("generator", [torch.tensor(1), 0, "dice", True])
def test_generator_that_is_none_is_refused(generator):
    with pytest.raises(TypeError, match=r"generator to be a CPU torch\.Generator, 'seeded' or None"):
        NASP([torch.rand(2, 3)], generator=generator)


@pytest.mark.parametrize("other", [3, "adam", torch.nn.Linear(2, 2)])
def test_weight_optimizer_that_is_none_is_refused(other):
    with pytest.raises(TypeError, match="expected an optimizer of PyTorch beside NASP, got"):
        NASP([torch.rand(2, 3)], weight_optimizer=other)
