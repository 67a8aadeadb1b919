# SPDX-License-Identifier: MIT
"""The baselines of recurrent cells do what the papers say, and the comparison would notice if not."""

import math
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.baselines import recurrent_steppers
from benchmarks.baselines.recurrent import Batch, CellAlone, MixedCell, OneHotCell, language_loss
from benchmarks.baselines.recurrent_floor import Products
from benchmarks.baselines.recurrent_steppers import CLIP, LR, RecurrentDARTS, RecurrentStepper
from benchmarks.cases import recurrent
from benchmarks.framework import Settings, assert_equal
from benchmarks.launches import launches_of
from benchmarks.memory import peak_of
from benchmarks.ours_recurrent import OursInSearch
from benchmarks.rows import Row
from benchmarks.targets import TARGETS, target_lines
from nasp_ext.families.recurrent.genotype import RecurrentGenotype

TINY = recurrent.Sizes(batch=3, size=4, length=3)
WORDS = recurrent.Sizes(batch=3, size=4, length=3, vocabulary=6)
DERIVED = recurrent.Sizes(batch=3, size=4, length=3, derived=True)


def made(name: str, sizes: recurrent.Sizes, dtype: torch.dtype = torch.float32) -> RecurrentStepper:
    torch.manual_seed(0)
    subject = recurrent.stepper(name, "cpu", sizes)
    assert isinstance(subject, RecurrentStepper)
    subject.net.to(dtype)
    return subject


def test_the_mixed_cell_computes_the_formula_of_every_option() -> None:
    """s_1 from s_0 alone and s_2 from both, with sigma, f and BatchNorm written out."""
    cell = MixedCell(3, 2).double()
    x, hidden = torch.randn(1, 5, 3).double(), torch.randn(5, 3).double()
    a, mask = torch.rand(3, 5).double(), torch.rand(5, 3).double()

    def normed(z: Tensor) -> Tensor:
        return (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt()

    def sent(state: Tensor, weight: Tensor, row: Tensor) -> Tensor:
        product = (state * mask) @ weight
        c, h = product[:, :3], product[:, 3:]
        gate = 1 / (1 + torch.exp(-c))
        values = [h.tanh(), h.clamp(min=0), 1 / (1 + torch.exp(-h)), h]
        return sum((row[k + 1] * (state + gate * (v - state)) for k, v in enumerate(values)), 0 * state)

    product = torch.cat((x[0], hidden * mask), 1) @ cell.entry
    c, h = product[:, :3], product[:, 3:]
    s0 = normed(hidden + (1 / (1 + torch.exp(-c))) * (h.tanh() - hidden))
    s1 = normed(sent(s0, cell.weights[0], a[0]))
    s2 = normed(sent(s0, cell.weights[1], a[1]) + sent(s1, cell.weights[1], a[2]))
    out = cell(x, hidden, a, None, mask)
    assert_equal(out[0].detach(), ((s1 + s2) / 2).detach(), 1e-12, "a time step")


@pytest.mark.parametrize("derived", [False, True])
def test_methods_agree(derived: bool) -> None:
    recurrent.check_agreement("cpu", derived=derived)


def test_the_agreement_check_notices_a_wrong_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    right = OursInSearch.architecture_gradient

    def off_by_little(self: OursInSearch) -> Tensor:
        gradient = right(self)
        gradient[3, 2] += 1e-6
        return gradient

    monkeypatch.setattr(OursInSearch, "architecture_gradient", off_by_little)
    with pytest.raises(AssertionError, match="dF/dA of nasp_ext"):
        recurrent.check_agreement("cpu")


def test_the_agreement_check_notices_a_mask_in_the_wrong_place(monkeypatch: pytest.MonkeyPatch) -> None:
    right = OneHotCell.forward
    monkeypatch.setattr(OneHotCell, "forward", lambda self, x, h, m, n: right(self, x, h, n, m))
    with pytest.raises(AssertionError, match="of plain one-hot cell"):
        recurrent.check_agreement("cpu")


def unrolled_gradient(subject: RecurrentDARTS) -> Tensor:
    """The exact gradient of the validation loss after one clipped weight step, by double backward."""
    names = [name for name, _ in subject.net.named_parameters()]

    def loss(weights: list[Tensor], batch: Batch) -> Tensor:
        found: Tensor = functional_call(
            subject.net, dict(zip(names, weights, strict=True)), (batch, subject.a.softmax(-1))
        )
        return found

    weights = [w.detach().clone().requires_grad_() for w in subject.weights]
    inner = torch.autograd.grad(loss(weights, subject.train), weights, create_graph=True)
    norm = torch.cat([g.detach().flatten() for g in inner]).norm()
    ratio = min(1.0, float(CLIP / (norm + 1e-6)))
    assert ratio < 1
    unrolled = [w - LR * (ratio * g + 5e-7 * w) for w, g in zip(weights, inner, strict=True)]
    return torch.autograd.grad(loss(unrolled, subject.valid), subject.a)[0]


def double(name: str) -> RecurrentDARTS:
    """In float64, with a loss that the clipped step changes enough."""
    torch.manual_seed(0)
    sizes = recurrent.Sizes(batch=5, size=4, length=3)
    subject = recurrent._stepper(name, sizes, "cpu", torch.float64)
    return cast(RecurrentDARTS, subject)


def test_second_order_gradient_is_that_of_the_unrolled_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent_steppers, "_DIFFERENCE", 1e-6)  # short, so that no ReLU switches
    subject = double(recurrent.SECOND)
    exact = unrolled_gradient(subject)
    assert_equal(subject.architecture_gradient(), exact, 1e-5, "second order")
    with pytest.raises(AssertionError, match="differ"):
        assert_equal(double(recurrent.MIXTURE).architecture_gradient(), exact, 1e-3, "first order")


