# SPDX-License-Identifier: MIT
"""A bar with loss, metrics and time left on a terminal; a line per epoch everywhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from tqdm import tqdm

from nasp_ext.engine.measures import Totals
from nasp_ext.tasks.base import LOSS, Metric

_SECONDS_BETWEEN_READS = 0.5  # reading the loss is a device-to-host copy


class Progress:
    """Shows how far a run is; silent unless ``shown``, and without a bar unless stderr is a terminal.

    Args:
        title: what runs.
        metrics: of the task.
        total: steps of the whole run.
        done: steps a resumed run has behind it.
        patient: a loss that is no number is not an error before the epoch has ended.
    """

    def __init__(
        self,
        title: str,
        metrics: Sequence[Metric],
        total: int,
        done: int = 0,
        *,
        shown: bool = True,
        patient: bool = False,
    ) -> None:
        self._patient = patient
        self._shown, self._metrics = shown, (LOSS, *metrics)
        self._bar: tqdm[None] | None = None
        if shown and sys.stderr.isatty():
            self._bar = tqdm(
                total=total, initial=done, desc=title, unit="step", dynamic_ncols=True, leave=False
            )
        self._next_read = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, totals: Totals) -> None:
        """One step is done; shows the running means now and then."""
        if self._bar is None:
            return
        if time.monotonic() >= self._next_read:
            self._bar.set_postfix_str(self._words(totals), refresh=False)
            self._next_read = time.monotonic() + _SECONDS_BETWEEN_READS
        self._bar.update()

    def _words(self, totals: Totals) -> str:
        try:
            means = totals.means()
        except FloatingPointError:
            if not self._patient:
                raise
            return "the loss is no number"
        return ", ".join(metric.text(means[metric.name]) for metric in self._metrics)

    def line(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stdout)
        elif self._shown:
            print(text, flush=True)
