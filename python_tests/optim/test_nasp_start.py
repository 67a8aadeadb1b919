# SPDX-License-Identifier: MIT
"""The constant start with `none` among the options moves, and what cannot move is said."""

import copy
import warnings

import pytest
import torch

import nasp_ext
from nasp_ext.nn import DARTS_PRIMITIVES
from nasp_ext.optim import NASP


def half(*shape):
    return torch.full(shape, 0.5, requires_grad=True)


def test_none_is_not_selected_where_the_options_have_names():
    a = half(14, 8)
    with torch.no_grad():
        a[:, 0] = 0.9  # `none`
    optimizer = NASP([a], edges_per_node=None, options=DARTS_PRIMITIVES)
    assert 0 not in optimizer.gates()[0].active
    assert 0 in NASP([a], edges_per_node=None).gates()[0].active


def test_names_without_none_leave_every_option():
    assert NASP([half(2, 2)], options=["wide", "narrow"]).param_groups[0]["mask"] is None


def test_given_mask_has_precedence_over_the_names():
    mask = torch.arange(8) < 1  # only `none`
    optimizer = NASP([half(14, 8)], edges_per_node=None, options=DARTS_PRIMITIVES, mask=mask)
    assert optimizer.gates()[0].active == (0,) * 14


def test_names_hold_for_groups_added_later_and_for_copies():
    optimizer = copy.deepcopy(NASP([half(2, 8)], options=DARTS_PRIMITIVES))
    optimizer.add_param_group({"params": half(2, 8)})
    optimizer.add_param_group({"params": half(2, 2), "options": ("none", "skip_connect")})
    assert optimizer.gates()[2].active == (1, 1)
    assert 0 not in optimizer.gates()[1].active


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (DARTS_PRIMITIVES[:7], ValueError, r"name the columns of the matrix \(2, 8\), got 7 names"),
        ("none", TypeError, "list of the names"),
        ([1] * 8, TypeError, "list of the names"),
    ],
)
def test_names_that_do_not_fit_are_refused(names, error, message):
    with pytest.raises(error, match=message):
        NASP([half(2, 8)], options=names)


def test_only_none_to_select_is_refused():
    with pytest.raises(ValueError, match="leave every row an option"):
        NASP([half(2, 1)], options=["none"])


def test_ties_of_the_start_are_broken_at_random_and_alike_in_every_run():
    one, two = (NASP([half(14, 8), half(14, 8)], edges_per_node=None).gates() for _ in range(2))
    assert [g.active for g in one] == [g.active for g in two]
    assert len(set(one[0].active)) > 3
    assert one[0].active != one[1].active


def test_state_keeps_the_seeded_ties():
    def walk(optimizer, a, steps):
        seen = []
        for _ in range(steps):
            a.grad = torch.full_like(a, 0.1)
            optimizer.step()
            seen.append(optimizer.gates()[0].active)
        return seen

    a, b = half(14, 8), half(14, 8)
    first, second = (NASP([x], edges_per_node=None) for x in (a, b))
    walk(first, a, 3)
    saved, start = copy.deepcopy(first.state_dict()), a.detach().clone()
    expected = walk(first, a, 3)
    b.data.copy_(start)
    second.load_state_dict(saved)
    assert walk(second, b, 3) == expected
    assert len(set(expected)) == 3


def chain(generator, options=None, mask=None):
    """Two cells, one behind the other; their gradients are zero while both select `none`."""
    torch.manual_seed(0)
    cells = torch.nn.ModuleList(nasp_ext.MixedOp(4, 1) for _ in range(2))
    head, alphas, x = torch.nn.Conv2d(4, 1, 1), half(2, 8), torch.randn(8, 4, 8, 8)
    optimizer = NASP([alphas], lr=0.01, generator=generator, options=options, mask=mask)
    for _ in range(10):
        with optimizer.discrete():
            y = cells[1](cells[0](x, alphas[0]), alphas[1])
            (head(y) - x[:, :1]).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return alphas.detach()


