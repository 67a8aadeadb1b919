# SPDX-License-Identifier: MIT
"""What a cell of a genotype may be: edges, how many enter each node, the output; checked, as plain Python."""

from typing import Any

from nasp_ext.arch.primitive_names import primitive_name

Edge = tuple[str, int]

_LONGEST_LIST = 10_000


def is_int(value: object) -> bool:
    """Whether a value is a whole number and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """A NumPy array or scalar, or a tensor, as lists and numbers of Python; anything else as it is."""
    to_list = getattr(value, "tolist", None)
    return to_list() if callable(to_list) else value


def checked_list(name: str, value: Any) -> tuple[Any, ...]:
    """A list, tuple, range or array as a tuple. Raises ValueError if it is none of them, or endless."""
    value = plain(value)
    if not isinstance(value, list | tuple | range):
        raise ValueError(f"expected {name} to be a list, got {_shown(value)}")
    if value[_LONGEST_LIST:]:  # len() of a range can overflow
        raise ValueError(f"expected {name} to have at most {_LONGEST_LIST:,} entries, got {_shown(value)}")
    return tuple(plain(entry) for entry in value)


def checked_reductions(found: Any, cells: int) -> tuple[int, int] | None:
    """Places of the reductions as a tuple, or None. Raises ValueError if they are none among ``cells``."""
    if found is None:
        return None
    places = checked_list("reductions", found)
    if len(places) != 2 or not all(map(is_int, places)) or not 0 <= places[0] < places[1] < cells:
        raise ValueError(
            f"expected reductions to be two places in order, from 0, below cells={cells}, got {found!r:.80}"
        )
    return places[0], places[1]


def checked_edges(cell: str, pairs: Any) -> tuple[Edge, ...]:
    """The (primitive, source) pairs of a cell as tuples, the primitives under our names.

    A third entry, the weight that a search gave an edge (as GDAS prints it), says nothing about the cell.

    Raises:  ValueError: if they are no pairs.
    """
    if isinstance(pairs, set | frozenset | dict):
        raise ValueError(f"expected {cell} to be pairs in the order of the nodes, got {_shown(pairs)}")
    try:
        entries = [plain(entry) for entry in plain(pairs)]
    except TypeError as error:
        raise ValueError(f"expected {cell} to be pairs (primitive, source), got {_shown(pairs)}") from error
    edges = []
    for entry in entries:
        parts = [plain(part) for part in entry] if isinstance(entry, list | tuple) else []
        fits = len(parts) == 2 or (len(parts) == 3 and isinstance(parts[2], float | int))
        if not fits or not isinstance(parts[0], str) or not is_int(parts[1]):
            raise ValueError(f"expected {cell} to be pairs (primitive, source), got {_shown(entry)}")
        edges.append((primitive_name(parts[0]), parts[1]))
    return tuple(edges)


def checked_cell(cell: str, pairs: Any, nodes: Any) -> tuple[tuple[Edge, ...], tuple[int, ...] | None]:
    """The edges of a cell, and how many enter each node; None if nobody says.

    Args:  pairs: in a row, or a list of them for each node (as PyTorch ports of DARTS and AutoDL write it).
    Raises:  ValueError: if they are no pairs, or the numbers do not count them.
    """
    pairs = plain(pairs)
    given = None if nodes is None else checked_list(f"{cell}_nodes", nodes)
    if isinstance(pairs, list | tuple) and pairs and all(_is_node(entry) for entry in pairs):
        by_node = [checked_edges(cell, node) for node in pairs]
        counts = tuple(len(node) for node in by_node)
        if given is not None and given != counts:
            raise ValueError(
                f"expected {cell}_nodes to be {counts}, as the pairs are grouped, got {_shown(given)}"
            )
        return tuple(edge for node in by_node for edge in node), counts
    edges = checked_edges(cell, pairs)
    return edges, None if given is None else checked_counts(cell, edges, given)


def _is_node(entry: Any) -> bool:
    """Whether it lists edges, rather than being one."""
    return isinstance(entry, list | tuple) and not (entry and isinstance(plain(entry[0]), str))


def checked_counts(cell: str, edges: tuple[Edge, ...], nodes: tuple[Any, ...]) -> tuple[int, ...]:
    """The numbers of edges into each node. Raises ValueError if they do not count the edges."""
    if not all(is_int(count) and count >= 0 for count in nodes) or sum(nodes) != len(edges):
        raise ValueError(
            f"expected {cell}_nodes to count the {len(edges)} edges of {cell}, got {_shown(nodes)}"
        )
    return nodes


def check_cell(
    cell: str,
    edges: tuple[tuple[int, str, int], ...],
    nodes: tuple[int, ...],
    concat: tuple[int, ...],
    inputs: int,
) -> None:
    """Raise ValueError if a source does not come before its node, or the output names what is no node."""
    for node, name, source in edges:
        last = inputs + node - 1
        if not 0 <= source <= last:
            found = f"({name!r}, {source})"
            raise ValueError(f"expected the sources of node {node} of {cell} in 0..{last}, got {found}")
    states = inputs + len(nodes)
    existing = all(is_int(state) and inputs <= state < states for state in concat)
    if not concat or not existing or len(set(concat)) != len(concat):
        raise ValueError(
            f"expected {cell}_concat to name different nodes, {inputs}..{states - 1}, got {_shown(concat)}"
        )


def _shown(value: Any) -> str:
    """What was found, for a message of one line."""
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"
