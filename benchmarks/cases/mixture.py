# SPDX-License-Identifier: MIT
"""branch_dots and mixed_sum on the outputs of one edge, against loops, the reference, and that compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.framework import Case, Phases, Prepared, Settings, assert_equal, try_compile
from nasp_ext import ops

_BRANCHES = 8
_LOOP, _REFERENCE, _COMPILED = "PyTorch loop", "reference", "compiled reference"
_Mixture = Callable[[Sequence[Tensor], Tensor], Tensor]


def cases(settings: Settings) -> list[Case]:
    batches = (2,) if settings.quick else settings.batch
    return [make(settings, batch) for batch in batches for make in (_dots, _sum, _sum_and_backward)]


def _dots(settings: Settings, batch: int) -> Case:
    def build() -> Prepared:
        gradient, outputs, _ = _tensors(settings, batch)
        runs = {
            "branch_dots": ops.branch_dots,
            _LOOP: _dots_loop,
            _REFERENCE: ops.reference.branch_dots,
        }
        missing = _add_compiled(settings, runs, ops.reference.branch_dots, gradient, outputs)
        expected = ops.branch_dots(gradient.double(), [y.double() for y in outputs])
        for name, run in runs.items():
            assert_equal(run(gradient, outputs).double(), expected, 1e-5, name)
        return Prepared({name: _phase(run, gradient, outputs) for name, run in runs.items()}, missing)

    return Case(
        f"branch_dots, 8 outputs {batch}x16x32x32", ("branch_dots", _LOOP, _REFERENCE, _COMPILED), build
    )


def _sum(settings: Settings, batch: int) -> Case:
    def build() -> Prepared:
        _, outputs, weights = _tensors(settings, batch)
        runs: dict[str, _Mixture] = {
            "mixed_sum": ops.mixed_sum,
            _LOOP: _sum_loop,
            _REFERENCE: ops.reference.mixed_sum,
        }
        missing = _add_compiled(settings, runs, ops.reference.mixed_sum, outputs, weights)
        expected = ops.mixed_sum([y.double() for y in outputs], weights.double())
        for name, run in runs.items():
            assert_equal(run(outputs, weights).double(), expected, 1e-5, name)
        return Prepared({name: _phase(run, outputs, weights) for name, run in runs.items()}, missing)

    return Case(f"mixed_sum, 8 outputs {batch}x16x32x32", ("mixed_sum", _LOOP, _REFERENCE, _COMPILED), build)


def _sum_and_backward(settings: Settings, batch: int) -> Case:
    def build() -> Prepared:
        gradient, outputs, weights = _tensors(settings, batch)
        for tensor in (*outputs, weights):
            tensor.requires_grad_()
        runs: dict[str, _Mixture] = {
            "mixed_sum": ops.mixed_sum,
            _LOOP: _sum_loop,
            _REFERENCE: ops.reference.mixed_sum,
        }
        missing = _add_compiled(settings, runs, ops.reference.mixed_sum, outputs, weights)

        def both(run: _Mixture) -> tuple[Tensor, ...]:
            return torch.autograd.grad(run(outputs, weights), (*outputs, weights), gradient)

        exact = [tensor.detach().double().requires_grad_() for tensor in (*outputs, weights)]
        expected = torch.autograd.grad(_sum_loop(exact[:-1], exact[-1]), exact, gradient.double())
        for name, run in runs.items():
            for got, wanted in zip(both(run), expected, strict=True):
                assert_equal(got.double(), wanted, 1e-5, f"gradient of {name}")
        return Prepared({name: _phase(both, run) for name, run in runs.items()}, missing)

    return Case(
        f"mixed_sum and backward, 8 outputs {batch}x16x32x32",
        ("mixed_sum", _LOOP, _REFERENCE, _COMPILED),
        build,
    )


def _tensors(settings: Settings, batch: int) -> tuple[Tensor, list[Tensor], Tensor]:
    generator = settings.generator()

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(settings.device)

    shape = (batch, 16, 32, 32)
    return draw(*shape), [draw(*shape) for _ in range(_BRANCHES)], draw(_BRANCHES).softmax(0)


def _phase(run: Callable[..., object], *arguments: object) -> Phases:
    return {"": lambda: run(*arguments)}


def _dots_loop(gradient: Tensor, outputs: Sequence[Tensor]) -> Tensor:
    return torch.stack([(gradient * y).sum() for y in outputs])


def _sum_loop(outputs: Sequence[Tensor], weights: Tensor) -> Tensor:
    total = weights[0] * outputs[0]
    for weight, y in zip(weights[1:], outputs[1:], strict=True):
        total = total + weight * y
    return total


def _add_compiled(
    settings: Settings,
    runs: dict[str, Callable[..., Tensor]],
    reference: Callable[..., Tensor],
    *arguments: object,
) -> dict[str, str]:
    if settings.quick:
        return {_COMPILED: "not compiled in a quick run"}
    compiled, reason = try_compile(reference, *arguments)
    if compiled is None:
        return {_COMPILED: reason}
    runs[_COMPILED] = compiled  # type: ignore[assignment]  # it returns what the reference returns
    return {}
