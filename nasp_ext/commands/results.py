# SPDX-License-Identifier: MIT
"""What ``nasp-ext compare`` knows of each run, as a table and as curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean, stdev
from typing import Any

from nasp_ext.plots import Panel, chart_svg
from nasp_ext.tasks.base import Metric

_FORMER = {"val_accuracy": "validation", "test_accuracy": "test", "retrained_accuracy": "retrained"}


@dataclass(frozen=True)
class Result:
    """One search and what was made of it.

    Args:
        validation: the metric of the supernet at the derived architecture, on the steering half, after the
            last epoch.
        test: the metric of the derived network with the weights of the search.
        retrained: the metric of the derived network trained anew, None without retraining.
        truth: accuracy of the architecture in a table of trained ones, None without a table.
        truths: the same of what would have been derived after each epoch; empty without a table.
        parameters: of the derived network.
        search_seconds: of all steps, without evaluations.
        peak_memory, start_memory: bytes of the process that searched, at most and before its first step; None
            where the system does not say (``peak_memory`` of ``nasp_ext/engine/record.py``).
        curve: per epoch (iterations, seconds of search, validation metric, the metric of what ran on the
            steering half or None).
    """

    strategy: str
    seed: int
    validation: float
    test: float
    retrained: float | None
    parameters: int
    search_seconds: float
    peak_memory: int | None
    start_memory: int | None
    curve: tuple[tuple[int, float, float, float | None], ...]
    truth: float | None = None
    truths: tuple[float | None, ...] = ()

    @property
    def memory_above_start(self) -> int | None:
        if self.peak_memory is None or self.start_memory is None:
            return None
        return self.peak_memory - self.start_memory

    @classmethod
    def from_history(cls, history: Sequence[dict[str, Any]], metric: Metric, **others: Any) -> Result:
        """With what the history of the search tells of the metric."""
        seconds, curve = 0.0, []
        for line in history:
            seconds += line["search_seconds"]
            curve.append(
                (line["iterations"], seconds, line[f"val_{metric.name}"], line[f"steer_{metric.name}"])
            )
        return cls(
            validation=history[-1][f"val_{metric.name}"],
            search_seconds=seconds,
            peak_memory=max((p for line in history if (p := line["peak_memory"]) is not None), default=None),
            start_memory=history[0]["start_memory"],
            curve=tuple(curve),
            **others,
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Result:
        """From what ``to_json`` gave, also in older versions, which knew accuracies alone."""
        values = {_FORMER.get(name, name): value for name, value in values.items()}
        lists = {"curve": tuple(map(tuple, values["curve"])), "truths": tuple(values.get("truths", ()))}
        return cls(**{**values, **lists})


def _percent(values: Sequence[float]) -> str:
    spread = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.2f}{spread}"


def _plain(metric: Metric, values: Sequence[float]) -> str:
    spread = f" ± {metric.shown(stdev(values))}" if len(values) > 1 else ""
    return f"{metric.shown(mean(values))}{spread}"


def _in_percent(metric: Metric) -> bool:
    return metric.format.endswith("%")


def _mebibytes(values: Sequence[float]) -> str:
    return f"{mean(values) / 2**20:,.0f}"


_Column = tuple[Callable[[Result], float | None], Callable[[Sequence[float]], str]]


def _columns(metric: Metric) -> dict[str, _Column]:
    write, unit = (_percent, "%") if _in_percent(metric) else (partial(_plain, metric), metric.name)
    return {
        f"validation {unit}": (lambda r: r.validation, write),
        f"test {unit}, inherited": (lambda r: r.test, write),
        f"test {unit}, retrained": (lambda r: r.retrained, write),
        "truth %": (lambda r: r.truth, _percent),
        "parameters": (lambda r: r.parameters, lambda values: f"{mean(values):,.0f}"),
        "search s": (lambda r: r.search_seconds, lambda values: f"{mean(values):.1f}"),
        "peak MiB": (lambda r: r.peak_memory, _mebibytes),
        "above start MiB": (lambda r: r.memory_above_start, _mebibytes),
    }


def rows_of(results: Sequence[Result], metric: Metric) -> list[list[str]]:
    """Rows of a table, a strategy each: means over the seeds, the metric with its standard deviation.

    A column that no run has a value for is left out.
    """
    by_strategy: dict[str, list[Result]] = {}
    for result in results:
        by_strategy.setdefault(result.strategy, []).append(result)
    all_columns = _columns(metric).items()
    columns = {name: column for name, column in all_columns if any(column[0](r) is not None for r in results)}
    rows = [["strategy", "runs", *columns]]
    for strategy, own in by_strategy.items():
        row = [strategy, str(len(own))]
        for get, write in columns.values():
            values = [value for value in map(get, own) if value is not None]
            row.append(write(values) if values else "-")
        rows.append(row)
    return rows


def curves_svg(results: Sequence[Result], title: str, metric: Metric) -> str:
    """The metric against time and against iterations, as in Fig. 3 and 5 of the NASP paper; with a table what
    it says of the derived architectures, the mean over the seeds."""
    panels, scale = [], 100 if _in_percent(metric) else 1
    unit = " (%)" if _in_percent(metric) else ""
    validation = f"Validation {metric.name}, derived cells{unit}"
    for heading, part in ((validation, 2), (f"{metric.name.capitalize()} of what ran{unit}", 3)):
        for x_label, x in (("seconds of search", 1), ("iterations", 0)):
            series: dict[str, list[list[tuple[float, float]]]] = {}
            for result in results:
                curve = [(float(point[x] or 0), point[part]) for point in result.curve]
                points = [(at, scale * value) for at, value in curve if value is not None]
                if points:
                    series.setdefault(result.strategy, []).append(points)
            if series:
                panels.append(Panel(heading, series, x_label=x_label))
    known = _mean_truths(results)
    if known:
        panels.append(Panel("Derived cells in the table, mean (%)", known, x_label="iterations"))
    return chart_svg(panels, title, columns=2)


def _mean_truths(results: Sequence[Result]) -> dict[str, list[list[tuple[float, float]]]]:
    """For each strategy (iterations, mean over its runs), as far as every run and the table go."""
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for strategy in dict.fromkeys(result.strategy for result in results):
        own = [result for result in results if result.strategy == strategy]
        points = []
        for epoch, truths in enumerate(zip(*(result.truths for result in own), strict=False)):
            values = [truth for truth in truths if truth is not None]
            if len(values) == len(own):
                points.append((float(own[0].curve[epoch][0]), 100 * mean(values)))
        if points:
            found[strategy] = [points]
    return found


def to_json(result: Result) -> dict[str, Any]:
    """What ``Result.from_json`` reads."""
    return dataclasses.asdict(result)
