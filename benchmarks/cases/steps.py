# SPDX-License-Identifier: MIT
"""The steps of a search: ours, NASP as its authors run it, DARTS, and training one architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from benchmarks.baselines.network import PlainMixedOp, PlainNetwork, discrete_network
from benchmarks.baselines.steppers import DARTS, AuthorsNASP, Batch, PlainDiscrete, Stepper
from benchmarks.framework import Case, Phases, Prepared, Settings, assert_equal
from benchmarks.ours import DropIn, Native, mixed_edge, selected
from nasp_ext.nn import supernet
from nasp_ext.space import space

ARCHITECTURE, WEIGHT = "architecture step", "weight step"
_DISCRETE = "plain discrete network"
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Sizes:
    """The network and its input; the default is the search network of the papers."""

    batch: int
    channels: int = 16
    cells: int = 8
    image: int = 32

    @classmethod
    def of(cls, settings: Settings, batch: int) -> Sizes:
        # Not below 4 channels: in PyTorch 2.13 the backward of a channels_last 1x1 convolution of stride 2
        # with 4 input channels writes out of bounds (oneDNN; MALLOC_CHECK_=3 shows it).
        return cls(2, 4, 3, 8) if settings.quick else cls(batch)


_Start = tuple[Sizes, Batch, Batch, Tensor]


def _plain(start: _Start) -> PlainNetwork:
    return PlainNetwork(PlainMixedOp, start[0].channels, start[0].cells)


def _native(start: _Start) -> Stepper:
    sizes, train, valid, a = start
    return Native(supernet(space("darts"), sizes.channels, sizes.cells), train, valid, a)


def _drop_in(start: _Start) -> Stepper:
    sizes, train, valid, a = start
    return DropIn(PlainNetwork(mixed_edge, sizes.channels, sizes.cells), train, valid, a)


def _discrete(start: _Start) -> Stepper:
    return PlainDiscrete(discrete_network(_plain(start), selected(start[3])), *start[1:3])


STEPPERS: dict[str, Callable[[_Start], Stepper]] = {
    "MixedOp + NASP": _drop_in,
    "supernet + NASPStrategy": _native,
    "authors' NASP": lambda start: AuthorsNASP(_plain(start), *start[1:]),
    "authors' NASP, gradient of A only": lambda start: AuthorsNASP(
        _plain(start), *start[1:], all_gradients=False
    ),
    "DARTS, first order": lambda start: DARTS(_plain(start), *start[1:]),
    "DARTS, second order": lambda start: DARTS(_plain(start), *start[1:], second_order=True),
    _DISCRETE: _discrete,
}
# What must agree: the same steps of the same method, run in different ways.
NASP_FAMILY = tuple(name for name in STEPPERS if not name.startswith("DARTS"))


def cases(settings: Settings) -> list[Case]:
    batches = settings.batch[:1] if settings.quick else settings.batch
    return [_case(settings, batch, layout) for batch in batches for layout in LAYOUTS]


def _case(settings: Settings, batch: int, layout: str) -> Case:
    def build() -> Prepared:
        _agreement_once(settings.device)
        return Prepared(
            {name: phases(stepper(name, settings, batch, layout)) for name in STEPPERS},
        )

    return Case(f"search steps, batch {batch}, {layout}", tuple(STEPPERS), build)


def phases(subject: Stepper) -> Phases:
    """What is timed of a method; the plain network has no architecture step."""
    if isinstance(subject, PlainDiscrete):
        return {WEIGHT: subject.weight_step}
    return {ARCHITECTURE: subject.architecture_step, WEIGHT: subject.weight_step}


def stepper(name: str, settings: Settings, batch: int, layout: str) -> Stepper:
    """The method ready to step, in float32, from seed 0."""
    torch.manual_seed(0)
    made = STEPPERS[name](start(Sizes.of(settings, batch), settings.device, torch.float32, LAYOUTS[layout]))
    made.net.to(device=settings.device, memory_format=LAYOUTS[layout])  # type: ignore[call-overload]
    return made


def start(
    sizes: Sizes, device: str, dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format
) -> _Start:
    """Two random batches, and an A so clear that no timed step changes the selected architecture."""
    generator = torch.Generator().manual_seed(1)

    def batch() -> Batch:
        x = torch.randn(sizes.batch, 3, sizes.image, sizes.image, generator=generator, dtype=dtype)
        y = torch.randint(10, (sizes.batch,), generator=generator)
        return x.to(device, memory_format=layout), y.to(device)

    a = 0.5 * torch.rand(28, 8, generator=generator, dtype=dtype)
    a[:, 0] = 0  # `none` is never selected
    # Every primitive is chosen four times; the rows of a node are at least 0.05 apart.
    option = 1 + torch.arange(28)[torch.randperm(28, generator=generator)] % 7
    rank = torch.cat([torch.randperm(n, generator=generator) for _ in range(2) for n in (2, 3, 4, 5)])
    a[torch.arange(28), option] = 0.7 + 0.05 * rank.to(dtype)
    return sizes, batch(), batch(), a.to(device)


def check_agreement(device: str, family: Sequence[str] = NASP_FAMILY) -> None:
    """Small networks of equal weights in float64: the same gradients of A and of the weights, to 1e-10."""
    begin = start(Sizes(batch=4, channels=4, cells=3, image=8), device, torch.float64)
    torch.manual_seed(0)
    made = {name: STEPPERS[name](begin) for name in family}
    state = made["authors' NASP"].net.double().to(device).state_dict()
    for name, subject in made.items():
        subject.net.double().to(device)
        if name != _DISCRETE:
            subject.net.load_state_dict(state)
    plain = made["authors' NASP"].net
    assert isinstance(plain, PlainNetwork)
    if _DISCRETE in made:
        made[_DISCRETE].net.load_state_dict(discrete_network(plain, selected(begin[3])).state_dict())
    expected = made["authors' NASP"].architecture_gradient()
    for name in family:
        if name == _DISCRETE:
            continue
        assert_equal(made[name].architecture_gradient(), expected, 1e-10, f"dF/dA of {name}")
    losses = {name: _gradient_norm(made[name]) for name in family}
    for name, norm in losses.items():
        assert_equal(norm, losses["authors' NASP"], 1e-10, f"weight gradient of {name}")


@cache
def _agreement_once(device: str) -> None:
    check_agreement(device)


def _gradient_norm(subject: Stepper) -> Tensor:
    """Norm of the weight gradient, over the weights that have one."""
    subject.sgd.zero_grad()
    subject._weight_backward()
    norms = [torch.linalg.vector_norm(w.grad) for w in subject.weights if w.grad is not None]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total
