# SPDX-License-Identifier: MIT
"""The steps of a search: ours, NASP as its authors run it, DARTS, and training one architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from benchmarks.baselines.network import EdgeFactory, PlainMixedOp, PlainNetwork, discrete_network
from benchmarks.baselines.steppers import DARTS, EDGES, AuthorsNASP, Batch, PlainDiscrete, Stepper
from benchmarks.framework import Case, Phases, Prepared, Settings, assert_equal
from benchmarks.ours import DropIn, Native, NativeDARTS, mixed_edge, selected
from nasp_ext.arch.registry import space
from nasp_ext.families.networks import supernet

ARCHITECTURE, WEIGHT = "architecture step", "weight step"
_DISCRETE = "plain discrete network"
CHANNELS_LAST = ", channels_last"  # behind the name of a method: network and images in that layout


@dataclass(frozen=True)
class Sizes:
    """The network, its input and its architecture; the default is the search network of the papers.

    Args:    edges: kept per node, None = all; architecture: number of the random one.
    """

    batch: int
    channels: int = 16
    cells: int = 8
    image: int = 32
    space: str = "darts"
    edges: int | None = 2
    architecture: int = 0

    def __str__(self) -> str:
        edges = "all edges" if self.edges is None else f"{self.edges} edges"
        return f"batch {self.batch}, {self.space}, {edges}"


def sizes_of(settings: Settings) -> list[Sizes]:
    """Every network that is measured."""
    # Not below 4 channels: in PyTorch 2.13 the backward of a channels_last 1x1 convolution of stride 2
    # with 4 input channels writes out of bounds (oneDNN; MALLOC_CHECK_=3 shows it).
    small = {"channels": 4, "cells": 3, "image": 8} if settings.quick else {}
    batches = (2,) if settings.quick else settings.batch
    architectures = range(1 if settings.quick else settings.architectures)
    edges = settings.edges[:1] if settings.quick else settings.edges
    return [
        Sizes(batch, space=name, edges=kept or None, architecture=number, **small)
        for batch in batches
        for name in settings.spaces
        for kept in edges
        for number in architectures
    ]


_Start = tuple[Sizes, Batch, Batch, Tensor]


def _plain(start: _Start, edge: EdgeFactory = PlainMixedOp) -> PlainNetwork:
    sizes = start[0]
    cell = space(sizes.space)
    return PlainNetwork(
        edge, sizes.channels, sizes.cells, primitives=(cell.choices(0), cell.choices(cell.rows - 1))
    )


def _native(start: _Start) -> Stepper:
    sizes, train, valid, a = start
    net = supernet(space(sizes.space), sizes.channels, sizes.cells)
    return Native(net, train, valid, a, sizes.edges)


def _native_darts(start: _Start) -> Stepper:
    sizes, train, valid, a = start
    return NativeDARTS(supernet(space(sizes.space), sizes.channels, sizes.cells), train, valid, a)


def _drop_in(start: _Start) -> Stepper:
    return DropIn(_plain(start, mixed_edge), *start[1:], start[0].edges)


def _discrete(start: _Start) -> Stepper:
    sizes, train, valid, a = start
    return PlainDiscrete(discrete_network(_plain(start), selected(a, sizes.edges)), train, valid)


def _authors(start: _Start, all_gradients: bool = True) -> Stepper:
    return AuthorsNASP(_plain(start), *start[1:], all_gradients, start[0].edges or EDGES)


STEPPERS: dict[str, Callable[[_Start], Stepper]] = {
    "supernet + NASPStrategy": _native,
    "MixedOp + NASP": _drop_in,
    "supernet + DARTSStrategy": _native_darts,
    "MixedOp in DARTS code": lambda start: DARTS(_plain(start, mixed_edge), *start[1:]),
    "authors' NASP": _authors,
    "authors' NASP, gradient of A only": lambda start: _authors(start, False),
    "DARTS, first order": lambda start: DARTS(_plain(start), *start[1:]),
    "DARTS, second order": lambda start: DARTS(_plain(start), *start[1:], second_order=True),
    _DISCRETE: _discrete,
}
# What must agree: the same steps of the same method, run in different ways.
NASP_FAMILY = tuple(name for name in STEPPERS if "DARTS" not in name)
DARTS_FAMILY = ("DARTS, first order", "supernet + DARTSStrategy", "MixedOp in DARTS code")


def methods(sizes: Sizes) -> tuple[str, ...]:
    """What is measured on a network, ours first: the baselines in both layouts. DARTS runs every option
    whatever the architecture is, so it is measured beside the first one alone."""
    names = ["supernet + NASPStrategy", "MixedOp + NASP", "authors' NASP", "authors' NASP" + CHANNELS_LAST]
    names += [_DISCRETE, _DISCRETE + CHANNELS_LAST]
    if sizes.architecture == 0:
        names += ["MixedOp + NASP" + CHANNELS_LAST, "authors' NASP, gradient of A only"]
        names += ["supernet + DARTSStrategy", "MixedOp in DARTS code"]
        names += ["DARTS, first order", "DARTS, first order" + CHANNELS_LAST, "DARTS, second order"]
    return tuple(names)


def cases(settings: Settings) -> list[Case]:
    return [_case(settings, sizes) for sizes in sizes_of(settings)]


def _case(settings: Settings, sizes: Sizes) -> Case:
    names = methods(sizes)

    def build() -> Prepared:
        _agreement_once(settings.device, sizes.space, sizes.edges)
        return Prepared({name: phases(stepper(name, settings.device, sizes)) for name in names})

    return Case(f"search steps, {sizes}, architecture {sizes.architecture}", names, build)


def phases(subject: Stepper) -> Phases:
    """What is timed of a method; the plain network has no architecture step."""
    if isinstance(subject, PlainDiscrete):
        return {WEIGHT: subject.weight_step}
    return {ARCHITECTURE: subject.architecture_step, WEIGHT: subject.weight_step}


def stepper(name: str, device: str, sizes: Sizes) -> Stepper:
    """The method ready to step, in float32, from seed 0."""
    layout = torch.channels_last if name.endswith(CHANNELS_LAST) else torch.contiguous_format
    torch.manual_seed(0)
    made = STEPPERS[name.removesuffix(CHANNELS_LAST)](start(sizes, device, torch.float32, layout))
    made.net.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    return made


def start(
    sizes: Sizes, device: str, dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format
) -> _Start:
    """Two random batches, and an A so clear that no timed step changes the selected architecture."""
    generator = torch.Generator().manual_seed(1 + sizes.architecture)

    def batch() -> Batch:
        x = torch.randn(sizes.batch, 3, sizes.image, sizes.image, generator=generator, dtype=dtype)
        y = torch.randint(10, (sizes.batch,), generator=generator)
        return x.to(device, memory_format=layout), y.to(device)

    a = 0.5 * torch.rand(28, 8, generator=generator, dtype=dtype)
    selectable = space(sizes.space).selectable()
    a[~selectable] = 0
    # In either cell every primitive is chosen as often as the others; rows of a node lie 0.05 apart.
    for cell in (slice(0, EDGES), slice(EDGES, 2 * EDGES)):
        options = selectable[cell][0].nonzero().flatten()
        option = options[torch.arange(EDGES)[torch.randperm(EDGES, generator=generator)] % len(options)]
        rank = torch.cat([torch.randperm(n, generator=generator) for n in (2, 3, 4, 5)])
        a[cell][torch.arange(EDGES), option] = 0.7 + 0.05 * rank.to(dtype)
    return sizes, batch(), batch(), a.to(device)


def check_agreement(
    device: str, family: Sequence[str] = NASP_FAMILY, name: str = "darts", edges: int | None = 2
) -> None:
    """Small networks of equal weights in float64: the same gradients of A and of the weights, to 1e-10."""
    sizes = Sizes(batch=4, channels=4, cells=3, image=8, space=name, edges=edges)
    begin = start(sizes, device, torch.float64)
    torch.manual_seed(0)
    made = {name: STEPPERS[name](begin) for name in family}
    first = family[0]
    state = made[first].net.double().to(device).state_dict()
    for name, subject in made.items():
        subject.net.double().to(device)
        if name != _DISCRETE:
            subject.net.load_state_dict(state)
    if _DISCRETE in made:
        plain = _plain(begin).double().to(device)
        plain.load_state_dict(state)
        made[_DISCRETE].net.load_state_dict(discrete_network(plain, selected(begin[3], edges)).state_dict())
    expected = made[first].architecture_gradient()
    for name in family:
        if name == _DISCRETE:
            continue
        assert_equal(made[name].architecture_gradient(), expected, 1e-10, f"dF/dA of {name}")
    losses = {name: _gradient_norm(made[name]) for name in family}
    for name, norm in losses.items():
        assert_equal(norm, losses[first], 1e-10, f"weight gradient of {name}")


@cache
def _agreement_once(device: str, name: str, edges: int | None) -> None:
    check_agreement(device, name=name, edges=edges)
    if name == "darts":  # elsewhere the baseline's softmax counts options that a cell has not got
        check_agreement(device, DARTS_FAMILY)


def _gradient_norm(subject: Stepper) -> Tensor:
    """Norm of the weight gradient, over the weights that have one."""
    subject.sgd.zero_grad()
    subject._weight_backward()
    norms = [torch.linalg.vector_norm(w.grad) for w in subject.weights if w.grad is not None]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total
