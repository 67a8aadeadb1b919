# SPDX-License-Identifier: MIT
"""Layered drawing of a small directed graph, left to right (after Sugiyama, Tagawa and Toda 1981).

Columns alternate: vertices, labels, vertices, … Each edge owns one place in every column it passes, one
of them for its label, so that nothing can lie on a label; edges bend only in the gaps between columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

_SWEEPS = 24
_GAP = 10.0  # vertical space between two places of a column
_STRAIGHT = (
    1.0,
    2.0,
    8.0,
)  # how much an edge piece wants to be level: between vertices, at one end, inside an edge


@dataclass
class Spot:
    """A rectangle in a column: a vertex, a label, or the passage of an edge; ``y`` is its centre.

    In a finished arrangement ``before`` and ``after`` run from top to bottom.
    """

    column: int
    height: float
    width: float = 0.0
    vertex: bool = False
    y: float = 0.0
    before: list[Spot] = field(default_factory=list)
    after: list[Spot] = field(default_factory=list)


@dataclass(frozen=True)
class Arrangement:
    """Columns from left to right, each ordered from top to bottom, and the places of each vertex and edge."""

    columns: list[list[Spot]]
    vertices: list[Spot]
    routes: list[list[Spot]]
    labels: list[Spot | None]


def arrange(
    vertex_heights: list[float],
    edges: list[tuple[int, int, float]],
    label_height: float,
    passage_height: float,
) -> Arrangement:
    """Place a directed acyclic graph whose edges lead from lower to higher vertices.

    Args:
        vertex_heights: height of each vertex.
        edges: (source, target, label width); 0 = no label.
        label_height, passage_height: heights of a label and of an edge that only passes.
    """
    layer = [0] * len(vertex_heights)
    for source, target, _ in sorted(edges, key=lambda edge: edge[1]):
        layer[target] = max(layer[target], layer[source] + 1)
    columns: list[list[Spot]] = [[] for _ in range(2 * max(layer) + 1)]

    def put(column: int, height: float, width: float = 0.0, vertex: bool = False) -> Spot:
        columns[column].append(place := Spot(column, height, width, vertex))
        return place

    vertices = [put(2 * layer[i], height, vertex=True) for i, height in enumerate(vertex_heights)]
    routes, labels = [], []
    labels_in = [0] * len(columns)
    for source, target, width in edges:
        passed = range(2 * layer[source] + 1, 2 * layer[target])
        # The emptiest label column; of equal ones the nearest to the target.
        own = min(passed[::2], key=lambda column: (labels_in[column], -column)) if width else None
        route = [vertices[source]]
        for column in passed:
            here = column == own
            route.append(put(column, label_height if here else passage_height, width if here else 0.0))
            labels_in[column] += here
        route.append(vertices[target])
        for left, right in pairwise(route):
            left.after.append(right)
            right.before.append(left)
        routes.append(route)
        labels.append(next((place for place in route[1:-1] if place.column == own), None))
    columns = _fewest_crossings(columns)
    rank = {id(place): i for column in columns for i, place in enumerate(column)}
    for place in (place for column in columns for place in column):
        place.before.sort(key=lambda neighbour: rank[id(neighbour)])
        place.after.sort(key=lambda neighbour: rank[id(neighbour)])
    _straighten(columns)
    return Arrangement(columns, vertices, routes, labels)


def crossings(columns: list[list[Spot]]) -> int:
    """How many pairs of edge pieces cross between neighbouring columns."""
    count = 0
    for column, following in pairwise(columns):
        rank = {id(place): i for i, place in enumerate(following)}
        ends = [
            rank[id(target)] for place in column for target in sorted(place.after, key=lambda p: rank[id(p)])
        ]
        count += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return count


def _fewest_crossings(columns: list[list[Spot]]) -> list[list[Spot]]:
    """Order each column by the mean rank of its neighbours, in both directions; keep the best order met."""
    best, fewest = [list(column) for column in columns], crossings(columns)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        for i in range(1, len(columns)) if forward else range(len(columns) - 2, -1, -1):
            rank = {id(place): float(r) for r, place in enumerate(columns[i - 1 if forward else i + 1])}
            keyed = [
                (_mean([rank[id(p)] for p in (place.before if forward else place.after)], r), r)
                for r, place in enumerate(columns[i])
            ]
            columns[i] = [columns[i][r] for _, r in sorted(keyed)]
        _swap_neighbours(columns)
        if (count := crossings(columns)) < fewest:
            best, fewest = [list(column) for column in columns], count
    return best


def _swap_neighbours(columns: list[list[Spot]]) -> None:
    """Swap neighbours within a column as long as that removes a crossing."""
    count = crossings(columns)
    for column in columns:
        for i in range(len(column) - 1):
            column[i], column[i + 1] = column[i + 1], column[i]
            if (swapped := crossings(columns)) < count:
                count = swapped
            else:
                column[i], column[i + 1] = column[i + 1], column[i]


def _straighten(columns: list[list[Spot]]) -> None:
    """Give each place the height of its neighbours, as far as the places of its column leave room."""
    for column in columns:
        _stack(column, [(0.0, 1.0)] * len(column))
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        for column in columns if forward else columns[::-1]:
            _stack(column, [_wanted(place) for place in column])


def _wanted(place: Spot) -> tuple[float, float]:
    """The weighted mean height of the neighbours, and how much it matters (the sum of the weights)."""
    neighbours = place.before + place.after or [place]
    weights = [_STRAIGHT[(not place.vertex) + (not neighbour.vertex)] for neighbour in neighbours]
    total = sum(weights)
    return sum(p.y * weight for p, weight in zip(neighbours, weights, strict=True)) / total, total


def _stack(column: list[Spot], wanted: list[tuple[float, float]]) -> None:
    """Least-squares nearest heights in the given order without overlap (isotonic regression by pooling)."""
    offset, offsets = 0.0, []
    for i, place in enumerate(column):
        if i:
            offset += (column[i - 1].height + place.height) / 2 + _GAP
        offsets.append(offset)
    pools: list[tuple[float, float, int]] = []  # mean, weight, places
    for (want, weight), shift in zip(wanted, offsets, strict=True):
        pools.append((want - shift, weight, 1))
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            (a, u, m), (b, v, n) = pools[-2:]
            pools[-2:] = [((a * u + b * v) / (u + v), u + v, m + n)]
    values = [mean for mean, _, places in pools for _ in range(places)]
    for place, value, shift in zip(column, values, offsets, strict=True):
        place.y = value + shift


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
