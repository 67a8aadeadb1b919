# SPDX-License-Identifier: MIT
"""Matrices as coloured squares: what each edge of each cell attends to (Hao & Zhu 2021, fig. 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nasp_ext.plots.svg import INK, MONOSPACE, MUTED, PAPER, RULE, document, element, monospace_width, text

_SIDE, _GAP, _MARGIN, _HEAD, _TITLE = 16.0, 28.0, 24.0, 44.0, 22.0
_LABEL = 10.0
_KEY_WIDTH, _KEY_HEIGHT, _KEY_STEPS = 160.0, 10.0, 32
# From nearly white to nearly black along blue: lightness alone carries the value.
_COLOURS = ((239, 244, 251), (123, 175, 222), (31, 111, 178), (11, 37, 69))
_TILT = 50.0  # degrees by which the names of columns lean


@dataclass(frozen=True)
class Heatmap:
    """One matrix.

    Args:
        title: stands above it.
        values: (rows, columns), finite numbers; None leaves a square empty.
        rows, columns: their names.
        marked: the column of each row that gets a dot, None = no dot.
    """

    title: str
    values: Sequence[Sequence[float | None]]
    rows: Sequence[str]
    columns: Sequence[str]
    marked: Sequence[int | None] = ()

    def __post_init__(self) -> None:
        shape = (len(self.rows), len(self.columns))
        if not all(shape) or len(self.values) != shape[0] or {len(row) for row in self.values} != {shape[1]}:
            found = [len(row) for row in self.values]
            raise ValueError(f"{self.title}: expected values {shape} as the names say, got rows of {found}")
        if any(value is not None and not math.isfinite(value) for row in self.values for value in row):
            raise ValueError(f"{self.title}: expected finite values, got others")
        if self.marked and len(self.marked) != shape[0]:
            raise ValueError(f"{self.title}: expected a mark for {shape[0]} rows, got {len(self.marked)}")


def heatmaps_svg(maps: Sequence[Heatmap], title: str, columns: int = 5) -> str:
    """Draw matrices side by side as SVG text, with one scale of colours for all.

    Args:
        maps: in reading order; columns: how many stand in a row.
        title: heading of the drawing.
    Raises:
        ValueError: if there is no matrix, or none with a value.

    >>> one = Heatmap("cell 1", [[0.2, 0.8]], ["0→2"], ["skip", "pool"], [1])
    >>> heatmaps_svg([one], "Attention").startswith("<svg")
    True
    """
    values = [v for one in maps for row in one.values for v in row if v is not None]
    if not values:
        raise ValueError("expected matrices with at least one value, got none")
    low, high = min(values), max(values)
    left = max(monospace_width(name, _LABEL) for one in maps for name in one.rows) + 6
    tilt = math.radians(_TILT)
    longest = max(monospace_width(name, _LABEL) for one in maps for name in one.columns)
    foot = longest * math.sin(tilt) + 12
    overhang = max(0.0, longest * math.cos(tilt) - left)
    width = left + overhang + max(len(one.columns) for one in maps) * _SIDE
    height = _TITLE + max(len(one.rows) for one in maps) * _SIDE + foot
    columns = max(1, min(columns, len(maps)))
    body = [text(_MARGIN, 30, title, size=16, font_weight="bold", fill=INK)]
    for i, one in enumerate(maps):
        x = _MARGIN + i % columns * (width + _GAP) + left + overhang
        y = _HEAD + i // columns * (height + _GAP) + _TITLE
        body += _heatmap(x, y, one, low, high)
    bottom = _HEAD + -(-len(maps) // columns) * (height + _GAP)
    body += _key(_MARGIN, bottom, low, high)
    total = max(columns * (width + _GAP) - _GAP, _KEY_WIDTH + 120)
    return document(total + 2 * _MARGIN, bottom + _KEY_HEIGHT + _MARGIN, title, body)


def _heatmap(left: float, top: float, one: Heatmap, low: float, high: float) -> list[str]:
    drawn = [text(left, top - 8, one.title, size=12, font_weight="bold", fill=INK)]
    bottom = top + len(one.rows) * _SIDE
    for r, (name, row) in enumerate(zip(one.rows, one.values, strict=True)):
        y = top + r * _SIDE
        drawn.append(_label(left - 6, y + 0.72 * _SIDE, name))
        for c, value in enumerate(row):
            if value is not None:
                drawn.append(_square(left + c * _SIDE, y, _share(value, low, high), value))
        mark = one.marked[r] if one.marked else None
        if mark is not None:
            x = left + (mark + 0.5) * _SIDE
            dot = element(
                "circle", cx=x, cy=y + 0.5 * _SIDE, r=3, fill=PAPER, stroke=INK, **{"class": "mark"}
            )
            drawn.append(dot)
    for c, name in enumerate(one.columns):
        x, y = left + (c + 0.7) * _SIDE, bottom + 10
        drawn.append(_label(x, y, name, transform=f"rotate({-_TILT:.0f} {x:.1f} {y:.1f})"))
    width = len(one.columns) * _SIDE
    frame = element("rect", x=left, y=top, width=width, height=bottom - top, fill="none", stroke=RULE)
    return [*drawn, frame]


def _square(x: float, y: float, share: float, value: float) -> str:
    tip = element("title", f"{value:.4g}")
    return element(
        "rect", tip, x=x, y=y, width=_SIDE, height=_SIDE, fill=_colour(share), **{"class": "value"}
    )


def _label(x: float, y: float, name: str, **attributes: object) -> str:
    return text(x, y, name, size=_LABEL, font_family=MONOSPACE, text_anchor="end", fill=MUTED, **attributes)


def _key(left: float, top: float, low: float, high: float) -> list[str]:
    """The scale of colours with its two ends."""
    step = _KEY_WIDTH / _KEY_STEPS
    start = left + 56
    drawn = [
        element("rect", x=start + i * step, y=top, width=step + 0.5, height=_KEY_HEIGHT, fill=_colour(share))
        for i, share in ((i, i / (_KEY_STEPS - 1)) for i in range(_KEY_STEPS))
    ]
    drawn.append(text(start - 8, top + 9, f"{low:.3g}", size=11, text_anchor="end", fill=MUTED))
    drawn.append(text(start + _KEY_WIDTH + 8, top + 9, f"{high:.3g}", size=11, fill=MUTED))
    return drawn


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _colour(share: float) -> str:
    """A colour of the scale, 0 … 1, linear between its fixed ones."""
    position = share * (len(_COLOURS) - 1)
    first = min(int(position), len(_COLOURS) - 2)
    rest = position - first
    mixed = (round(a + (b - a) * rest) for a, b in zip(_COLOURS[first], _COLOURS[first + 1], strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)
