# SPDX-License-Identifier: MIT
"""prox_c, prox_c1, prox_c2: against the reference, and against what a projection is."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ops_drawn import DTYPES, QUICK, SEEDS, masks, matrices, seeded

from nasp_ext import ops
from nasp_ext.ops import reference

PROX = ["prox_c", "prox_c1"]


@QUICK
@given(data=st.data(), name=st.sampled_from(PROX), seed=SEEDS)
def test_values_and_index_equal_the_reference(data, name, seed):
    a = data.draw(matrices())
    mask = data.draw(masks(a))
    found = getattr(ops, name)(a, mask, generator=seeded(seed))
    expected = getattr(reference, name)(a, mask, generator=seeded(seed))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@QUICK
@given(data=st.data())
def test_clip_equals_the_reference(data):
    a = data.draw(matrices())
    mask = data.draw(masks(a))
    torch.testing.assert_close(ops.prox_c2(a, mask), reference.prox_c2(a, mask), rtol=0, atol=0)


@QUICK
@given(a=matrices(max_leading=0, dtypes=[torch.float64]))
def test_prox_c_is_the_nearest_of_all_points_with_one_entry_in_the_box(a):
    a = a.clamp(-3, 3)  # finite, so that distances exist
    values, _ = ops.prox_c(a)
    distance = (a - values).square().sum(-1)
    for option in range(a.shape[-1]):
        for c in [*torch.linspace(0, 1, 21).tolist(), None]:
            rival = torch.zeros_like(a)
            rival[:, option] = a[:, option].clamp(0, 1) if c is None else c
            assert (distance <= (a - rival).square().sum(-1) + 1e-12).all()


@QUICK
@given(a=matrices(max_leading=0, dtypes=[torch.float64]))
def test_prox_c1_is_the_nearest_of_all_points_with_one_entry(a):
    a = a.clamp(-3, 3)
    values, _ = ops.prox_c1(a)
    distance = (a - values).square().sum(-1)
    for option in range(a.shape[-1]):
        rest = a.clone()
        rest[:, option] = 0
        assert (distance <= rest.square().sum(-1) + 1e-12).all()


@QUICK
@given(data=st.data())
def test_prox_c_is_feasible_and_idempotent(data):
    a = data.draw(matrices())
    mask = data.draw(masks(a))
    values, index = ops.prox_c(a, mask)
    assert ((values >= 0) & (values <= 1)).all()
    assert ((values != 0).sum(-1) <= 1).all()
    again, _ = ops.prox_c(values, mask)
    torch.testing.assert_close(again, values, rtol=0, atol=0)
    if mask is not None:
        assert (values[~mask.expand(a.shape)] == 0).all()
        assert ((index == ops.PRUNED) == ~mask.expand(a.shape).any(-1)).all()


def test_entry_above_one_wins_by_its_unclipped_value():
    values, index = ops.prox_c(torch.tensor([[1.5, 3.0, 2.0]]))
    assert index.tolist() == [1]
    assert values.tolist() == [[0.0, 1.0, 0.0]]


def test_row_without_a_positive_entry_selects_its_largest_and_is_zero():
    values, index = ops.prox_c(torch.tensor([[-3.0, -1.0, -2.0]]))
    assert index.tolist() == [1]
    assert values.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("options", [1, 5, 8, 70])
def test_equal_entries_select_the_lowest_index(options):
    _, index = ops.prox_c(torch.full((3, options), 0.5))
    assert index.tolist() == [0, 0, 0]


@pytest.mark.parametrize("options", [5, 8, 9])
def test_row_of_negative_infinities_selects_its_first_existing_option(options):
    a = torch.full((2, options), -float("inf"))
    mask = torch.ones(options, dtype=torch.bool)
    mask[:2] = False
    assert ops.prox_c(a)[1].tolist() == [0, 0]
    assert ops.prox_c(a, mask)[1].tolist() == [2, 2]


def test_seeded_tie_break_is_reproducible_and_depends_on_the_seed():
    a = torch.full((64, 8), 0.5)
    first, again, other = (ops.prox_c(a, generator=seeded(s))[1] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_seeded_tie_break_is_uniform_over_the_tied_options():
    a = torch.full((8000, 5), 0.5)
    a[:, 3] = 0.25
    _, index = ops.prox_c(a, generator=seeded(0))
    counts = torch.bincount(index, minlength=5).tolist()
    assert counts[3] == 0
    assert all(abs(counts[k] - 2000) < 200 for k in (0, 1, 2, 4))  # 5 standard deviations


def test_seeded_tie_break_never_overrules_a_larger_entry():
    a = torch.rand(100, 8)
    assert torch.equal(ops.prox_c(a, generator=seeded(0))[1], a.argmax(-1))


@pytest.mark.parametrize("name", [*PROX, "prox_c2"])
@pytest.mark.parametrize("options", [3, 8, 9])
def test_nan_raises_and_names_its_row(name, options):
    a = torch.zeros(7, options)
    a[5, options - 1] = float("nan")
    with pytest.raises(ValueError, match="NaN in row 5 of 7"):
        getattr(ops, name)(a)


@pytest.mark.parametrize("name", [*PROX, "prox_c2"])
@pytest.mark.parametrize("options", [3, 8, 9])
def test_nan_under_the_mask_is_ignored(name, options):
    a = torch.full((4, options), 0.5)
    a[:, 1] = float("nan")
    result = getattr(ops, name)(a, torch.arange(options) != 1)
    values = result if name == "prox_c2" else result[0]
    assert not values.isnan().any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [8, 5])
def test_many_rows_in_threads_equal_the_composite(dtype, options):
    a = torch.randn(70001, options, dtype=torch.float32).to(dtype)
    values, index = ops.prox_c(a)
    assert torch.equal(index, a.argmax(-1))
    expected = torch.zeros_like(a).scatter(-1, index[:, None], a.gather(-1, index[:, None]).clamp(0, 1))
    assert torch.equal(values, expected)


def test_results_past_the_caches_equal_those_within():
    a = torch.randn(300_000, 8)
    values, index = ops.prox_c(a)
    parts = [ops.prox_c(part) for part in a.split(50_000)]
    assert torch.equal(values, torch.cat([v for v, _ in parts]))
    assert torch.equal(index, torch.cat([i for _, i in parts]))


@pytest.mark.parametrize("name", [*PROX, "prox_c2"])
def test_gradient_is_that_of_the_reference(name):
    a = torch.randn(6, 5, dtype=torch.float64) + 0.5
    a[0, 0], a[1, 1] = 1.0, 0.0  # on the bounds: the gradient passes
    a[2] = torch.tensor([5.0, 1, 2, 3, 4])
    mask = torch.rand(6, 5) < 0.8
    upstream = torch.randn(6, 5, dtype=torch.float64)
    grads = []
    for module in (ops, reference):
        leaf = a.clone().requires_grad_()
        result = getattr(module, name)(leaf, mask)
        values = result if name == "prox_c2" else result[0]
        grads += torch.autograd.grad(values, leaf, upstream)
    assert torch.equal(*grads)


@pytest.mark.parametrize("name", [*PROX, "prox_c2"])
def test_gradient_agrees_with_finite_differences(name):
    a = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    function = getattr(ops, name)
    values = function if name == "prox_c2" else lambda x: function(x)[0]
    assert torch.autograd.gradcheck(values, (a,))
    assert torch.autograd.gradgradcheck(values, (a,))
