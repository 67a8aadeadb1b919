# SPDX-License-Identifier: MIT
"""A cell of a genotype as a graph: inputs left, each edge labelled with its operation, output right."""

from __future__ import annotations

from collections.abc import Sequence

from nasp_ext.families.cells.genotype import CellsGenotype
from nasp_ext.plots.arrangement import Arrangement, Spot, arrange
from nasp_ext.plots.svg import INK, MONOSPACE, MUTED, PAPER, document, element, monospace_width, text

_INPUTS = ("c_{k-2}", "c_{k-1}")  # of a cell with one input, the second
_OUTPUT = "c_{k}"
_TITLES = {"normal": "Normal cell", "reduce": "Reduction cell"}
_LABEL_SIZE = 12.0
_LABEL_HEIGHT, _PASSAGE_HEIGHT, _PORT = 22.0, 6.0, 12.0
_NODE_WIDTH, _GAP, _MARGIN, _HEAD = 56.0, 44.0, 24.0, 44.0
# Operation family -> (line, label background): hue and lightness both differ, also for colour-blind readers.
_FAMILIES = {
    "conv": ("#1f6fb2", "#e3f0fb"),
    "pool": ("#b7791f", "#fdf3dc"),
    "skip": ("#3f7d4e", "#e6f4e9"),
    "other": (MUTED, "#eef1f4"),
}
_CONCAT = "#9aa5b1"


def cell_svg(
    edges: Sequence[tuple[str, int]],
    concat: Sequence[int],
    nodes: Sequence[int] | None = None,
    title: str = "Cell",
    inputs: int = 2,
) -> str:
    """Draw one cell as SVG text.

    Args:
        edges: (primitive, source) pairs, node by node; the cell's inputs are numbered first, then its nodes.
        concat: the vertices whose concatenation is the output.
        nodes: how many edges lead into each intermediate node; None = two each.
        title: heading of the drawing; inputs: of the cell, 2 or 1.

    Raises:
        ValueError: if the number of edges does not fit ``nodes`` or a source does not come before its node.

    >>> cell_svg([("skip_connect", 0), ("sep_conv_3x3", 1)], [2], title="Normal cell").startswith("<svg")
    True
    """
    targets = _targets(edges, concat, nodes, inputs)
    last = max([*targets, *concat, inputs - 1])
    names = [*_INPUTS[-inputs:], *(str(i) for i in range(last + 1 - inputs)), _OUTPUT]
    pairs = [(source, target) for (_, source), target in zip(edges, targets, strict=True)]
    pairs += [(source, last + 1) for source in concat]
    labels = [name for name, _ in edges] + [""] * len(concat)
    heights = [
        max(40.0, _PORT * (1 + max(sum(s == i for s, _ in pairs), sum(t == i for _, t in pairs))))
        for i in range(len(names))
    ]
    widths = [monospace_width(label, _LABEL_SIZE) + 16 if label else 0.0 for label in labels]
    plan = arrange(
        heights,
        [(s, t, width) for (s, t), width in zip(pairs, widths, strict=True)],
        _LABEL_HEIGHT,
        _PASSAGE_HEIGHT,
    )
    return _draw(plan, names, labels, title)


def cell_drawings(genotype: CellsGenotype) -> dict[str, str]:
    """SVG text of each cell by file name, cell_<name>.svg: normal and reduce, or 01, 02 …"""
    drawings = {}
    for cell in genotype.cells:
        edges, concat = genotype.pairs(cell), genotype.output(cell)
        title = "Cell" if genotype.inputs == 1 else _TITLES.get(cell, f"Cell {cell}")
        drawings[f"cell_{cell}.svg"] = cell_svg(edges, concat, genotype.nodes(cell), title, genotype.inputs)
    return drawings


def _targets(
    edges: Sequence[tuple[str, int]], concat: Sequence[int], nodes: Sequence[int] | None, inputs: int
) -> list[int]:
    """The vertex that each edge leads into."""
    if nodes is None:
        nodes = [2] * ((len(edges) + 1) // 2)
    if sum(nodes) != len(edges):
        raise ValueError(
            f"expected {sum(nodes)} edges for nodes with {tuple(nodes)} of them, got {len(edges)}"
        )
    targets = [inputs + i for i, count in enumerate(nodes) for _ in range(count)]
    for (name, source), target in zip(edges, targets, strict=True):
        if not 0 <= source < target:
            raise ValueError(f"{name} into vertex {target}: expected a source in [0, {target}), got {source}")
    if any(not 0 <= source < inputs + len(nodes) for source in concat):
        raise ValueError(f"expected concat in [0, {inputs + len(nodes)}), got {tuple(concat)}")
    return targets


def _draw(plan: Arrangement, names: list[str], labels: list[str], title: str) -> str:
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
        colour, paper = _family(labels[index])
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


def _family(label: str) -> tuple[str, str]:
    if not label:
        return _CONCAT, PAPER
    return next((colours for key, colours in _FAMILIES.items() if key in label), _FAMILIES["other"])
