# SPDX-License-Identifier: MIT
"""Times variants in turns, so that a change of the machine's speed meets all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from benchmarks.framework import Phases

_SAMPLE_SECONDS = 5e-3  # short calls are repeated to about this length, far above the clock's resolution
_LONG_SECONDS = 0.2
_FEWEST = 3
TOTAL = "iteration"


@dataclass(frozen=True)
class Timing:
    """Seconds per call: median, quartiles, number of samples, and the samples, of one round each."""

    median: float
    low: float
    high: float
    samples: int
    rounds: tuple[float, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def of(cls, samples: list[float]) -> Timing:
        low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(statistics.median(samples), low, high, len(samples), tuple(samples))

    def over(self, other: Timing) -> tuple[float, float]:
        """Quartiles of what this takes divided by what the other takes in the same round."""
        ratios = [a / b for a, b in zip(self.rounds, other.rounds, strict=False)]
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return low, high


def measure(
    variants: dict[str, Phases], *, rounds: int, seconds: float, device: str
) -> dict[tuple[str, str], Timing]:
    """Time every phase of every variant; with several phases also their sum, called ``iteration``.

    Args:
        rounds: samples of each variant; the order of the variants turns round each time.
        seconds: a variant that has used this much takes part in no further round (after the third).
    Returns:
        (variant, phase) -> timing.
    """
    clock = _cuda_seconds if device == "cuda" else _cpu_seconds
    repeats = {name: _repeats(phases, clock) for name, phases in variants.items()}
    samples: dict[tuple[str, str], list[float]] = {}
    spent = dict.fromkeys(variants, 0.0)
    order = list(variants)
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            for name in order if turn % 2 == 0 else order[::-1]:
                if turn >= _FEWEST and spent[name] > seconds:
                    continue
                total = 0.0
                for phase, run in variants[name].items():
                    once = clock(run, repeats[name])
                    samples.setdefault((name, phase), []).append(once)
                    total += once
                if len(variants[name]) > 1:
                    samples.setdefault((name, TOTAL), []).append(total)
                spent[name] += total * repeats[name]
    finally:
        gc.enable()
    return {key: Timing.of(values) for key, values in samples.items()}


def _repeats(phases: Phases, clock: Callable[[Callable[[], object], int], float]) -> int:
    """Calls per sample; also the warm-up, repeated where the first call was short and mostly set-up."""
    shortest = min(clock(run, 1) for run in phases.values())
    if shortest < _LONG_SECONDS:
        shortest = min(clock(run, 1) for run in phases.values())
    return max(1, round(_SAMPLE_SECONDS / max(shortest, 1e-7)))


def _cpu_seconds(run: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def _cuda_seconds(run: Callable[[], object], repeats: int) -> float:
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no types here
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # nor here
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    torch.cuda.synchronize()
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1000 / repeats
