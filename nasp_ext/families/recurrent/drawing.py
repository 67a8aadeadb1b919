# SPDX-License-Identifier: MIT
"""A recurrent cell as a graph: the word and the hidden state left, each term labelled with its activation."""

from __future__ import annotations

from collections.abc import Sequence

from nasp_ext.families.recurrent.genotype import RecurrentGenotype
from nasp_ext.plots.graph import graph_svg
from nasp_ext.plots.svg import MUTED, PAPER

_INPUTS = ("x_{t}", "h_{t-1}")  # both enter state 0
_MEAN, _OUTPUT = "mean", "h_{t}"
# Activation -> (line, label background): hue and lightness both differ, also for colour-blind readers.
_ACTIVATIONS = {
    "tanh": ("#1f6fb2", "#e3f0fb"),
    "relu": ("#b7791f", "#fdf3dc"),
    "sigmoid": ("#8f3f71", "#f7e6f0"),
    "identity": ("#3f7d4e", "#e6f4e9"),
}
_OTHER = (MUTED, "#eef1f4")
_PLAIN = ("#9aa5b1", PAPER)  # what has no activation of its own


def recurrent_svg(
    terms: Sequence[tuple[str, int]],
    concat: Sequence[int],
    nodes: Sequence[int] | None = None,
    title: str = "Recurrent cell",
) -> str:
    """Draw a recurrent cell as SVG text.

    Args:
        terms: (activation, predecessor) pairs, node by node; predecessor 0 is the state that the word and
            the hidden state make, 1 the first node, …
        concat: the states whose mean is the next hidden state.
        nodes: how many terms enter each node; None = one each.
        title: heading of the drawing.

    Raises:
        ValueError: if the number of terms does not fit ``nodes`` or a predecessor does not come before its
            node.

    >>> recurrent_svg([("relu", 0), ("tanh", 1)], [1, 2]).startswith("<svg")
    True
    """
    counts = [1] * len(terms) if nodes is None else list(nodes)
    _check(terms, concat, counts)
    first = len(_INPUTS)  # the vertex of state 0
    states = 1 + len(counts)
    edges = [(vertex, first, "") for vertex in range(first)]
    pairs = iter(terms)
    for node, count in enumerate(counts, 1):
        for _ in range(count):
            activation, source = next(pairs)
            edges.append((first + source, first + node, activation))
    names = [*_INPUTS, *map(str, range(states))]
    if len(concat) > 1:
        edges += [(first + state, len(names), "") for state in concat]
        names.append(_MEAN)
        edges.append((len(names) - 1, len(names), ""))
    else:
        edges.append((first + concat[0], len(names), ""))
    return graph_svg([*names, _OUTPUT], edges, title, _colours)


def recurrent_drawings(genotype: RecurrentGenotype) -> dict[str, str]:
    """SVG text of the cell by file name, cell_recurrent.svg."""
    return {"cell_recurrent.svg": recurrent_svg(genotype.recurrent, genotype.concat, genotype.nodes)}


def _check(terms: Sequence[tuple[str, int]], concat: Sequence[int], counts: Sequence[int]) -> None:
    if sum(counts) != len(terms):
        raise ValueError(
            f"expected {sum(counts)} terms for nodes with {tuple(counts)} of them, got {len(terms)}"
        )
    targets = [node for node, count in enumerate(counts, 1) for _ in range(count)]
    for (name, source), target in zip(terms, targets, strict=True):
        if not 0 <= source < target:
            found = f"expected a predecessor in [0, {target}), got {source}"
            raise ValueError(f"{name} into node {target}: {found}")
    if not concat or any(not 0 <= state <= len(counts) for state in concat):
        raise ValueError(f"expected concat in [0, {len(counts) + 1}), at least one, got {tuple(concat)}")


def _colours(label: str) -> tuple[str, str]:
    return _ACTIVATIONS.get(label, _OTHER) if label else _PLAIN
