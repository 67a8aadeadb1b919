# SPDX-License-Identifier: MIT
"""A refused nasp_step_ or select_active has written nothing, whatever was wrong."""

import pytest
import torch

from nasp_ext import ops

NAN, INFINITY = float("nan"), float("inf")
META = torch.device("meta")


def arguments(dtype=torch.float32):
    """Of a step that is right, by name."""
    generator = torch.Generator().manual_seed(3)
    a, grad, weight, exp_avg = (torch.rand(5, 3, generator=generator).to(dtype) for _ in range(4))
    active = torch.zeros(5, dtype=torch.int32)
    numbers = {"step": 2, "lr": 0.1, "weight_decay": 1e-3, "eta": 0.1}
    tables = {"cost": torch.ones(5, 3, dtype=dtype), "mask": torch.ones(5, 3, dtype=torch.bool)}
    nodes = {"node_offsets": [0, 2, 5], "edges_per_node": 1}
    tensors = {"a": a, "grad": grad, "weight": weight, "active": active}
    moments = {"exp_avg": exp_avg, "exp_avg_sq": exp_avg.square()}
    return {**tensors, **moments, **numbers, **tables, **nodes}


def entry(name, value):
    def damage(given):
        given[name][3, 1] = value

    return damage


def option(**options):
    return lambda given: given.update(options)


def on_meta(name):
    return lambda given: given.update({name: given[name].to(META)})


def expanded(name):
    def damage(given):
        given[name] = given[name][:1].expand_as(given[name])

    return damage


def same(one, other):
    return lambda given: given.update({one: given[other]})


def overlapping(given):
    memory = torch.rand(20)
    given["a"], given["exp_avg"] = memory[:15].view(5, 3), memory[5:].view(5, 3)


def windows(given):
    given["weight"] = torch.rand(7).as_strided((5, 3), (1, 1))


REFUSED = {
    **{
        f"{name} {value}": entry(name, value)
        for name in ("a", "grad", "cost", "weight")
        for value in (NAN, INFINITY)
    },
    **{
        f"{name} {value}": entry(name, value)
        for name in ("exp_avg", "exp_avg_sq")
        for value in (NAN, INFINITY)
    },
    "negative second moment": entry("exp_avg_sq", -1e-3),
    "gradient whose square overflows": entry("grad", 1e30),
    **{
        f"{name} {value}": option(**{name: value})
        for name in ("lr", "eps", "weight_decay", "eta")
        for value in (NAN, INFINITY, -1.0, 1e300)
    },
    "betas": option(betas=(0.5, NAN)),
    "betas of one": option(betas=(1.0, 0.5)),
    "step zero": option(step=0),
    "least step": option(step=-(2**63)),
    **{
        f"{name} on meta": on_meta(name)
        for name in arguments()
        if isinstance(arguments()[name], torch.Tensor)
    },
    **{f"{name} expanded": expanded(name) for name in ("a", "weight", "active", "exp_avg", "exp_avg_sq")},
    "weight of overlapping windows": windows,
    "a and a moment overlap": overlapping,
    "one tensor twice": same("exp_avg", "exp_avg_sq"),
    "grad is a": same("grad", "a"),
    "cost is a moment": same("cost", "exp_avg"),
    "active of another length": option(active=torch.zeros(4, dtype=torch.int32)),
    "cost of another shape": option(cost=torch.ones(3, 5)),
    "cost of no rows": option(cost=torch.ones(0, 3)),
    "cost in three dimensions": option(cost=torch.ones(1, 5, 3)),
    "mask of numbers": option(mask=torch.ones(5, 3)),
    "mask of another shape": option(mask=torch.ones(3, 5, dtype=torch.bool)),
    "nodes beyond": option(node_offsets=[0, 2**62, 5]),
    "nodes before": option(node_offsets=[0, -(2**63), 5]),
    "no nodes": option(node_offsets=[]),
    "nodes that fall": option(node_offsets=[0, 5, 2, 5]),
    "edges": option(edges_per_node=-(2**63)),
}


