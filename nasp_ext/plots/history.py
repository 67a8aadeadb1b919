# SPDX-License-Identifier: MIT
"""Curves of a search or a training run: one panel per quantity, one line per series."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nasp_ext.plots.chart import Panel, chart_svg

# A column belongs to the first panel whose word is in its name.
_PANELS = ("loss", "accuracy", "entropy")
_Points = list[tuple[float, float]]


def history_svg(history: Sequence[Mapping[str, object]], title: str = "History") -> str:
    """Draw the loss, accuracy and entropy columns of a history as SVG text.

    Args:
        history: a mapping per epoch, as the parsed lines of ``history.jsonl``. A column whose name contains
            "loss", "accuracy" or "entropy" is drawn in that panel; what is not a finite number leaves a gap.
        title: heading of the drawing.

    Raises:
        ValueError: if there is nothing to draw.

    >>> history_svg([{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.5}]).startswith("<svg")
    True
    """
    panels = {word: series for word in _PANELS if (series := _series(history, word))}
    if not panels:
        words = ", ".join(_PANELS)
        raise ValueError(
            f"expected numbers in columns named after {words}, got {len(history)} rows without any"
        )
    return chart_svg([Panel(word.capitalize(), found) for word, found in panels.items()], title)


def _series(history: Sequence[Mapping[str, object]], word: str) -> dict[str, list[_Points]]:
    """The columns of one panel, each as its unbroken pieces of (epoch, value)."""
    names = dict.fromkeys(name for row in history for name in row if _panel_of(name) == word)
    series = {name: _pieces(history, name) for name in names}
    return {name: pieces for name, pieces in series.items() if pieces}


def _panel_of(name: str) -> str | None:
    return next((word for word in _PANELS if word in name.lower()), None)


def _pieces(history: Sequence[Mapping[str, object]], name: str) -> list[_Points]:
    pieces: list[_Points] = [[]]
    for i, row in enumerate(history):
        epoch, value = _number(row.get("epoch", i + 1)), _number(row.get(name))
        if value is not None and epoch is not None:
            pieces[-1].append((epoch, value))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
