# SPDX-License-Identifier: MIT
"""python -m benchmarks.report: check all variants, time them in turns, print the ratios, save JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

from benchmarks.cases import all_cases, recurrent, steps
from benchmarks.framework import Case, Settings
from benchmarks.launches import launch_lines
from benchmarks.machine import describe
from benchmarks.memory import Sizes, peak_of
from benchmarks.rows import Row
from benchmarks.targets import target_lines
from benchmarks.timing import Timing, measure

MEMORY = "peak memory"
ONE_ARCHITECTURE = ("plain discrete network", recurrent.PLAIN)  # has no architecture step
_OURS = "supernet + NASPStrategy"


@dataclass(frozen=True)
class Options:
    """Time nasp_ext against its baselines.

    Args:
        quick: small sizes, few samples: shows that everything runs; its figures mean nothing.
        only: run the cases whose name contains one of these words, e.g. prox update mixed_sum steps memory
            recurrent.
        threads: threads of PyTorch; 0 = its own choice, and for recurrent cells both 1 and 2.
        batch: batch sizes of the network cases.
        spaces: search spaces of the network cases, darts or nasp.
        edges: edges kept per node there, 0 = all.
        architectures: random architectures of each.
        device: cpu or cuda.
        rounds: samples per variant.
        seconds: a variant that has been timed for this long gets no further samples (after three).
        out: the JSON file.
    """

    quick: bool = False
    only: tuple[str, ...] = ()
    threads: int = 0
    batch: tuple[int, ...] = (16, 64)
    spaces: tuple[str, ...] = ("darts",)
    edges: tuple[int, ...] = (2, 0)
    architectures: int = 3
    device: str = "cpu"
    rounds: int = 25
    seconds: float = 20.0
    out: Path = Path("runs/benchmarks.json")

    def __post_init__(self) -> None:
        if self.rounds < 3 or self.threads < 0 or self.seconds < 0 or any(size < 2 for size in self.batch):
            raise ValueError(f"expected rounds >= 3, threads and seconds >= 0, batches >= 2, got {self}")
        if self.architectures < 1 or any(edges < 0 for edges in self.edges):
            raise ValueError(f"expected architectures >= 1 and edges >= 0, got {self}")
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"expected device cpu or cuda, got {self.device!r}")

    @property
    def settings(self) -> Settings:
        threads = (self.threads,) if self.threads else Settings.threads
        return Settings(
            self.quick, self.device, self.batch, self.spaces, self.edges, self.architectures, threads
        )

    def wants(self, name: str) -> bool:
        return not self.only or any(word in name for word in self.only)


def main(options: Options) -> list[Row]:
    if options.threads:
        torch.set_num_threads(options.threads)
    facts = describe(options.settings)
    print("\n".join(f"{key}: {value}" for key, value in facts.items()))
    rows: list[Row] = []
    for row in _rows(options):
        if not rows or (row.case, row.phase) != (rows[-1].case, rows[-1].phase):
            print(f"\n{row.case}{', ' if row.phase else ''}{row.phase}")
        rows.append(row)
        print(f"  {_line(row)}", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": facts, "options": asdict(options), "rows": [asdict(row) for row in rows]}
    options.out.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
    if lines := summary(rows):
        print("\nover the architectures", *lines, sep="\n")
    if lines := [*target_lines(rows), *launch_lines(rows)]:
        print("\nrecurrent cells against their targets", *lines, sep="\n")
    print(f"\nratio = variant / first variant of its group; figures saved to {options.out}")
    return rows


def _rows(options: Options) -> Iterator[Row]:
    for case in all_cases(options.settings):
        if options.wants(case.name):
            torch.manual_seed(0)
            yield from _timed(case, options)
    for sizes, names in _measured(options.settings):
        if options.wants(f"{MEMORY}, {sizes}"):
            for phase in (steps.ARCHITECTURE, steps.WEIGHT):
                yield from _memory(f"{MEMORY}, {sizes}", phase, sizes, names, options)


def _measured(settings: Settings) -> Iterator[tuple[Sizes, tuple[str, ...]]]:
    """The networks whose peak memory is measured, and the methods on them, ours first."""
    for convolutional in steps.sizes_of(settings):
        if convolutional.architecture == 0:
            yield convolutional, steps.methods(convolutional)
    for cell in recurrent.measured_sizes(settings):
        yield cell, recurrent.measured_methods(cell)


def _timed(case: Case, options: Options) -> Iterator[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(case.threads or threads)
    ready = case.build()
    seconds = min(case.seconds, options.seconds)
    timings = measure(ready.variants, rounds=options.rounds, seconds=seconds, device=options.device)
    torch.set_num_threads(threads)
    for phase in dict.fromkeys(phase for _, phase in timings):
        of_phase = {name: timings[name, phase] for name in ready.variants if (name, phase) in timings}
        ours = next(iter(of_phase.values()))
        for name, timing in of_phase.items():
            yield _row(case.name, phase, name, timing, ours)
    for name, reason in ready.missing.items():
        yield Row(case.name, "", name, missing=reason)


def _row(case: str, phase: str, variant: str, timing: Timing, ours: Timing) -> Row:
    low, high = timing.over(ours)
    return Row(
        case,
        phase,
        variant,
        timing.median,
        timing.low,
        timing.high,
        timing.samples,
        ratio=timing.median / ours.median,
        ratio_low=low,
        ratio_high=high,
    )


def _memory(case: str, phase: str, sizes: Sizes, names: Sequence[str], options: Options) -> Iterator[Row]:
    ours = 0
    for name in names:
        if phase == steps.ARCHITECTURE and name.startswith(ONE_ARCHITECTURE):
            continue
        peak = peak_of(name, phase, options.device, sizes)
        ours = ours or peak
        yield Row(case, phase, name, peak, peak, peak, 1, "B", peak / max(ours, 1))


def summary(rows: list[Row]) -> list[str]:
    """The ratios of the network cases over their architectures: median, smallest and largest."""
    found: dict[tuple[str, str, str], list[float]] = {}
    times: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        case, _, number = row.case.partition(", architecture ")
        if number:
            found.setdefault((case, row.phase, row.variant), []).append(row.ratio)
            times.setdefault((row.case, row.phase + row.variant), []).append(row.median)
    lines = []
    for (case, phase, variant), ratios in found.items():
        low, high = min(ratios), max(ratios)
        middle = statistics.median(ratios)
        lines.append(f"{case}, {phase}: {variant:36} {middle:7.2f}x [{low:.2f}, {high:.2f}] n={len(ratios)}")
    for case, phase in {(row.case, row.phase) for row in rows if row.phase == steps.ARCHITECTURE}:
        ours = times.get((case, steps.ARCHITECTURE + _OURS))
        plain = times.get((case, steps.WEIGHT + "plain discrete network"))
        if ours and plain:
            lines.append(
                f"{case}: {phase} of {_OURS} / training step of the plain network {ours[0] / plain[0]:.2f}"
            )
    return lines


def _line(row: Row) -> str:
    if row.missing:
        return f"{row.variant:36} not run: {row.missing}"
    if row.unit == "B":
        return f"{row.variant:36} {row.median / 2**20:10.1f} MiB {row.ratio:8.2f}x"
    scale, unit = (1e6, "us") if row.median < 1e-3 else (1e3, "ms")
    time = f"{row.median * scale:10.4g} {unit}"
    spread = f"[{row.low * scale:.4g}, {row.high * scale:.4g}]"
    return f"{row.variant:36} {time} {spread:>22} n={row.samples:<3} {row.ratio:8.2f}x"


if __name__ == "__main__":
    main(tyro.cli(Options))
