# SPDX-License-Identifier: MIT
"""The steps of recurrent cells: ours, DARTS's mixture, one architecture, and the bare matrix products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn

from benchmarks.baselines.recurrent import (
    DROPOUTS,
    OPTIONS,
    Batch,
    CellAlone,
    LanguageModel,
    LSTMCell,
    MixedCell,
    OneHotCell,
    Term,
)
from benchmarks.baselines.recurrent_floor import Products
from benchmarks.baselines.recurrent_steppers import (
    OneArchitecture,
    OneHotMixture,
    RecurrentDARTS,
    RecurrentStepper,
)
from benchmarks.framework import Case, Phases, Prepared, Settings, assert_equal
from benchmarks.ours_recurrent import OurModel, OursDerived, OursInSearch, genotype_of
from nasp_ext.arch.registry import space
from nasp_ext.families.networks import supernet
from nasp_ext.families.recurrent.cell import RecurrentCell
from nasp_ext.families.recurrent.space import RecurrentSpace

OURS = "nasp_ext"
PLAIN = "plain one-hot cell"
MIXTURE, SECOND = "DARTS, first order", "DARTS, second order"
AUTHORS = "DARTS, first order, all gradients"
FLOOR = "matrix products alone"
LSTM = "nn.LSTM, 2 layers"


@dataclass(frozen=True)
class Sizes:
    """A cell, its input and its architecture; the default is the search of the papers.

    Args:
        batch, size, length: B, E = H, T; vocabulary: V of the language model around it, 0 = none.
        derived: a cell to retrain, without BatchNorm, in place of a search.
        architecture: number of the random one.
    """

    batch: int
    size: int = 300
    length: int = 35
    vocabulary: int = 0
    derived: bool = False
    architecture: int = 0

    def __str__(self) -> str:
        what = "retraining" if self.derived else "whole step" if self.vocabulary else "cell only"
        return f"recurrent, {what}, batch {self.batch}, size {self.size}"


_SEARCH = (Sizes(64), Sizes(256), Sizes(64, vocabulary=10_000), Sizes(256, vocabulary=10_000))
_SIZES = (*_SEARCH, Sizes(64, size=850, derived=True))


def sizes_of(settings: Settings) -> list[Sizes]:
    """Every cell that is measured."""
    if not settings.quick:
        return list(_SIZES)
    return [
        replace(found, batch=4, size=5, length=3, vocabulary=min(found.vocabulary, 7))
        for found in (_SIZES[0], *_SIZES[3:])
    ]


def methods(sizes: Sizes) -> tuple[str, ...]:
    """What is measured of a cell, ours first."""
    if sizes.derived:
        return OURS, PLAIN, LSTM, FLOOR
    if sizes.batch > 64:  # how long the second order takes is known from a batch of 64
        return OURS, PLAIN, MIXTURE, FLOOR
    if sizes.vocabulary:
        return OURS, PLAIN, MIXTURE, SECOND, FLOOR
    return OURS, PLAIN, MIXTURE, AUTHORS, SECOND, LSTM, FLOOR


def measured_sizes(settings: Settings) -> list[Sizes]:
    """Those whose peak memory is measured: of cells alone, in a search."""
    return [sizes for sizes in sizes_of(settings) if not sizes.vocabulary and not sizes.derived]


def measured_methods(sizes: Sizes) -> tuple[str, ...]:
    """What uses memory as a search does, ours first."""
    return tuple(name for name in methods(sizes) if name in (OURS, PLAIN, MIXTURE, SECOND))


def cases(settings: Settings) -> list[Case]:
    counts = settings.threads[: 1 if settings.quick else None]
    return [_case(settings, sizes, threads) for sizes in sizes_of(settings) for threads in counts]


def _case(settings: Settings, sizes: Sizes, threads: int) -> Case:
    def build() -> Prepared:
        _agreement_once(settings.device, sizes.derived)
        return Prepared({name: phases(stepper(name, settings.device, sizes)) for name in methods(sizes)})

    number = f"{threads} thread" + "s" * (threads > 1)
    return Case(f"{sizes}, {number}", methods(sizes), build, threads, seconds=8.0)


def phases(subject: RecurrentStepper | Products) -> Phases:
    """What is timed of a method."""
    return subject.phases


def stepper(name: str, device: str, sizes: Sizes) -> RecurrentStepper | Products:
    """The method ready to step, in float32, from seed 0."""
    torch.manual_seed(0)
    if name == FLOOR:
        found = Products(terms_of(sizes), sizes.length, sizes.batch, sizes.size, sizes.vocabulary, device)
        found.in_search = not sizes.derived
        return found
    return _stepper(name, sizes, device, torch.float32)


def terms_of(sizes: Sizes) -> list[Term]:
    """A random architecture of one predecessor for each step, every activation twice."""
    generator = torch.Generator().manual_seed(1 + sizes.architecture)
    steps = _space().steps
    numbers = 1 + torch.randperm(steps, generator=generator) % (len(OPTIONS) - 1)
    return [
        (step, int(torch.randint(step, (), generator=generator)), OPTIONS[int(numbers[step - 1])])
        for step in range(1, steps + 1)
    ]


def architecture_of(terms: list[Term], dtype: torch.dtype = torch.float32) -> Tensor:
    """(R, K), an A that selects these terms by far."""
    rows = [_space().edges.index((step, source)) for step, source, _ in terms]
    a = torch.full((_space().rows, len(OPTIONS)), 0.25, dtype=dtype)
    a[rows, [OPTIONS.index(name) for _, _, name in terms]] = 0.75
    return a


def check_agreement(device: str, *, derived: bool = False, dtype: torch.dtype = torch.float64) -> None:
    """A small cell of equal weights: the same loss and gradients, of A, of the weights and of the inputs."""
    for sizes in (Sizes(5, size=6, length=4, derived=derived), Sizes(4, 6, 4, 9, derived)):
        if derived and sizes.vocabulary:
            continue
        names = (OURS, PLAIN) if derived else (_ONE_HOT, OURS, PLAIN)
        torch.manual_seed(0)
        made = {name: _stepper(name, sizes, device, dtype, dropout=False) for name in names}
        start = _bare(made[names[0]].net).state_dict()
        for subject in made.values():
            _bare(subject.net).load_state_dict(start)
        expected = _found(made[names[0]])
        for name in names[1:]:
            for part, value in _found(made[name]).items():
                assert_equal(value, expected[part], 1e-10, f"{part} of {name}")


_ONE_HOT = "mixture at one-hot rows"


@cache
def _agreement_once(device: str, derived: bool) -> None:
    check_agreement(device, derived=derived)


def _found(subject: RecurrentStepper) -> dict[str, Tensor]:
    """The loss and every gradient, of what a method has."""
    found = {"loss": subject.loss(subject.train).detach()}
    found |= {name: value.clone() for name, value in _bare(subject.net).named_buffers()}
    if not isinstance(subject, OneArchitecture):
        found["dF/dA"] = subject.architecture_gradient()
    subject.weight_gradients()
    named = _bare(subject.net).named_parameters()
    found |= {f"gradient of {name}": w.grad for name, w in named if w.grad is not None}
    if subject.train.inputs.grad is not None:
        found["gradient of the inputs"] = subject.train.inputs.grad
    return found


def _bare(net: nn.Module) -> nn.Module:
    """The part whose parameters have the same names in every method."""
    return net.net if isinstance(net, OurModel) else net


def _stepper(
    name: str, sizes: Sizes, device: str, dtype: torch.dtype, *, dropout: bool = True
) -> RecurrentStepper:
    size, words = sizes.size, sizes.vocabulary
    terms = terms_of(sizes)
    a = architecture_of(terms, dtype).to(device)
    train, valid = _batch(sizes, 1, device, dtype), _batch(sizes, 2, device, dtype)
    if not words:
        train.inputs.requires_grad_()  # as the embedding behind them would need it
    steps, norm = len(terms), not sizes.derived
    if name == OURS and words:
        drop = DROPOUTS if dropout else {}
        ours = OurModel(supernet(_space(), words, size, **drop)).to(device, dtype)
        return OursInSearch(ours, train, valid, _space(), a)
    makers: dict[str, Callable[[], nn.Module]] = {
        OURS: lambda: RecurrentCell(size, steps, norm=norm),
        PLAIN: lambda: OneHotCell(size, terms, norm=norm),
        LSTM: lambda: LSTMCell(size),
    }
    if name not in (*makers, MIXTURE, AUTHORS, SECOND, _ONE_HOT):
        raise ValueError(f"expected a method, one of {', '.join(methods(sizes))}, got {name!r}")
    cell = makers[name]() if name in makers else MixedCell(size, steps)
    net = LanguageModel(cell, size, words, dropout=dropout) if words else CellAlone(cell)
    net.to(device, dtype)
    if isinstance(net, CellAlone) and name == OURS:
        if sizes.derived:
            return OursDerived(net, train, valid, genotype_of(terms))
        return OursInSearch(net, train, valid, _space(), a)
    if name == _ONE_HOT:
        return OneHotMixture(net, train, valid, (a > 0.5).to(dtype))
    if name in makers:
        return OneArchitecture(net, train, valid)
    return RecurrentDARTS(
        net,
        train,
        valid,
        1e-3 * torch.randn_like(a),
        second_order=name == SECOND,
        all_gradients=name == AUTHORS,
    )


def _space() -> RecurrentSpace:
    found = space("darts-rnn")
    assert isinstance(found, RecurrentSpace)
    return found


def _batch(sizes: Sizes, seed: int, device: str, dtype: torch.dtype) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    length, batch, size, words = sizes.length, sizes.batch, sizes.size, sizes.vocabulary
    hidden = (0.1 * torch.randn(batch, size, generator=generator, dtype=dtype)).to(device)
    if words:
        text = torch.randint(words, (length + 1, batch), generator=generator).to(device)
        return Batch(text[:-1], text[1:], hidden)

    def mask(dropped: float) -> Tensor:
        kept = torch.rand(batch, size, generator=generator) >= dropped
        return (kept.to(dtype) / (1 - dropped)).to(device)

    x, factors = (torch.randn(length, batch, size, generator=generator, dtype=dtype) for _ in range(2))
    masks = mask(DROPOUTS["dropoutx"]), mask(DROPOUTS["dropouth"])
    return Batch(x.to(device), factors.to(device), hidden, masks)
