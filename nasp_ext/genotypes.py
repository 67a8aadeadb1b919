# SPDX-License-Identifier: MIT
"""Derived cells as data: what a search exports and a retraining reads."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Edge = tuple[str, int]
_NONE = "none"
_EXAMPLE = "|nor_conv_3x3~0|+|none~0|skip_connect~1|"


@dataclass(frozen=True)
class Genotype:
    """Two cells, each a list of (primitive, source) pairs, node by node (the form of Liu et al. 2019).

    Args:
        normal, reduce: the edges; source 0 and 1 are the two cells before, 2 the first intermediate node, …
        normal_concat, reduce_concat: the nodes whose concatenation is the output (2 is the first).
        normal_nodes, reduce_nodes: how many of the pairs enter each intermediate node; None = two each.
        inputs: of a cell: 2, the two cells before, or 1, the cell before; then source 0 is that one, 1 the
            first intermediate node, and there is no ``reduce``: residual blocks reduce.
        projected: the concatenation goes through ReLU, a 1×1 convolution to the channels of a node, and BN;
            and equal edges of a node are one module, whose output counts as often (Akimoto et al. 2019).
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
    inputs: int = 2
    projected: bool = False

    def __post_init__(self) -> None:
        if not _is_int(self.inputs) or self.inputs not in (1, 2):
            raise ValueError(f"expected cells of 2 inputs or 1, got inputs={self.inputs!r}")
        if not isinstance(self.projected, bool):
            raise ValueError(f"expected projected to be true or false, got {self.projected!r}")
        if self.inputs == 1 and (self.reduce or self.reduce_concat or self.reduce_nodes):
            raise ValueError(f"expected no reduce cell beside cells of 1 input, got {self.reduce!r}")
        for cell in self.cells:
            edges = checked_edges(cell, getattr(self, cell))
            given = getattr(self, f"{cell}_nodes")
            nodes: tuple[int, ...] | None = None
            if given is None:
                _check_two_each(cell, edges)
            else:
                nodes = checked_counts(cell, edges, checked_list(f"{cell}_nodes", given))
            two_each = nodes is not None and set(nodes) == {2}
            object.__setattr__(self, cell, edges)
            object.__setattr__(self, f"{cell}_nodes", None if two_each else nodes)
            concat = checked_list(f"{cell}_concat", getattr(self, f"{cell}_concat"))
            object.__setattr__(self, f"{cell}_concat", concat)
            check_cell(cell, self.cell_edges(cell), self.nodes(cell), concat, self.inputs)
        if self.inputs == 1:
            for name in ("reduce", "reduce_concat"):
                object.__setattr__(self, name, ())
            object.__setattr__(self, "reduce_nodes", None)

    @property
    def cells(self) -> tuple[str, ...]:
        """The kinds of cells: "normal" and, with two inputs, "reduce"."""
        return ("normal", "reduce") if self.inputs == 2 else ("normal",)

    def pairs(self, cell: str) -> tuple[Edge, ...]:
        """(primitive, source) of every edge of `normal` or `reduce`."""
        pairs: tuple[Edge, ...] = getattr(self, cell)
        return pairs

    def output(self, cell: str) -> tuple[int, ...]:
        """The states whose concatenation is the output of `normal` or `reduce`."""
        concat: tuple[int, ...] = getattr(self, f"{cell}_concat")
        return concat

    def nodes(self, cell: str) -> tuple[int, ...]:
        """The number of edges into each intermediate node of `normal` or `reduce`."""
        given: tuple[int, ...] | None = getattr(self, f"{cell}_nodes")
        return (2,) * (len(self.pairs(cell)) // 2) if given is None else given

    def cell_edges(self, cell: str) -> tuple[tuple[int, str, int], ...]:
        """(node, primitive, source) of every edge of `normal` or `reduce`; nodes count from 0."""
        pairs = iter(self.pairs(cell))
        counts = enumerate(self.nodes(cell))
        return tuple((node, *next(pairs)) for node, count in counts for _ in range(count))

    def to_json(self) -> str:
        """One line of JSON that ``from_json`` reads back to an equal genotype."""
        fields = asdict(self)
        for name, default in _LATER_FIELDS.items():
            if fields[name] == default:
                del fields[name]
        return json.dumps(fields)

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
        allowed = required | {"normal_nodes", "reduce_nodes", *_LATER_FIELDS}
        if not required <= set(data) <= allowed:
            raise ValueError(f"expected a genotype with the fields {sorted(required)}, got {sorted(data)}")
        return cls(**data)

    def to_arch(self) -> str:
        """The form of NAS-Bench-201: for each node, operation~source; an edge that is missing is `none`.

        Raises:  ValueError: if the cell has two inputs, two edges from one source, or another output than
            its last node.

        >>> Genotype.from_arch("|nor_conv_3x3~0|+|none~0|skip_connect~1|").to_arch()
        '|nor_conv_3x3~0|+|none~0|skip_connect~1|'
        """
        nodes = self.nodes("normal")
        if self.inputs != 1 or self.projected or self.normal_concat != (len(nodes),):
            raise ValueError(
                "expected a cell of one input whose output is its last node, got another genotype"
            )
        names = {(node, source): name for node, name, source in self.cell_edges("normal")}
        if len(names) < len(self.normal):
            raise ValueError(f"expected at most one edge for each pair of nodes, got {self.normal}")
        parts = [
            "".join(f"|{names.get((node, source), _NONE)}~{source}" for source in range(node + 1)) + "|"
            for node in range(len(nodes))
        ]
        return "+".join(parts)

    @classmethod
    def from_arch(cls, text: str) -> "Genotype":
        """Read the form of NAS-Bench-201: every source of every node, in order.

        Raises:  ValueError: if the text has another form.
        """
        nodes = [re.findall(r"([^|~+]+)~(\d+)(?=\|)", part) for part in text.split("+")]
        edges = tuple((name, int(source)) for node in nodes for name, source in node)
        counts = tuple(range(1, len(nodes) + 1))
        built = "+".join("".join(f"|{name}~{source}" for name, source in node) + "|" for node in nodes)
        in_order = [source for count in counts for source in range(count)]
        if built != text or [source for _, source in edges] != in_order:
            raise ValueError(
                f"expected an architecture like {_EXAMPLE}, every source of a node in order, got {text!r}"
            )
        return cls(edges, (len(nodes),), (), (), counts, inputs=1)


_LATER_FIELDS = {"inputs": 2, "projected": False}  # written only where they say something


def checked_edges(cell: str, pairs: Any) -> tuple[Edge, ...]:
    """The (primitive, source) pairs of a cell as tuples. Raises ValueError if they are none."""
    try:
        edges = tuple((name, source) for name, source in pairs)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected {cell} to be pairs (primitive, source), got {pairs!r}") from error
    for name, source in edges:
        if not isinstance(name, str) or not _is_int(source):
            raise ValueError(f"expected {cell} to be pairs (primitive, source), got ({name!r}, {source!r})")
    return edges


def checked_list(name: str, value: Any) -> tuple[Any, ...]:
    """A list or tuple as a tuple. Raises ValueError if it is neither."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected {name} to be a list, got {value!r}")
    return tuple(value)


def _check_two_each(cell: str, edges: tuple[Edge, ...]) -> None:
    if len(edges) % 2:
        raise ValueError(f"expected two edges per node in {cell}, or {cell}_nodes, got {len(edges)} edges")


def checked_counts(cell: str, edges: tuple[Edge, ...], nodes: tuple[Any, ...]) -> tuple[int, ...]:
    """The numbers of edges into each node. Raises ValueError if they do not count the edges."""
    if not all(_is_int(count) and count >= 0 for count in nodes) or sum(nodes) != len(edges):
        raise ValueError(f"expected {cell}_nodes to count the {len(edges)} edges of {cell}, got {nodes}")
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
    existing = all(_is_int(state) and inputs <= state < states for state in concat)
    if not concat or not existing or len(set(concat)) != len(concat):
        raise ValueError(
            f"expected {cell}_concat to name different nodes, {inputs}..{states - 1}, got {concat}"
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
