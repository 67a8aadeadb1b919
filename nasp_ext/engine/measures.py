# SPDX-License-Identifier: MIT
"""What is measured of a part of the data: sums without syncs, fields of a history, words of a line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from nasp_ext.engine.collectives import LOCAL, Collective
from nasp_ext.states import check_number, shown
from nasp_ext.tasks.base import LOSS, Metric, Outcome

Means = dict[str, float]  # by the name of the metric, the loss first


def check_metrics(metrics: Sequence[Metric]) -> None:
    """Raise ValueError unless the metrics of a task have different names, none of them that of the loss.

    Raises:  TypeError: they are no list or tuple of ``Metric``.
    """
    if not isinstance(metrics, list | tuple) or not all(isinstance(metric, Metric) for metric in metrics):
        raise TypeError(f"expected metrics to be a tuple of Metric, got {shown(metrics)}")
    names = [LOSS.name, *(metric.name for metric in metrics)]
    if len(set(names)) < len(names):
        raise ValueError(f"expected metrics of different names beside the loss, got {', '.join(names[1:])}")


class Totals:
    """Sums of the loss and the metrics, kept on the device until somebody reads them.

    Args:    metrics: of the task; collective: of the run, whose processes share what is summed.
    """

    def __init__(self, metrics: Sequence[Metric], collective: Collective = LOCAL) -> None:
        self._metrics, self._collective = tuple(metrics), collective
        self._sums = torch.zeros(1 + len(self._metrics), dtype=torch.float64)
        self._count = 0

    def add(self, outcome: Outcome) -> None:
        """Add a batch.

        Raises:  ValueError: a sum of a metric is missing.
        """
        missing = [metric.name for metric in self._metrics if metric.name not in outcome.sums]
        if missing:
            raise ValueError(f"expected an outcome with sums of {', '.join(missing)}, got {[*outcome.sums]}")
        sums = (outcome.sums[metric.name].detach().double() for metric in self._metrics)
        self._sums = self._sums.to(outcome.loss.device)  # a copy for the first batch, if any
        self._sums += torch.stack((outcome.loss.detach().double() * outcome.count, *sums))
        self._count += outcome.count

    def __bool__(self) -> bool:
        """Whether a batch was added."""
        return self._count > 0

    def means(self) -> Means:
        """The loss and each metric so far; one host copy.

        Raises:
            FloatingPointError: the loss is no number any more, or a metric of it too large for one.
            ValueError: no batch was added, or a metric is no number, or one that it cannot be.
        """
        values = torch.cat((self._sums, self._sums.new_tensor([self._count])))
        self._collective.mean_([values])
        *sums, count = values.tolist()
        names = [LOSS.name, *(metric.name for metric in self._metrics)]
        if not count:
            raise ValueError("expected one batch of data or more to measure, found none")
        found = {name: value / count for name, value in zip(names, sums, strict=True)}
        if not math.isfinite(found[LOSS.name]):
            raise FloatingPointError(
                f"expected a finite loss, found {found[LOSS.name]}: the run has diverged, use a smaller "
                "learning rate (--lr)"
            )
        for metric in self._metrics:  # or no checkpoint of this run could be resumed
            value = found[metric.name] = metric.value(found[metric.name])
            low = -math.inf if metric.low is None else metric.low
            high = math.inf if metric.high is None else metric.high
            check_number(value, f"the mean of {metric.name}", low, high)
        return found


def fields(part: str, metrics: Sequence[Metric], means: Means | None) -> dict[str, float | None]:
    """The entries of a history: ``<part>_loss``, then ``<part>_<metric>``; None where nothing was measured.

    >>> fields("val", (), {"loss": 0.5}), fields("steer", (Metric("recall"),), None)
    ({'val_loss': 0.5}, {'steer_loss': None, 'steer_recall': None})
    """
    names = [LOSS.name, *(metric.name for metric in metrics)]
    return {f"{part}_{name}": None if means is None else means[name] for name in names}


def headline(metrics: Sequence[Metric]) -> Sequence[Metric]:
    """What says most of a part: the metrics, or the loss of a task that has none."""
    return tuple(metrics) or (LOSS,)


def words(label: str, part: str, metrics: Sequence[Metric], line: Mapping[str, Any]) -> str:
    """The metrics of one part as an epoch's line shows them; nothing where they were not measured.

    >>> words("validation", "val", [Metric("accuracy", ".1%")], {"val_accuracy": 0.5})
    'validation 50.0%'
    """
    known = [
        (metric, value) for metric in metrics if (value := line.get(f"{part}_{metric.name}")) is not None
    ]
    if not known:
        return ""
    alone = len(known) == 1 and known[0][0] != LOSS
    shown = (metric.shown(value) if alone else metric.text(value) for metric, value in known)
    return f"{label} {', '.join(shown)}"


class OnTest:
    """What a result has of the test part: ``test_<metric>`` for each entry of ``test``."""

    test: Mapping[str, float]

    def __getattr__(self, name: str) -> float:
        part, _, metric = name.partition("_")
        if part == "test" and metric in self.test:
            return self.test[metric]
        raise AttributeError(f"{type(self).__name__} has no {name!r}")


def joined(parts: Iterator[str] | Sequence[str]) -> str:
    """The parts of an epoch's line that say something."""
    return "  ".join(part for part in parts if part)
