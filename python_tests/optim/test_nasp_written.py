# SPDX-License-Identifier: MIT
"""A matrix, mask or option written to behind the optimizer: the selection is of what is there now."""

import pytest
import torch

from nasp_ext.optim import NASP

NEW = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])


def by_no_grad(a):
    with torch.no_grad():
        a.copy_(NEW)


def by_numpy(a):
    a.detach().numpy()[:] = NEW.numpy()


WRITES = {
    "no_grad": by_no_grad,
    "data =": lambda a: setattr(a, "data", NEW.clone()),
    "data.copy_": lambda a: a.data.copy_(NEW),
    "numpy": by_numpy,
}


def make(steps=0, **options):
    a = torch.full((2, 3), 0.5, requires_grad=True)
    optimizer = NASP([a], lr=0.01, **options)
    optimizer.gates()
    for _ in range(steps):
        a.grad = torch.tensor([[-1.0, 1.0, 1.0]] * 2)
        optimizer.step()
    return a, optimizer


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("steps", [0, 2])
def test_gates_are_those_of_the_matrix_as_it_is(write, steps):
    a, optimizer = make(steps)
    write(a)
    assert optimizer.gates()[0].active == (2, 1)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("steps", [0, 2])
def test_discrete_parameters_are_those_of_the_matrix_as_it_is(write, steps):
    a, optimizer = make(steps)
    write(a)
    with optimizer.discrete():
        assert torch.equal(a, NEW)
    assert torch.equal(a, NEW)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("rows", [2, 20_000], ids=["by addresses", "by the operator"])
def test_regulariser_pulls_at_the_matrix_as_it_is(write, rows):
    # Costs (0, 1, 3) of sum 4, eta 1, lr 0.1: the selected entry k moves by -0.1 · 2 · p_k / 4.
    a = torch.full((rows, 3), 0.5, requires_grad=True)
    cost = torch.tensor([0.0, 1.0, 3.0])
    optimizer = NASP([a], lr=0.1, preset="paper", keep_value=False, eta=1.0, cost=cost, generator=None)
    for _ in range(2):
        a.grad = torch.zeros_like(a)
        optimizer.step()
    if rows == 2:
        write(a)
    else:
        a.data[:2].copy_(NEW)
    optimizer.step()
    expected = NEW - torch.tensor([[0.0, 0.0, 0.15], [0.0, 0.05, 0.0]])
    torch.testing.assert_close(a[:2].detach(), expected)


def test_step_from_a_matrix_written_to_starts_there():
    a, optimizer = make(2, preset="paper")
    by_numpy(a)
    a.grad = torch.tensor([[0.0, 0.0, 10.0], [0.0, 0.0, 0.0]])
    optimizer.step()
    torch.testing.assert_close(a.detach(), NEW - 0.01 * a.grad)
    assert optimizer.gates()[0].active == (2, 1)


MASK_WRITES = {
    "in place": lambda group: group["mask"][:, 0].fill_(False),
    "data": lambda group: group["mask"].data[:, 0].fill_(False),
    "numpy": lambda group: group["mask"].numpy()[:, 0].fill(False),
    "other": lambda group: group.update(mask=torch.tensor([False, True, True])),
}


@pytest.mark.parametrize("write", MASK_WRITES.values(), ids=MASK_WRITES)
@pytest.mark.parametrize("steps", [0, 2])
def test_gates_follow_the_mask(write, steps):
    _, optimizer = make(steps, mask=torch.ones(2, 3, dtype=torch.bool), generator=None)
    assert optimizer.gates()[0].active == (0, 0)
    write(optimizer.param_groups[0])
    assert optimizer.gates()[0].active == (1, 1)


def test_gates_follow_an_option_that_is_set_later():
    _, optimizer = make(nodes=(2,), generator=None)
    assert optimizer.gates()[0].active == (0, 0)
    optimizer.param_groups[0]["edges_per_node"] = 1
    assert optimizer.gates()[0].active == (0, -1)


