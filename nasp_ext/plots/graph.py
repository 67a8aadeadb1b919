# SPDX-License-Identifier: MIT
"""A small graph with named boxes and labelled arrows, left to right."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nasp_ext.plots.arrangement import Arrangement, Spot, arrange
from nasp_ext.plots.svg import INK, MONOSPACE, PAPER, document, element, monospace_width, text

Colours = Callable[[str], tuple[str, str]]  # of a label: its line, its background

_LABEL_SIZE = 12.0
_LABEL_HEIGHT, _PASSAGE_HEIGHT, _PORT = 22.0, 6.0, 12.0
_NODE_WIDTH, _GAP, _MARGIN, _HEAD = 56.0, 44.0, 24.0, 44.0


def graph_svg(
    names: Sequence[str], edges: Sequence[tuple[int, int, str]], title: str, colours: Colours
) -> str:
    """Draw a directed acyclic graph as SVG text.

    Args:
        names: of the vertices; ``c_{k-2}`` is an input or output, drawn dark with a subscript.
        edges: (source, target, label), from lower to higher vertices; "" = no label.
        title: heading of the drawing; colours: of an edge, given its label.
    """
    heights = [
        max(40.0, _PORT * (1 + max(sum(s == i for s, _, _ in edges), sum(t == i for _, t, _ in edges))))
        for i in range(len(names))
    ]
    labels = [label for _, _, label in edges]
    widths = [monospace_width(label, _LABEL_SIZE) + 16 if label else 0.0 for label in labels]
    plan = arrange(
        heights,
        [(source, target, width) for (source, target, _), width in zip(edges, widths, strict=True)],
        _LABEL_HEIGHT,
        _PASSAGE_HEIGHT,
    )
    return _draw(plan, names, labels, title, colours)


def _draw(plan: Arrangement, names: Sequence[str], labels: list[str], title: str, colours: Colours) -> str:
    left, right = [], []
    x = _MARGIN
    for i, column in enumerate(plan.columns):
        width = _NODE_WIDTH if i % 2 == 0 else max(place.width for place in column)
        left.append(x)
        right.append(x + width)
        x += width + _GAP
    top = min(place.y - place.height / 2 for column in plan.columns for place in column)
    bottom = max(place.y + place.height / 2 for column in plan.columns for place in column)
    shift = _HEAD + 8 - top
    lines, pills = [], []
    for index, route in enumerate(plan.routes):
        colour, paper = colours(labels[index])
        points = [(left[p.column], right[p.column], p.y + shift) for p in route]
        start = (right[route[0].column], shift + _port(route[0], route[0].after, route[1]))
        end = (left[route[-1].column], shift + _port(route[-1], route[-1].before, route[-2]))
        lines.append(_edge(start, points[1:-1], end, colour))
        label = plan.labels[index]
        if label is not None:
            middle = (left[label.column] + right[label.column]) / 2
            pills.append(_pill(middle, label.y + shift, label.width, labels[index], colour, paper))
    boxes = [
        _vertex(left[place.column], place.y + shift, place.height, names[vertex], vertex)
        for vertex, place in enumerate(plan.vertices)
    ]
    width, height = right[-1] + _MARGIN, bottom + shift + _MARGIN
    heading = text(_MARGIN, 30, title, size=16, font_weight="bold", fill=INK)
    return document(width, height, title, [heading, *lines, *pills, *boxes])


def _port(vertex: Spot, neighbours: list[Spot], neighbour: Spot) -> float:
    """Where on its vertex an edge begins or ends: edges keep the order of the places they lead to."""
    position = next(i for i, place in enumerate(neighbours) if place is neighbour)
    return vertex.y + (position - (len(neighbours) - 1) / 2) * _PORT


def _edge(
    start: tuple[float, float],
    passed: list[tuple[float, float, float]],
    end: tuple[float, float],
    colour: str,
) -> str:
    """A line that is level inside columns and bends between them, ending in an arrow head."""
    tip = 7.0
    stops = [*((x0, y, x1) for x0, x1, y in passed), (end[0] - tip, end[1], end[0] - tip)]
    path = f"M{start[0]:.1f} {start[1]:.1f}"
    x, y = start
    for x0, next_y, x1 in stops:
        bend = (x0 - x) / 2
        path += f" C{x + bend:.1f} {y:.1f} {x0 - bend:.1f} {next_y:.1f} {x0:.1f} {next_y:.1f}"
        if x1 > x0:
            path += f" H{x1:.1f}"
        x, y = x1, next_y
    line = element("path", d=path, fill="none", stroke=colour, stroke_width=1.6)
    head = f"M{end[0]:.1f} {end[1]:.1f} l{-tip - 1:.1f} -4 v8 z"
    return element("g", line + element("path", d=head, fill=colour), **{"class": "edge"})


def _pill(x: float, y: float, width: float, label: str, colour: str, paper: str) -> str:
    box = element(
        "rect",
        x=x - width / 2,
        y=y - _LABEL_HEIGHT / 2,
        width=width,
        height=_LABEL_HEIGHT,
        rx=_LABEL_HEIGHT / 2,
        fill=paper,
        stroke=colour,
    )
    words = text(x, y + 4, label, size=_LABEL_SIZE, font_family=MONOSPACE, text_anchor="middle", fill=INK)
    return element("g", box + words, **{"class": "label"})


def _vertex(x: float, y: float, height: float, name: str, vertex: int) -> str:
    """A box with its name; ``c_{k-2}`` is written with a subscript."""
    terminal = "_" in name
    box = element(
        "rect",
        x=x,
        y=y - height / 2,
        width=_NODE_WIDTH,
        height=height,
        rx=8,
        fill=INK if terminal else PAPER,
        stroke=INK,
        stroke_width=1.6,
    )
    stem, _, index = name.partition("_")
    words = stem
    if index:
        words += element("tspan", index.strip("{}").replace("-", "\N{MINUS SIGN}"), dy=4, font_size=11)
    caption = element(
        "text",
        words,
        x=x + _NODE_WIDTH / 2,
        y=y + 5,
        font_size=15,
        text_anchor="middle",
        fill=PAPER if terminal else INK,
    )
    return element("g", box + caption, id=f"vertex-{vertex}", **{"class": "vertex"})
