# SPDX-License-Identifier: MIT
"""Curves of a search or a training run: one panel per quantity, one line per series."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from nasp_ext.plots.chart import Panel, chart_svg

# A column is named after the part of the data that was measured, then after what was measured there.
_PARTS = ("train", "steer", "val", "valid", "mixture", "test")
_ALWAYS = ("loss", "entropy")  # the first and the last panel, of whatever names them
_Points = list[tuple[float, float]]


def history_svg(history: Sequence[Mapping[str, object]], title: str = "History") -> str:
    """Draw the loss, the metrics and the entropy of a history as SVG text.

    Args:
        history: a mapping per epoch, as the parsed lines of ``history.jsonl``. Columns ``train_<name>``,
            ``steer_…``, ``val_…``, ``mixture_…`` and ``test_…`` share a panel by name, and so do those with
            "loss" or "entropy" in it. What is not a finite number leaves a gap; a row may lack a column.
        title: heading of the drawing.

    Raises:
        ValueError: if there is nothing to draw.

    >>> history_svg([{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.5}]).startswith("<svg")
    True
    """
    columns = dict.fromkeys(name for row in history for name in row)
    first, last = _ALWAYS
    words = dict.fromkeys((first, *filter(None, map(_panel_of, columns)), last))
    words[last] = words.pop(last)
    panels = {
        word: series
        for word in words
        if (series := _series(history, [name for name in columns if _panel_of(name) == word]))
    }
    if not panels:
        raise ValueError(
            "expected numbers in columns such as train_loss, val_<metric> or entropy, got "
            f"{len(history)} rows without any"
        )
    return chart_svg([Panel(word.capitalize(), found) for word, found in panels.items()], title)


def _series(history: Sequence[Mapping[str, object]], names: Iterable[str]) -> dict[str, list[_Points]]:
    """Columns, each as its unbroken pieces of (epoch, value)."""
    series = {name: _pieces(history, name) for name in names}
    return {name: pieces for name, pieces in series.items() if pieces}


def _panel_of(name: str) -> str | None:
    part, _, measured = name.partition("_")
    if part in _PARTS and measured:
        return measured
    return next((word for word in _ALWAYS if word in name.lower()), None)


def _pieces(history: Sequence[Mapping[str, object]], name: str) -> list[_Points]:
    pieces: list[_Points] = [[]]
    for i, row in enumerate(history):
        if name not in row:
            continue
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
