# SPDX-License-Identifier: MIT
"""Panels with axes, side by side or in rows: one line or cloud of points per series."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nasp_ext.plots.svg import INK, MUTED, RULE, document, element, text

# Okabe and Ito's colours, told apart by colour-blind readers.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#8c4a78", "#7a6a00", "#3a3a3a", "#56b4e9", "#e69f00")
_WIDTH, _HEIGHT, _MARGIN, _AXIS, _HEAD, _LEGEND, _FOOT = 320.0, 190.0, 24.0, 46.0, 34.0, 16.0, 44.0
_LINES = 4  # about this many grid lines

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Args:
        title: stands above it.
        series: name -> unbroken pieces of (x, y), at least one point in all.
        x_label: stands below it.
        x_ticks: x -> label; None = round numbers.
        whole: x counts something, so that its round numbers are integers.
        dots: names of the series that are drawn as points instead of lines.
    """

    title: str
    series: Mapping[str, Sequence[Points]]
    x_label: str = "epoch"
    x_ticks: Mapping[float, str] | None = None
    whole: bool = True
    dots: tuple[str, ...] = ()


def chart_svg(panels: Sequence[Panel], title: str, columns: int | None = None) -> str:
    """Draw panels as SVG text.

    Args:
        panels: in reading order; columns: panels per row, None = all in one.
        title: heading of the drawing.
    Raises:
        ValueError: if there is no panel, or one without a point.

    >>> chart_svg([Panel("Loss", {"train": [[(1, 2.0), (2, 1.5)]]})], "A run").startswith("<svg")
    True
    """
    if not panels or any(not _points(panel) for panel in panels):
        raise ValueError("expected panels with at least one point each, got none or an empty one")
    columns = len(panels) if columns is None else min(columns, len(panels))
    legend = _LEGEND * max(len(panel.series) for panel in panels)
    height = 32 + legend + _HEIGHT + _FOOT
    body = [text(_MARGIN, 28, title, size=16, font_weight="bold", fill=INK)]
    for i, panel in enumerate(panels):
        left = _MARGIN + _AXIS + i % columns * (_WIDTH + _AXIS + _MARGIN)
        top = _HEAD + i // columns * height
        body.append(text(left, top + 18, panel.title, size=13, font_weight="bold", fill=INK))
        body += _panel(left, top + 32 + legend, panel)
    width = _MARGIN + columns * (_AXIS + _WIDTH + _MARGIN)
    return document(width, _HEAD + -(-len(panels) // columns) * height, title, body)


def _points(panel: Panel) -> list[tuple[float, float]]:
    return [point for pieces in panel.series.values() for piece in pieces for point in piece]


def _panel(left: float, top: float, panel: Panel) -> list[str]:
    points = _points(panel)
    low_x, high_x = min(p[0] for p in points), max(p[0] for p in points)
    values = _ticks(min(p[1] for p in points), max(p[1] for p in points))
    marks = panel.x_ticks
    if marks is None:
        marks = {value: _label(value) for value in _ticks(low_x, high_x, whole=panel.whole)}

    def x(at: float) -> float:
        return left + (_WIDTH * (at - low_x) / (high_x - low_x) if high_x > low_x else _WIDTH / 2)

    def y(value: float) -> float:
        return top + _HEIGHT * (1 - (value - values[0]) / (values[-1] - values[0]))

    drawn = []
    for value in values:
        drawn.append(element("path", d=f"M{left:.1f} {y(value):.1f} h{_WIDTH:.1f}", stroke=RULE))
        drawn.append(text(left - 8, y(value) + 4, _label(value), size=11, text_anchor="end", fill=MUTED))
    below = [(x(at), 18, label) for at, label in marks.items() if low_x <= at <= high_x]
    for at, depth, label in (*below, (left + _WIDTH / 2, 36, panel.x_label)):
        drawn.append(text(at, top + _HEIGHT + depth, label, size=11, text_anchor="middle", fill=MUTED))
    for i, (name, pieces) in enumerate(panel.series.items()):
        colour = COLOURS[i % len(COLOURS)]
        key = top - 14 - _LEGEND * (len(panel.series) - 1 - i)
        if name in panel.dots:
            drawn.append(element("circle", cx=left + 9, cy=key - 4, r=3, fill=colour))
        else:
            drawn.append(element("path", d=f"M{left:.1f} {key - 4:.1f} h18", stroke=colour, stroke_width=2.4))
        drawn.append(text(left + 24, key, name, size=11, fill=INK))
        placed = [[(x(a), y(b)) for a, b in piece] for piece in pieces]
        if name in panel.dots:
            placed = [[point] for piece in placed for point in piece]
        drawn += [_line(piece, colour) for piece in placed]
    return drawn


def _line(points: Points, colour: str) -> str:
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
