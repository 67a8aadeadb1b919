# SPDX-License-Identifier: MIT
"""Derived cells as data: what a search exports and a retraining reads."""

import json
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.genotype_text import genotype_in
from nasp_ext.families.cells.edges import Edge, check_cell, checked_cell, checked_list, is_int, plain

_NONE = "none"
_EXAMPLE = "|nor_conv_3x3~0|+|none~0|skip_connect~1|"


class CellsGenotype(AnyGenotype):
    """A genotype made of cells, each a list of (primitive, source) pairs, node by node."""

    @property
    @abstractmethod
    def inputs(self) -> int:
        """Cell inputs, 2 or 1, see ``Genotype``."""

    @property
    @abstractmethod
    def projected(self) -> bool:
        """Whether the output is projected, see ``Genotype``."""

    @property
    @abstractmethod
    def cells(self) -> tuple[str, ...]:
        """The names of the cells."""

    @abstractmethod
    def pairs(self, cell: str) -> tuple[Edge, ...]:
        """(primitive, source) of every edge of a cell."""

    @abstractmethod
    def nodes(self, cell: str) -> tuple[int, ...]:
        """The number of edges into each intermediate node of a cell."""

    @abstractmethod
    def output(self, cell: str) -> tuple[int, ...]:
        """The states whose concatenation is the output of a cell."""

    def cell_edges(self, cell: str) -> tuple[tuple[int, str, int], ...]:
        """(node, primitive, source) of every edge of a cell; nodes count from 0."""
        pairs = iter(self.pairs(cell))
        counts = enumerate(self.nodes(cell))
        return tuple((node, *next(pairs)) for node, count in counts for _ in range(count))

    def leads_on(self, cell: str, inputs: Sequence[bool]) -> bool:
        """Whether edges other than `none` lead from an input that is True to the output of a cell."""
        states = [*inputs, *(False for _ in self.nodes(cell))]
        for node, name, source in self.cell_edges(cell):
            states[len(inputs) + node] |= states[source] and name != _NONE
        return any(states[state] for state in self.output(cell))

    @property
    def operations(self) -> tuple[str, ...]:
        """The primitive of every edge of all cells."""
        return tuple(name for cell in self.cells for name, _ in self.pairs(cell))


@dataclass(frozen=True)
class Genotype(CellsGenotype):
    """Two cells, each a list of (primitive, source) pairs, node by node (the form of Liu et al. 2019).

    Lists, tuples, ranges and arrays are taken, and primitives under the names of the NASP authors' code;
    tuples of Python's numbers and our names are kept.

    Args:
        normal, reduce: the edges, in a row or a list for each node; source 0 and 1 are the two cells before,
            2 the first intermediate node, …
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

    kind: ClassVar[str] = "cells"
    normal: tuple[Edge, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Edge, ...]
    reduce_concat: tuple[int, ...]
    normal_nodes: tuple[int, ...] | None = None
    reduce_nodes: tuple[int, ...] | None = None
    inputs: int = 2
    projected: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", plain(self.inputs))
        if not is_int(self.inputs) or self.inputs not in (1, 2):
            raise ValueError(f"expected cells of 2 inputs or 1, got inputs={self.inputs!r}")
        if not isinstance(self.projected, bool):
            raise ValueError(f"expected projected to be true or false, got {self.projected!r}")
        if self.inputs == 1:
            for name in ("reduce", "reduce_concat", "reduce_nodes"):
                found = getattr(self, name)
                if found is not None and checked_list(name, found):
                    raise ValueError(f"expected no reduce cell beside cells of 1 input, got {self.reduce!r}")
                object.__setattr__(self, name, None if name == "reduce_nodes" else ())
        for cell in self.cells:
            edges, nodes = checked_cell(cell, getattr(self, cell), getattr(self, f"{cell}_nodes"))
            if nodes is None and len(edges) % 2:
                expected = f"expected two edges per node in {cell}, or {cell}_nodes"
                raise ValueError(f"{expected}, got {len(edges)} edges")
            two_each = nodes is not None and set(nodes) == {2}
            object.__setattr__(self, cell, edges)
            object.__setattr__(self, f"{cell}_nodes", None if two_each else nodes)
            concat = checked_list(f"{cell}_concat", getattr(self, f"{cell}_concat"))
            object.__setattr__(self, f"{cell}_concat", concat)
            check_cell(cell, self.cell_edges(cell), self.nodes(cell), concat, self.inputs)

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

    def to_json(self) -> str:
        """One line of JSON that ``from_json`` reads back to an equal genotype; its fields say its kind."""
        fields = asdict(self)
        for name, default in _LATER_FIELDS.items():
            if fields[name] == default:
                del fields[name]
        return json.dumps(fields)

    @classmethod
    def from_json(cls, data: str | Mapping[str, Any]) -> "Genotype":
        """Read a genotype from text, see ``from_text``, or from parsed JSON.

        Raises:  ValueError: if there is none, or a field is missing, unknown or invalid.
        """
        if isinstance(data, str):
            return cls.from_text(data)
        if not isinstance(data, Mapping):
            raise ValueError(f"expected a genotype as a JSON object, got {type(data).__name__}")
        if "recurrent" in data and "normal" not in data:
            raise ValueError("expected a genotype of convolutional cells, got one of recurrent cells")
        fields = {name: data[name] for name in data if name not in _IGNORED_IF_NONE or data[name] is not None}
        required = {"normal", "normal_concat", "reduce", "reduce_concat"}
        allowed = required | {"normal_nodes", "reduce_nodes", *_LATER_FIELDS}
        if not required <= set(fields) <= allowed:
            raise ValueError(
                f"expected a genotype with the fields {sorted(required)}, got {sorted(map(str, fields))}"
            )
        return cls(**fields)

    @classmethod
    def from_text(cls, text: str, which: str | int | None = None) -> "Genotype":
        """Read a genotype as code of the field prints it; nothing of the text is run.

        It may be ``Genotype(normal=[…], normal_concat=range(2, 6), reduce=[…], reduce_concat=[…])``, a
        dictionary or JSON of these fields, or a cell ``|nor_conv_3x3~0|+…``; and stand in a line of a log, or
        behind a name in a file of several.

        Args:
            which: the name, or the line, of the one that is meant, where the text holds several.
        Raises:
            ValueError: there is none, it is invalid, or there are several and ``which`` does not say which.

        >>> cell = "[('sep_3x3', 0), ('skip_connect', np.int64(1))]"
        >>> fields = f"normal={cell}, normal_concat=[2], reduce={cell}, reduce_concat=[2]"
        >>> Genotype.from_text(f"12:30 genotype = Genotype({fields})").normal
        (('sep_conv_3x3', 0), ('skip_connect', 1))
        """
        found = genotype_in(text, which)
        return cls.from_arch(found) if isinstance(found, str) else cls.from_json(found)

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
_IGNORED_IF_NONE = (
    "connectN",
    "connects",
)  # fields of AutoDL's genotypes, of use to its networks of stages alone