def test_second_order_step_leaves_the_weights_alone() -> None:
    subject = made(recurrent.SECOND, TINY)
    before = [w.detach().clone() for w in subject.weights]
    subject.architecture_step()
    assert all(torch.equal(w, b) for w, b in zip(subject.weights, before, strict=True))


def test_the_gradients_that_nothing_uses_change_no_architecture() -> None:
    wanted, found = (made(n, TINY).architecture_gradient() for n in (recurrent.MIXTURE, recurrent.AUTHORS))
    assert_equal(found, wanted, 1e-5, "dF/dA")


@pytest.mark.parametrize("sizes", [TINY, WORDS, DERIVED], ids=str)
def test_every_method_moves_its_weights_and_its_architecture(sizes: recurrent.Sizes) -> None:
    for name in recurrent.methods(sizes):
        if name != recurrent.FLOOR:
            subject = made(name, sizes)
            before = [w.detach().clone() for w in subject.weights]
            subject.weight_step()
            changed = [not torch.equal(w, b) for w, b in zip(subject.weights, before, strict=True)]
            assert all(changed), (name, changed)
            if "architecture step" in recurrent.phases(subject):
                first = architecture(subject).clone()
                subject.architecture_step()
                assert not torch.equal(architecture(subject), first)


def architecture(subject: RecurrentStepper) -> Tensor:
    if isinstance(subject, OursInSearch):
        return subject.strategy.scores()
    return cast(RecurrentDARTS, subject).a.detach()


class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Multiplications of all matrix products."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # nor here
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name in ("aten::mm", "aten::addmm"):
            left, right = args[-2:]
            self.total += left.shape[0] * left.shape[1] * right.shape[1]
        return func(*args, **(kwargs or {}))


def units(step: Callable[[], object], sizes: recurrent.Sizes) -> float:
    """Matrix products of a step, in units of B·E·2E for each time step."""
    counted = Counted()
    with counted:
        step()
    return counted.total / (sizes.length * sizes.batch * sizes.size * 2 * sizes.size)


def test_the_products_are_those_of_one_path_and_of_all_pairs() -> None:
    """8 steps: 10 products forward; 30 with backward; of the gates 9 backward and 28 pairs not chosen."""
    floor = recurrent.stepper(recurrent.FLOOR, "cpu", TINY)
    assert units(floor.weight_step, TINY) == 30
    assert units(floor.architecture_step, TINY) == 10 + 9 + 28
    with_words = recurrent.stepper(recurrent.FLOOR, "cpu", WORDS)
    decoder = WORDS.vocabulary / (2 * WORDS.size)
    assert units(with_words.weight_step, WORDS) == pytest.approx(30 + 3 * decoder)
    assert units(with_words.architecture_step, WORDS) == pytest.approx(47 + 2 * decoder)


def test_the_baselines_run_the_products_that_they_are_to_run() -> None:
    """Gradients of the first hidden state are not needed; of A also none in front of the first step."""
    length = TINY.length
    assert units(made(recurrent.PLAIN, TINY).weight_step, TINY) == pytest.approx(30 - 1 / length)
    mixture = made(recurrent.MIXTURE, TINY)
    assert units(mixture.weight_step, TINY) == pytest.approx(3 * 38)
    assert units(mixture.architecture_step, TINY) == pytest.approx(2 * 38 - 3 / length)
    all_gradients = made(recurrent.AUTHORS, TINY)
    assert units(all_gradients.architecture_step, TINY) == pytest.approx(3 * 38 - 2 / length)