@pytest.mark.parametrize(
    "options",
    [
        {"generator": "seeded"},
        {"generator": None, "options": DARTS_PRIMITIVES},
        {"generator": None, "mask": torch.arange(8) > 0},
    ],
)
def test_constant_start_of_a_chain_moves(options):
    a = chain(**options)
    assert all(len(set(row.tolist())) > 3 for row in a)


def test_start_that_nothing_can_move_is_said_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        a = chain(generator=None)
    said = [w for w in caught if "exactly zero in its first 3 steps" in str(w.message)]
    assert len(said) == 1
    assert said[0].filename == __file__
    assert a.unique().numel() == 1


@pytest.mark.parametrize("operator", [False, True])
def test_zero_gradient_is_no_matter_after_one_that_was_not(operator):
    a = half(14, 8)
    optimizer = NASP([a], nodes="darts")
    for step in range(6):
        a.grad = torch.zeros(14, 8)
        if step == 1:
            a.grad[3, 2] = 1e-30
        if operator:
            a.grad = a.grad.t().contiguous().t()
        optimizer.step()  # warnings are errors here


def test_zero_gradient_of_the_operator_is_said_too():
    a = half(14, 8)
    optimizer = NASP([a], nodes="darts")
    a.grad = torch.zeros(8, 14).t()
    optimizer.step()
    optimizer.step()
    with pytest.warns(UserWarning, match="exactly zero"):
        optimizer.step()


def test_example_of_the_readme_finds_the_option_that_fits():
    torch.manual_seed(0)

    edge = nasp_ext.MixedOp(16, stride=1)  # the 8 options of the DARTS space
    alphas = torch.full((14, 8), 0.5, requires_grad=True)  # one row for each edge of a cell
    optimizer = nasp_ext.NASP([alphas], nodes="darts", options=edge.primitives)  # `none` is not selected
    x = torch.randn(4, 16, 8, 8)

    losses = []
    for _ in range(20):
        with optimizer.discrete():  # alphas is one-hot here: one branch runs
            loss = (edge(x, alphas[0]) - x).square().mean()
            loss.backward()  # the exact gradient of all 8 options
        optimizer.step()  # Adam on the continuous alphas, then prox_C2
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert edge.primitives[optimizer.gates()[0].active[0]] == "skip_connect"


def test_no_gradient_in_the_first_steps_is_said_once():
    a, b = half(14, 8), torch.rand(2, 3)  # b does not even require one
    optimizer = NASP([{"params": [a], "nodes": "darts"}, {"params": [b]}])
    optimizer.step()
    optimizer.step()
    with pytest.warns(
        UserWarning, match="no architecture matrix had a gradient in the first 3 steps"
    ) as said:
        optimizer.step()
    assert said[0].filename == __file__
    optimizer.step()  # warnings are errors here


def test_steps_without_a_gradient_are_no_matter_after_one_that_had_it():
    a = half(14, 8)
    optimizer = NASP([a], nodes="darts")
    a.grad = torch.ones(14, 8)
    optimizer.step()
    b = half(14, 8)
    again = NASP([b], nodes="darts")
    again.load_state_dict(optimizer.state_dict())
    a.grad = None
    for _ in range(4):  # warnings are errors here
        optimizer.step()
        again.step()


def test_matrix_without_a_row_steps_in_silence():
    a = torch.zeros(0, 8, requires_grad=True)
    optimizer = NASP([a])
    for _ in range(4):
        a.grad = torch.zeros(0, 8)
        optimizer.step()
    assert optimizer.gates()[0].active == ()


@pytest.mark.parametrize("gradient", [None, torch.zeros(14, 8)], ids=["none", "zeros"])
def test_warnings_name_the_line_that_called_step_whatever_stands_between(gradient):
    a = half(14, 8)
    optimizer, other = NASP([a], nodes="darts"), NASP([half(14, 8)], nodes="darts")  # two: hooks are run
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)  # wraps step()
    for _ in range(2):
        a.grad = gradient
        optimizer.step()
        scheduler.step()
    with pytest.warns(UserWarning, match="first 3 steps") as said:
        optimizer.step()
    assert [warning.filename for warning in said] == [__file__]
    del other