def test_regulariser_follows_a_cost_changed_in_place():
    steps = []
    for change in (False, True):
        a = torch.full((1, 2), 0.5, requires_grad=True)
        cost = torch.tensor([1.0, 3.0] if change else [3.0, 1.0])
        optimizer = NASP([a], lr=0.1, preset="paper", eta=1.0, cost=cost, generator=None)
        a.grad = torch.zeros_like(a)
        if change:
            optimizer.step()
            cost.copy_(torch.tensor([3.0, 1.0]))
            a.data.fill_(0.5)
        optimizer.step()
        steps.append(a.detach().clone())
    assert torch.equal(*steps)


TABLE_WRITES = {
    "in place": lambda table, new: table.copy_(new),
    "data.copy_": lambda table, new: table.data.copy_(new),
    "data =": lambda table, new: setattr(table, "data", new.clone()),
    "numpy": lambda table, new: table.numpy().__setitem__(slice(None), new.numpy()),
}


@pytest.mark.parametrize("write", TABLE_WRITES.values(), ids=TABLE_WRITES)
@pytest.mark.parametrize("rows", [2, 20_000], ids=["by addresses", "by the operator"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_regulariser_has_the_costs_as_they_are(write, rows, dtype):
    # Option 1 is selected. It moves by -lr · 2 · eta · p_1 / sum of p · a_1, with p_1 of 1/4, then 3/4.
    start = torch.tensor([[0.5, 0.9, 0.5]]).repeat(rows, 1)
    a, cost = start.clone().requires_grad_(), torch.tensor([0, 1, 3], dtype=dtype)
    optimizer = NASP([a], lr=0.1, preset="paper", eta=1.0, cost=cost)
    expected = start.clone()
    for new, share in ((None, 0.25), (None, 0.25), (torch.tensor([1, 3, 0], dtype=dtype), 0.75)):
        if new is not None:
            write(cost, new)
        expected[:, 1] -= 0.2 * share * expected[:, 1]  # the kept value is a_1
        a.grad = torch.zeros(rows, 3)
        optimizer.step()
        torch.testing.assert_close(a.detach(), expected)


@pytest.mark.parametrize("write", TABLE_WRITES.values(), ids=TABLE_WRITES)
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_mask_that_comes_to_leave_a_row_nothing_is_refused(write, steps):
    mask = torch.ones(2, 3, dtype=torch.bool)
    a, optimizer = make(steps, mask=mask, nodes=(2,))
    before = a.detach().clone()
    write(mask, torch.tensor([[True, True, True], [False, False, False]]))
    a.grad = torch.ones(2, 3)
    for use in (optimizer.step, optimizer.gates, optimizer.discrete().__enter__):
        with pytest.raises(ValueError, match="every row an option, found none in row 1"):
            use()
        assert torch.equal(a, before)


def test_mask_changed_in_a_way_that_no_version_counts_holds_in_the_next_step():
    mask = torch.ones(3, dtype=torch.bool)
    a, optimizer = make(2, mask=mask)
    before = a.detach().clone()
    assert optimizer.gates()[0].active == (0, 0)
    mask.numpy()[0] = False
    a.grad = torch.tensor([[-1.0, -1.0, 1.0]] * 2)
    optimizer.step()
    assert optimizer.gates()[0].active == (1, 1)
    assert torch.equal(a[:, 0], before[:, 0])  # what does not exist rests


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(
    "use", [lambda o: None, lambda o: o.gates(), lambda o: o.discrete()], ids=["", "gates", "discrete"]
)
def test_step_moves_the_matrix_that_was_given_other_memory(steps, use):
    a, optimizer = make(steps, preset="paper")
    a.data = a.data.clone()
    entered = use(optimizer)
    if hasattr(entered, "__enter__"):
        with entered:
            pass
    before = a.detach().clone()
    a.grad = torch.tensor([[1.0, -1.0, 0.0]] * 2)
    optimizer.step()
    torch.testing.assert_close(a.detach(), before - 0.01 * a.grad)  # lr is 0.01
