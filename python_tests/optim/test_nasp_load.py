# SPDX-License-Identifier: MIT
"""load_state_dict takes what a NASP of these matrices could have saved; the rest is refused untouched."""

import copy

import pytest
import torch

from nasp_ext.optim import NASP


def make(**options):
    torch.manual_seed(0)
    a = torch.rand(14, 8).requires_grad_()
    return a, NASP([a], lr=0.1, **{"nodes": "darts", "cost": torch.ones(8), "eta": 0.1, **options})


def stepped(**options):
    a, optimizer = make(**options)
    for _ in range(2):
        a.grad = torch.randn(14, 8)
        optimizer.step()
    return a, optimizer


def of_parameter(**fields):
    return lambda saved: saved["state"][0].update(fields)


def of_group(**fields):
    return lambda saved: saved["param_groups"][0].update(fields)


def without(*path):
    def remove(saved):
        for key in path[:-1]:
            saved = saved[key]
        del saved[path[-1]]

    return remove


NAN = torch.full((14, 8), float("nan"))
REFUSED = {
    "no state": (without("state"), "no 'state'"),
    "no groups": (without("param_groups"), "no 'param_groups'"),
    "no generator": (without("generator"), "no 'generator'"),
    "foreign field": (lambda saved: saved.update(epoch=3), "also 'epoch'"),
    "state of a list": (lambda saved: saved.update(state=[]), "to be a dict, found list"),
    "two groups": (
        lambda saved: saved["param_groups"].append(saved["param_groups"][0]),
        "expected 1 .*found 2",
    ),
    "two parameters": (of_group(params=[0, 1]), "expected 1 parameters"),
    "parameters of words": (of_group(params=["a"]), "expected 1 parameters"),
    "another parameter": (lambda saved: saved["state"].update({5: {}}), "also 5"),
    "no lr": (without("param_groups", 0, "lr"), "no 'lr'"),
    "foreign option": (of_group(momentum_decay=1), "also 'momentum_decay'"),
    "negative lr": (of_group(lr=-1.0), "group 0 .*lr to be a finite number >= 0, got -1"),
    "lr of words": (of_group(lr="0.1"), "lr to be"),
    "infinite lr": (of_group(lr=float("inf")), "lr to be"),
    "one beta": (of_group(betas=[0.5]), "betas to be two numbers"),
    "eps": (of_group(eps=float("nan")), "eps to be"),
    "preset": (of_group(preset="fast"), "preset"),
    "adam": (of_group(adam=False), "preset"),
    "nodes": (of_group(nodes=(2, 3)), "sum to 14"),
    "no nodes": (of_group(nodes=None), 'nodes="darts"'),
    "edges": (of_group(edges_per_node=1.5), "edges_per_node"),
    "mask": (of_group(mask=torch.zeros(8, dtype=torch.bool)), "every row an option"),
    "cost": (of_group(cost=torch.full((8,), float("inf"))), "cost to hold finite numbers"),
    "cost of words": (of_group(cost="1"), "cost to be a tensor"),
    "cost on meta": (of_group(cost=torch.ones(8, device="meta")), "cost to be a dense tensor"),
    "sparse cost": (of_group(cost=torch.ones(8).to_sparse()), "cost to be a dense tensor"),
    "mask on meta": (
        of_group(mask=torch.ones(8, dtype=torch.bool, device="meta")),
        "mask to be a dense tensor",
    ),
    "keep_value": (of_group(keep_value="no"), "keep_value"),
    "no moment": (without("state", 0, "exp_avg"), "exp_avg .*found NoneType"),
    "moment that is None": (of_parameter(exp_avg_sq=None), "exp_avg_sq .*found NoneType"),
    "moment of another shape": (of_parameter(exp_avg=torch.zeros(8)), r"exp_avg .*\(14, 8\), found \(8,\)"),
    "moment of integers": (of_parameter(exp_avg=torch.zeros(14, 8, dtype=torch.int64)), "exp_avg .*int64"),
    "moment of NaN": (of_parameter(exp_avg=NAN), "exp_avg of parameter 0 to hold finite"),
    "moment too large": (
        of_parameter(exp_avg=torch.full((14, 8), 1e300, dtype=torch.float64)),
        "to hold finite",
    ),
    "negative moment": (of_parameter(exp_avg_sq=-torch.ones(14, 8)), "exp_avg_sq .*>= 0"),
    "moment that is a number": (of_parameter(exp_avg_sq=-1), "exp_avg_sq .*found int"),
    "sparse moment": (of_parameter(exp_avg=torch.zeros(14, 8).to_sparse()), "dense"),
    "no step": (without("state", 0, "step"), "no 'step'"),
    "negative step": (of_parameter(step=-1), "step .*found -1"),
    "step of half": (of_parameter(step=1.5), "step .*found 1.5"),
    "step that is true": (of_parameter(step=True), "step .*found True"),
    "no seed": (of_parameter(tie_seed=None), "tie_seed .*found None"),
    "seed out of range": (of_parameter(tie_seed=2**64), "tie_seed"),
    "foreign entry": (of_parameter(max_exp_avg_sq=NAN), "also 'max_exp_avg_sq'"),
    "other ties": (lambda saved: saved.update(generator=None), "tie-break"),
    "ties of words": (lambda saved: saved.update(generator="dice"), "'dice'"),
}


@pytest.mark.parametrize(("damage", "message"), REFUSED.values(), ids=REFUSED)
def test_what_nasp_would_not_have_saved_is_refused_and_nothing_changes(damage, message):
    a, optimizer = stepped()
    twin = stepped()[1]
    damaged = copy.deepcopy(optimizer.state_dict())
    damage(damaged)
    with pytest.raises((ValueError, TypeError), match=message):
        optimizer.load_state_dict(damaged)
    (b,) = twin.param_groups[0]["params"]
    for x, y in ((a, optimizer), (b, twin)):
        x.grad = torch.ones(14, 8)
        y.step()
    assert torch.equal(a, b)
    assert optimizer.gates()[0].active == twin.gates()[0].active


def test_generator_state_of_another_length_is_refused():
    _, optimizer = stepped(generator=torch.Generator())
    saved = optimizer.state_dict()
    saved["generator"] = saved["generator"][:7]
    with pytest.raises(ValueError, match=r"state of a CPU torch\.Generator"):
        optimizer.load_state_dict(saved)


@pytest.mark.parametrize("generator", ["seeded", None])
def test_moments_of_another_dtype_are_cast(generator):
    a, optimizer = stepped(generator=generator)
    b, other = make(generator=generator)
    b.data = a.detach().double()
    other.load_state_dict(optimizer.state_dict())
    assert other.state[b]["exp_avg"].dtype == torch.float64
    for x, y in ((a, optimizer), (b, other)):
        x.grad = torch.ones_like(x)
        y.step()
    torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-6)


def test_what_schedulers_leave_in_a_group_is_taken():
    _, optimizer = stepped()
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10, cycle_momentum=False)
    make()[1].load_state_dict(optimizer.state_dict())


def test_state_before_the_first_step_is_taken():
    _, optimizer = make()
    fresh = optimizer.state_dict()
    optimizer.gates()
    chosen = optimizer.state_dict()
    for saved in (fresh, chosen):
        make()[1].load_state_dict(saved)
