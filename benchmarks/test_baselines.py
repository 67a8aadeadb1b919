# SPDX-License-Identifier: MIT
"""The baselines do what their papers say, and the comparison would notice if they did not."""

from collections.abc import Sequence
from typing import cast

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from benchmarks.baselines import steppers
from benchmarks.baselines.prox import one_hot_rows
from benchmarks.baselines.steppers import DARTS, AuthorsNASP, Batch, PlainStepper, Stepper
from benchmarks.cases import steps
from benchmarks.framework import assert_equal
from benchmarks.ours import Native

TINY = steps.Sizes(batch=3, channels=2, cells=3, image=8)


def darts(order: str) -> DARTS:
    torch.manual_seed(0)
    subject = steps.STEPPERS[f"DARTS, {order} order"](steps.start(TINY, "cpu", torch.float64))
    subject.net.double()
    return cast(DARTS, subject)


def unrolled_gradient(subject: DARTS) -> Tensor:
    """The exact gradient of the validation loss after one weight step, by double backward."""
    names = [name for name, _ in subject.net.named_parameters()]

    def loss(weights: Sequence[Tensor], batch: Batch) -> Tensor:
        mixed = (subject.normal.softmax(-1), subject.reduction.softmax(-1))
        parameters = dict(zip(names, weights, strict=True))
        return cross_entropy(functional_call(subject.net, parameters, (batch[0], *mixed)), batch[1])

    weights = [w.detach().clone().requires_grad_() for w in subject.weights]
    inner = torch.autograd.grad(loss(weights, subject.train), weights, create_graph=True)
    unrolled = [w - 0.025 * (g + 3e-4 * w) for w, g in zip(weights, inner, strict=True)]
    return torch.cat(torch.autograd.grad(loss(unrolled, subject.valid), subject.matrices))


def architecture(subject: Stepper) -> Tensor:
    if isinstance(subject, Native):
        return subject.strategy.scores()
    return torch.cat([matrix.detach() for matrix in cast(PlainStepper, subject).matrices])


def test_second_order_gradient_is_that_of_the_unrolled_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steppers, "_DIFFERENCE", 1e-6)  # short, so that no ReLU switches
    subject = darts("second")
    exact = unrolled_gradient(subject)
    assert_equal(subject.architecture_gradient(), exact, 1e-4, "second order")
    with pytest.raises(AssertionError, match="differ"):
        assert_equal(darts("first").architecture_gradient(), exact, 1e-2, "first order")


def test_second_order_step_leaves_the_weights_alone() -> None:
    subject = darts("second")
    before = [w.detach().clone() for w in subject.weights]
    subject.architecture_step()
    assert all(torch.equal(w, b) for w, b in zip(subject.weights, before, strict=True))


@pytest.mark.parametrize("name", list(steps.STEPPERS))
def test_every_method_moves_its_weights_and_its_architecture(name: str) -> None:
    subject = steps.STEPPERS[name](steps.start(TINY, "cpu", torch.float32))
    weights = subject.weights[0].detach().clone()
    subject.weight_step()
    assert not torch.equal(subject.weights[0], weights)
    if steps.ARCHITECTURE in steps.phases(subject):
        before = architecture(subject).clone()
        subject.architecture_step()
        assert not torch.equal(architecture(subject), before)


def test_the_agreement_check_notices_a_wrong_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    right = AuthorsNASP.architecture_gradient

    def off_by_little(self: AuthorsNASP) -> Tensor:
        gradient = right(self)
        gradient[3, 4] += 1e-8
        return gradient

    monkeypatch.setattr(AuthorsNASP, "architecture_gradient", off_by_little)
    with pytest.raises(AssertionError, match="dF/dA"):
        steps.check_agreement("cpu", ("authors' NASP", "MixedOp + NASP"))


def test_rows_are_chosen_as_by_hand() -> None:
    a = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.3], [0.0, 0.1], [0.7, 0.6]])
    expected = [[0, 1], [1, 0], [1, 0], [0, 0], [1, 0]]
    assert one_hot_rows(a.numpy(), (0, 2, 5), 2).tolist() == expected


def test_equal_means_within_the_tolerance_of_the_largest_entry() -> None:
    assert_equal(torch.tensor([1000.0, 0.009]), torch.tensor([1000.0, 0.0]), 1e-5, "x")
    with pytest.raises(AssertionError, match="x: the results differ by"):
        assert_equal(torch.tensor([1000.0, 0.011]), torch.tensor([1000.0, 0.0]), 1e-5, "x")
    with pytest.raises(AssertionError, match="expected shape"):
        assert_equal(torch.zeros(1), torch.zeros(2), 1.0, "x")
    with pytest.raises(AssertionError, match="differ"):
        assert_equal(torch.tensor([float("nan")]), torch.zeros(1), 1.0, "x")


@pytest.mark.parametrize("name", ["darts", "nasp"])
@pytest.mark.parametrize("edges", [2, None])
def test_methods_agree_in_each_space_with_each_number_of_edges(name: str, edges: int | None) -> None:
    steps.check_agreement("cpu", name=name, edges=edges)


def test_mixtures_agree_with_darts() -> None:
    steps.check_agreement("cpu", steps.DARTS_FAMILY)
