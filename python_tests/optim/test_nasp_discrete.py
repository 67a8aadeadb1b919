# SPDX-License-Identifier: MIT
"""Inside discrete() the parameters are Ā; outside they are A, whatever happened."""

import pytest
import torch

from nasp_ext.optim import NASP


@pytest.fixture
def a():
    return torch.rand(14, 8, dtype=torch.float64).requires_grad_()


def test_parameters_are_one_hot_inside_and_restored_bit_for_bit(a):
    before = a.detach().clone()
    optimizer = NASP([a], nodes="darts")
    expected = optimizer.gates()[0].weight
    with optimizer.discrete():
        assert torch.equal(a, expected)
        assert a.count_nonzero() == 8
        a.mul(2).sum().backward()
    assert torch.equal(a, before)
    assert torch.equal(a.grad, torch.full_like(a, 2.0))


def test_an_exception_inside_passes_and_restores(a):
    before = a.detach().clone()
    optimizer = NASP([a], nodes="darts")
    with pytest.raises(ZeroDivisionError), optimizer.discrete():
        raise ZeroDivisionError
    assert torch.equal(a, before)
    with optimizer.discrete():
        pass
    assert torch.equal(a, before)


def test_nested_use_is_refused_and_restores(a):
    before = a.detach().clone()
    optimizer = NASP([a], nodes="darts")
    with pytest.raises(RuntimeError, match="inside discrete"), optimizer.discrete(), optimizer.discrete():
        pass
    assert torch.equal(a, before)


@pytest.mark.parametrize("through_data", [False, True])
def test_a_parameter_changed_inside_is_an_error_and_restored(a, through_data):
    before = a.detach().clone()
    optimizer = NASP([a], nodes="darts")
    with pytest.raises(RuntimeError, match="1 of 1 changed"), optimizer.discrete(), torch.no_grad():
        (a.data if through_data else a).fill_(0.25)
    assert torch.equal(a, before)


@pytest.mark.parametrize(
    "use",
    [
        lambda o: o.step(),
        lambda o: o.gates(),
        lambda o: o.load_state_dict(o.state_dict()),
        lambda o: __import__("copy").deepcopy(o),
    ],
)
def test_what_needs_the_continuous_matrix_is_refused_inside(a, use):
    optimizer = NASP([a], nodes="darts")
    with optimizer.discrete(), pytest.raises(RuntimeError, match="inside discrete"):
        use(optimizer)


def test_restoring_keeps_the_seeded_selection():
    a = torch.full((14, 8), 0.5, requires_grad=True)
    optimizer = NASP([a], nodes="darts", generator=torch.Generator().manual_seed(3))
    before = optimizer.gates()[0].active
    for _ in range(2):
        with optimizer.discrete():
            pass
    assert optimizer.gates()[0].active == before


def test_leaving_does_not_make_the_selection_anew(a, monkeypatch):
    optimizer = NASP([a], nodes="darts")
    optimizer.gates()
    monkeypatch.setattr("nasp_ext.ops.select_active", None)  # a call would fail
    for _ in range(2):
        with optimizer.discrete():
            pass
    optimizer.gates()


def test_matrices_that_are_views_of_one_tensor_are_told_apart():
    whole = torch.rand(28, 8)
    before = whole.clone()
    normal, reduce = whole[:14].requires_grad_(), whole[14:].requires_grad_()  # they share a version counter
    optimizer = NASP([normal, reduce], nodes="darts")
    expected = [gates.weight for gates in optimizer.gates()]
    for _ in range(2):
        with optimizer.discrete():
            assert torch.equal(normal, expected[0])
            assert torch.equal(reduce, expected[1])
        assert torch.equal(whole, before)


def test_another_shape_given_inside_is_an_error_and_every_matrix_is_restored(a):
    b = torch.rand(2, 3).requires_grad_()
    before = a.detach().clone(), b.detach().clone()
    optimizer = NASP([{"params": [a], "nodes": "darts"}, {"params": [b]}])
    with pytest.raises(RuntimeError, match="1 of 2 changed"), optimizer.discrete():
        a.data = torch.zeros(3, 8, dtype=a.dtype)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])
    assert len(optimizer.gates()) == 2
