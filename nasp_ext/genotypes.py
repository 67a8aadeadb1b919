# SPDX-License-Identifier: MIT
"""Derived cells as data: what a search exports and a retraining reads."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Edge = tuple[str, int]
_INPUTS = 2


@dataclass(frozen=True)
class Genotype:
    """Two cells, each a list of (primitive, source) pairs, node by node (the form of Liu et al. 2019).

    Args:
        normal, reduce: the edges; source 0 and 1 are the two cells before, 2 the first intermediate node, …
        normal_concat, reduce_concat: the nodes whose concatenation is the output (2 is the first).
        normal_nodes, reduce_nodes: how many of the pairs enter each intermediate node; None = two each.
    Raises:
        ValueError: if an edge names a source that does not exist yet, or the counts do not add up.

    >>> edges = (("sep_conv_3x3", 0), ("skip_connect", 1))
    >>> Genotype(edges, (2,), edges[:1], (2,), reduce_nodes=(1,)).cell_edges("reduce")
    ((0, 'sep_conv_3x3', 0),)
    """

    normal: tuple[Edge, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Edge, ...]
    reduce_concat: tuple[int, ...]
    normal_nodes: tuple[int, ...] | None = None
    reduce_nodes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for cell in ("normal", "reduce"):
            edges = _edges(cell, getattr(self, cell))
            given = getattr(self, f"{cell}_nodes")
            nodes = _counts(cell, edges, None if given is None else _listed(self, f"{cell}_nodes"))
            two_each = nodes is not None and set(nodes) == {2}
            object.__setattr__(self, cell, edges)
            object.__setattr__(self, f"{cell}_nodes", None if two_each else nodes)
            object.__setattr__(self, f"{cell}_concat", _listed(self, f"{cell}_concat"))
            _check_cell(cell, self.cell_edges(cell), self.nodes(cell), getattr(self, f"{cell}_concat"))

    def nodes(self, cell: str) -> tuple[int, ...]:
        """The number of edges into each intermediate node of `normal` or `reduce`."""
        given: tuple[int, ...] | None = getattr(self, f"{cell}_nodes")
        return (2,) * (len(getattr(self, cell)) // 2) if given is None else given

    def cell_edges(self, cell: str) -> tuple[tuple[int, str, int], ...]:
        """(node, primitive, source) of every edge of `normal` or `reduce`; nodes count from 0."""
        pairs = iter(getattr(self, cell))
        counts = enumerate(self.nodes(cell))
        return tuple((node, *next(pairs)) for node, count in counts for _ in range(count))

    def to_json(self) -> str:
        """One line of JSON that ``from_json`` reads back to an equal genotype."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, data: str | Mapping[str, Any]) -> "Genotype":
        """Read a genotype from JSON text or from the parsed object.

        Raises:  ValueError: if the text is no JSON object, or a field is missing, unknown or invalid.
        """
        if isinstance(data, str):
            try:
                data = json.loads(data)
            except json.JSONDecodeError as error:
                raise ValueError(f"expected a genotype as JSON, got text that is none: {error}") from error
        if not isinstance(data, Mapping):
            raise ValueError(f"expected a genotype as a JSON object, got {type(data).__name__}")
        required = {"normal", "normal_concat", "reduce", "reduce_concat"}
        allowed = required | {"normal_nodes", "reduce_nodes"}
        if not required <= set(data) <= allowed:
            raise ValueError(f"expected a genotype with the fields {sorted(required)}, got {sorted(data)}")
        return cls(**data)


def _edges(cell: str, pairs: Any) -> tuple[Edge, ...]:
    try:
        edges = tuple((name, source) for name, source in pairs)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected {cell} to be pairs (primitive, source), got {pairs!r}") from error
    for name, source in edges:
        if not isinstance(name, str) or not _is_int(source):
            raise ValueError(f"expected {cell} to be pairs (primitive, source), got ({name!r}, {source!r})")
    return edges


def _listed(genotype: "Genotype", name: str) -> tuple[Any, ...]:
    value = getattr(genotype, name)
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected {name} to be a list, got {value!r}")
    return tuple(value)


def _counts(cell: str, edges: tuple[Edge, ...], nodes: tuple[Any, ...] | None) -> tuple[int, ...] | None:
    if nodes is None:
        if len(edges) % 2:
            raise ValueError(
                f"expected two edges per node in {cell}, or {cell}_nodes, got {len(edges)} edges"
            )
        return None
    if not all(_is_int(count) and count >= 0 for count in nodes) or sum(nodes) != len(edges):
        raise ValueError(f"expected {cell}_nodes to count the {len(edges)} edges of {cell}, got {nodes}")
    return nodes


def _check_cell(
    cell: str, edges: tuple[tuple[int, str, int], ...], nodes: tuple[int, ...], concat: tuple[int, ...]
) -> None:
    for node, name, source in edges:
        last = _INPUTS + node - 1
        if not 0 <= source <= last:
            found = f"({name!r}, {source})"
            raise ValueError(f"expected the sources of node {node} of {cell} in 0..{last}, got {found}")
    states = _INPUTS + len(nodes)
    existing = all(_is_int(state) and _INPUTS <= state < states for state in concat)
    if not concat or not existing or len(set(concat)) != len(concat):
        raise ValueError(
            f"expected {cell}_concat to name different nodes, {_INPUTS}..{states - 1}, got {concat}"
        )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# Published cells of Liu, Simonyan, Yang: DARTS (ICLR 2019). Without auxiliary head, at C = 36, 20 cells and
# 10 classes, V1 (first order) has 3,169,414 parameters and V2 (second order) 3,349,342.
GENOTYPES = {
    "DARTS_V1": Genotype(
        normal=(
            *(("sep_conv_3x3", 1), ("sep_conv_3x3", 0)),
            *(("skip_connect", 0), ("sep_conv_3x3", 1)),
            *(("skip_connect", 0), ("sep_conv_3x3", 1)),
            *(("sep_conv_3x3", 0), ("skip_connect", 2)),
        ),
        normal_concat=(2, 3, 4, 5),
        reduce=(
            *(("max_pool_3x3", 0), ("max_pool_3x3", 1)),
            *(("skip_connect", 2), ("max_pool_3x3", 0)),
            *(("max_pool_3x3", 0), ("skip_connect", 2)),
            *(("skip_connect", 2), ("avg_pool_3x3", 0)),
        ),
        reduce_concat=(2, 3, 4, 5),
    ),
    "DARTS_V2": Genotype(
        normal=(
            *(("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
            *(("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
            *(("sep_conv_3x3", 1), ("skip_connect", 0)),
            *(("skip_connect", 0), ("dil_conv_3x3", 2)),
        ),
        normal_concat=(2, 3, 4, 5),
        reduce=(
            *(("max_pool_3x3", 0), ("max_pool_3x3", 1)),
            *(("skip_connect", 2), ("max_pool_3x3", 1)),
            *(("max_pool_3x3", 0), ("skip_connect", 2)),
            *(("skip_connect", 2), ("max_pool_3x3", 1)),
        ),
        reduce_concat=(2, 3, 4, 5),
    ),
}
