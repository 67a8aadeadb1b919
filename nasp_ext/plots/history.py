# SPDX-License-Identifier: MIT
"""Curves of a search or a training run: one panel per quantity, one line per series."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nasp_ext.plots.svg import INK, MUTED, RULE, document, element, text

# A column belongs to the first panel whose word is in its name.
_PANELS = ("loss", "accuracy", "entropy")
# Okabe and Ito's colours, told apart by colour-blind readers.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#8c4a78", "#7a6a00", "#3a3a3a")
_WIDTH, _HEIGHT, _MARGIN, _AXIS, _HEAD, _LEGEND, _FOOT = 320.0, 190.0, 24.0, 46.0, 34.0, 16.0, 44.0
_LINES = 4  # about this many grid lines

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
    legend = _LEGEND * max(len(series) for series in panels.values())
    top = _HEAD + 32 + legend
    body = [text(_MARGIN, 28, title, size=16, font_weight="bold", fill=INK)]
    for i, (word, series) in enumerate(panels.items()):
        left = _MARGIN + _AXIS + i * (_WIDTH + _AXIS + _MARGIN)
        body.append(text(left, _HEAD + 18, word.capitalize(), size=13, font_weight="bold", fill=INK))
        body += _panel(left, top, series)
    width = _MARGIN + len(panels) * (_AXIS + _WIDTH + _MARGIN)
    return document(width, top + _HEIGHT + _FOOT, title, body)


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


def _panel(left: float, top: float, series: dict[str, list[_Points]]) -> list[str]:
    points = [point for pieces in series.values() for piece in pieces for point in piece]
    epochs = _ticks(min(p[0] for p in points), max(p[0] for p in points), whole=True)
    values = _ticks(min(p[1] for p in points), max(p[1] for p in points))
    low_x, high_x = min(p[0] for p in points), max(p[0] for p in points)

    def x(epoch: float) -> float:
        return left + (_WIDTH * (epoch - low_x) / (high_x - low_x) if high_x > low_x else _WIDTH / 2)

    def y(value: float) -> float:
        return top + _HEIGHT * (1 - (value - values[0]) / (values[-1] - values[0]))

    drawn = []
    for value in values:
        drawn.append(element("path", d=f"M{left:.1f} {y(value):.1f} h{_WIDTH:.1f}", stroke=RULE))
        drawn.append(text(left - 8, y(value) + 4, _label(value), size=11, text_anchor="end", fill=MUTED))
    for epoch in epochs:
        if low_x <= epoch <= high_x:
            drawn.append(
                text(x(epoch), top + _HEIGHT + 18, _label(epoch), size=11, text_anchor="middle", fill=MUTED)
            )
    drawn.append(
        text(left + _WIDTH / 2, top + _HEIGHT + 36, "epoch", size=11, text_anchor="middle", fill=MUTED)
    )
    for i, (name, pieces) in enumerate(series.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        key = top - 14 - _LEGEND * (len(series) - 1 - i)
        drawn.append(element("path", d=f"M{left:.1f} {key - 4:.1f} h18", stroke=colour, stroke_width=2.4))
        drawn.append(text(left + 24, key, name, size=11, fill=INK))
        drawn += [_line([(x(a), y(b)) for a, b in piece], colour) for piece in pieces]
    return drawn


def _line(points: _Points, colour: str) -> str:
    """A polyline; a single point, which would be invisible as a line, becomes a dot."""
    if len(points) == 1:
        return element("circle", cx=points[0][0], cy=points[0][1], r=3, fill=colour, **{"class": "series"})
    where = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return element(
        "polyline",
        points=where,
        fill="none",
        stroke=colour,
        stroke_width=2,
        stroke_linejoin="round",
        **{"class": "series"},
    )


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Round numbers, evenly spaced, the first at or below ``low`` and the last at or above ``high``."""
    spread = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(spread / _LINES))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * _LINES >= spread)
    if whole:
        step = max(1.0, math.ceil(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * i for i in range(first, max(last, first + 1) + 1)]


def _label(value: float) -> str:
    return f"{value:.6g}"