@pytest.mark.parametrize("damage", REFUSED.values(), ids=REFUSED)
def test_refused_step_has_written_nothing(damage):
    given = arguments()
    damage(given)
    before = {n: t.clone() for n, t in given.items() if isinstance(t, torch.Tensor) and not t.is_meta}
    with pytest.raises(ValueError, match="expected"):
        ops.nasp_step_(**given)
    for name, copy in before.items():
        torch.testing.assert_close(given[name], copy, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_by_zero_without_an_eps_is_refused(dtype):
    given = arguments(dtype)
    given["grad"].zero_(), given["cost"].zero_(), given["exp_avg"].zero_(), given["exp_avg_sq"].zero_()
    given.update(eps=0.0, weight_decay=0.0)
    before = given["a"].clone()
    with pytest.raises(ValueError, match="expected eps > 0"):
        ops.nasp_step_(**given)
    assert torch.equal(given["a"], before)


@pytest.mark.parametrize("name", ["a", "grad", "exp_avg", "exp_avg_sq", "cost"])
def test_damage_where_no_option_is_does_not_matter(name):
    given, clean = arguments(), arguments()
    for one in (given, clean):
        one["mask"][3, 1] = False
    entry(name, NAN)(given)
    for one in (given, clean):
        ops.nasp_step_(**one)
    others = given["mask"]
    assert torch.equal(given["a"][others], clean["a"][others])
    assert torch.equal(given["active"], clean["active"])


@pytest.mark.parametrize("name", ["a", "weight", "exp_avg", "exp_avg_sq"])
def test_parts_of_one_tensor_that_do_not_meet_are_taken(name):
    given, clean = arguments(), arguments()
    both = torch.zeros(5, 6)
    both[:, ::2] = given[name]
    given[name] = both[:, ::2]
    given["active"] = torch.zeros(10, dtype=torch.int32)[::2]
    for one in (given, clean):
        ops.nasp_step_(**one)
    assert torch.equal(given[name], clean[name])
    assert torch.equal(given["active"], clean["active"])
    assert both[:, 1::2].count_nonzero() == 0


SELECTIONS = {
    "mask on meta": lambda: ops.select_active(
        torch.rand(5, 3), mask=torch.ones(3, dtype=torch.bool, device=META)
    ),
    "a on meta": lambda: ops.select_active(
        torch.rand(5, 3, device=META), mask=torch.ones(3, dtype=torch.bool)
    ),
    "nodes beyond": lambda: ops.select_active(torch.rand(5, 3), [0, 2**63 - 1, 5], 1),
    "edges": lambda: ops.select_active(torch.rand(5, 3), [0, 5], -(2**63)),
    "no options": lambda: ops.select_active(torch.rand(5, 0)),
    "options without number": lambda: ops.select_active(torch.rand(1, 1).expand(1, 2**31)),
    "clip": lambda: ops.prox_c2(torch.rand(5, 3), torch.ones(3, dtype=torch.bool, device=META)),
    "projection": lambda: ops.prox_c(torch.rand(5, 3), torch.ones(3, dtype=torch.bool, device=META)),
}


@pytest.mark.parametrize("call", SELECTIONS.values(), ids=SELECTIONS)
def test_selection_of_what_does_not_fit_is_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()


def test_more_edges_than_rows_keep_all():
    _, active = ops.select_active(torch.rand(5, 3), [0, 5], 2**63 - 1)
    assert (active >= 0).all()


def test_number_is_the_seed_of_the_ties():
    a = torch.full((14, 8), 0.5)
    one, two = (ops.select_active(a, generator=seed)[1] for seed in (1, 2))
    assert torch.equal(one, ops.reference.select_active(a, generator=1)[1])
    assert not torch.equal(one, two)


@pytest.mark.parametrize("generator", ["seeded", True, 0.5])
def test_what_breaks_no_ties_is_refused(generator):
    with pytest.raises(TypeError, match=r"expected generator to be a torch\.Generator"):
        ops.select_active(torch.rand(2, 2), generator=generator)
