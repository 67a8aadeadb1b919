# SPDX-License-Identifier: MIT
"""A cell of a genotype as a graph: inputs left, each edge labelled with its operation, output right."""

from __future__ import annotations

from collections.abc import Sequence

from nasp_ext.families.cells.genotype import CellsGenotype
from nasp_ext.plots.graph import graph_svg
from nasp_ext.plots.svg import MUTED, PAPER

_INPUTS = ("c_{k-2}", "c_{k-1}")  # of a cell with one input, the second
_OUTPUT = "c_{k}"
_TITLES = {"normal": "Normal cell", "reduce": "Reduction cell"}
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
    drawn = [(source, target, name) for (name, source), target in zip(edges, targets, strict=True)]
    drawn += [(source, last + 1, "") for source in concat]
    return graph_svg(names, drawn, title, _family)


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


def _family(label: str) -> tuple[str, str]:
    if not label:
        return _CONCAT, PAPER
    return next((colours for key, colours in _FAMILIES.items() if key in label), _FAMILIES["other"])
