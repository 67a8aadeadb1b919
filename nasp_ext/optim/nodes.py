# SPDX-License-Identifier: MIT
"""Which rows of an architecture matrix enter which node: said by the caller, never guessed."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

DARTS = "darts"
_CELL = (2, 3, 4, 5)  # rows of the four nodes of a DARTS cell


def as_nodes(nodes: object) -> tuple[int, ...] | str | None:
    """The option ``nodes`` as it is kept.

    Raises:  TypeError, ValueError: neither row counts, "darts" nor None.
    >>> as_nodes([2, 3])
    (2, 3)
    """
    if nodes is None:
        return None
    wrong = TypeError(
        f"expected nodes to be the rows of each node, e.g. (2, 3, 4, 5), or {DARTS!r}, got {nodes!r}"
    )
    if isinstance(nodes, (str, bytes)):
        if nodes == DARTS:
            return DARTS
        raise wrong
    try:
        given = list(nodes)  # type: ignore[call-overload]  # whatever it is, it may not be iterable
        counts = tuple(operator.index(n) for n in given)
    except TypeError as error:
        raise wrong from error
    if any(isinstance(n, bool) for n in given):
        raise wrong
    if any(n < 1 for n in counts):
        raise ValueError(f"expected every node to have one row or more, got nodes={counts}")
    return counts


def node_offsets(nodes: Sequence[int] | str | None, rows: int, edges_per_node: int) -> tuple[int, ...]:
    """Row bounds of the nodes.

    Args:
        nodes: rows of each node; "darts": cells of 2 + 3 + 4 + 5 rows if so they divide up, else one cell of
            2 + 3 + 4 + … rows; None: only where no node can have more rows than it keeps.
        rows: R.
        edges_per_node: rows kept per node.
    Raises:  ValueError: the rows are others, or nobody said to which nodes they belong.
    >>> node_offsets("darts", 14, 2)
    (0, 2, 5, 9, 14)
    >>> node_offsets((1, 2), 3, 1)
    (0, 1, 3)
    """
    return _node_offsets(
        nodes if nodes is None or isinstance(nodes, str) else tuple(nodes), rows, edges_per_node
    )


@lru_cache(maxsize=64)
def _node_offsets(nodes: tuple[int, ...] | str | None, rows: int, edges: int) -> tuple[int, ...]:
    if nodes is None:
        if rows <= edges:
            return (0, rows) if rows else (0,)
        raise ValueError(
            f"edges_per_node={edges} needs to know which of the {rows} rows enter which node: pass "
            f'nodes="darts" for the edges of DARTS cells, nodes=(rows of node 0, rows of node 1, …), e.g. '
            "nodes=(2, 3, 4, 5), for others, or edges_per_node=None to keep an edge per row, e.g. for one "
            "choice per layer"
        )
    counts = _darts(rows) if isinstance(nodes, str) else nodes
    if sum(counts) != rows:
        raise ValueError(
            f"expected nodes to be row counts that sum to {rows}, got {counts} with sum {sum(counts)}"
        )
    return (0, *accumulate(counts))


def _darts(rows: int) -> tuple[int, ...]:
    if rows % sum(_CELL) == 0:
        return _CELL * (rows // sum(_CELL))
    counts: list[int] = []
    while sum(counts) < rows:
        counts.append(len(counts) + 2)
    if sum(counts) == rows:
        return tuple(counts)
    raise ValueError(
        'nodes="darts" is for cells of 14 rows or one of 2 + 3 + 4 + … rows (2, 5, 9, 14, 20, 27), '
        f"got {rows} rows: pass nodes=(rows of node 0, rows of node 1, …), or "
        "edges_per_node=None to keep an edge per row"
    )