def test_the_products_of_a_retraining_have_no_architecture_step() -> None:
    derived = recurrent.stepper(recurrent.FLOOR, "cpu", DERIVED)
    assert isinstance(derived, Products)
    assert list(recurrent.phases(derived)) == ["weight step"]


def test_an_architecture_has_every_activation_twice_and_is_what_is_selected() -> None:
    terms = recurrent.terms_of(TINY)
    assert [step for step, _, _ in terms] == list(range(1, 9))
    assert sorted(name for _, _, name in terms) == sorted(("tanh", "relu", "sigmoid", "identity") * 2)
    subject = cast(OursInSearch, made(recurrent.OURS, TINY))
    found = cast(RecurrentGenotype, subject.space.genotype(subject.strategy.propose()))
    assert found.recurrent == tuple((name, source) for _, source, name in terms)


def test_a_mixture_launches_many_times_what_one_architecture_launches() -> None:
    """3 time steps: at least 36 products and 32 sums of options forward, as many backward."""
    plain, mixture = (launches_of(made(n, TINY).weight_step) for n in (recurrent.PLAIN, recurrent.MIXTURE))
    assert 3 * 2 * (8 + 32) < 3 * plain < mixture
    with torch.no_grad():
        x = torch.zeros(2, 2)
        assert launches_of(lambda: (x.t() @ x).view(4)[:2].exp()) == 2


def row(
    variant: str, phase: str, ratio: float, case: str = "recurrent, cell only, batch 64, 1 thread"
) -> Row:
    return Row(case, phase, variant, ratio=ratio, ratio_low=ratio / 2, ratio_high=2 * ratio)


def test_targets_say_what_was_wanted_and_what_was_found() -> None:
    found = list(
        target_lines(
            [
                row(recurrent.FLOOR, "weight step", 0.5),
                row(recurrent.MIXTURE, "weight step", 4.5),
                row(recurrent.MIXTURE, "iteration", 3.0),
                row(recurrent.MIXTURE, "iteration", 1.0, "recurrent, whole step, batch 64"),
                Row("recurrent, cell only", "weight step", recurrent.PLAIN, missing="no such thing"),
            ]
        )
    )
    assert found == [
        "recurrent, cell only, batch 64, 1 thread, weight step: nasp_ext / matrix products alone 2.00 "
        "[1.00, 4.00], target <= 1.25: MISSED",
        "recurrent, cell only, batch 64, 1 thread, weight step: DARTS, first order / nasp_ext 4.50 "
        "[2.25, 9.00], target >= 4: met",
        "recurrent, cell only, batch 64, 1 thread, iteration: DARTS, first order / nasp_ext 3.00 "
        "[1.50, 6.00], target >= 3.5: MISSED",
    ]


def test_every_target_is_about_a_case_that_there_is() -> None:
    names = [case.name for case in recurrent.cases(Settings())]
    names += [f"peak memory, {sizes}" for sizes in recurrent.measured_sizes(Settings())]
    for target in TARGETS:
        assert any(name.startswith(target.case) for name in names), target


def test_cases_run_with_one_thread_and_with_two() -> None:
    found = [(case.name.split(", ")[-1], case.threads) for case in recurrent.cases(Settings())]
    assert set(found) == {("1 thread", 1), ("2 threads", 2)}
    assert {case.threads for case in recurrent.cases(Settings(threads=(3,)))} == {3}


def test_peak_memory_of_a_cell_is_measured_in_another_process() -> None:
    assert 0 < peak_of(recurrent.MIXTURE, "architecture step", "cpu", TINY) < 2**30


def test_a_cell_alone_sums_its_outputs_times_the_factors() -> None:
    class Twice(torch.nn.Module):
        def forward(self, x: Tensor, hidden: Tensor, *masks: Tensor | None) -> Tensor:
            return 2 * x

    batch = Batch(torch.ones(2, 1, 3), torch.full((2, 1, 3), 0.5), torch.zeros(1, 3))
    assert CellAlone(Twice())(batch) == 6


def test_the_loss_of_words_counts_what_the_hidden_state_moves() -> None:
    """Equal logits: log 4 for each word; the state moves by 2 in every entry: 1e-3 times 4."""
    out = torch.tensor([1.0, 3.0, 1.0]).view(3, 1, 1).expand(3, 2, 5)
    found = language_loss(torch.zeros(3, 2, 4), torch.zeros(3, 2, dtype=torch.int64), out)
    assert float(found) == pytest.approx(math.log(4) + 0.004)


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"expected a method, one of nasp_ext, .* got 'DARTS'"):
        recurrent.stepper("DARTS", "cpu", TINY)
