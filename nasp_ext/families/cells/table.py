# SPDX-License-Identifier: MIT
"""Tables of cells that were all trained once: what a search found is looked up instead of trained again."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from nasp_ext.arch.primitive_names import primitive_name
from nasp_ext.families.cells.genotype import Genotype

_ARCHITECTURE = "arch"


class Table:
    """Architectures of one space, each with the same numbers.

    Args:
        architectures: in the form of NAS-Bench-201, ``|op~0|+|op~0|op~1|+…``, all with the same edges.
        columns: a number for each of them, by name; all finite.
        operations: the names of the options in the order of their numbers; None = sorted by name.
    Raises:
        ValueError: no architecture, one that cannot be read or stands there twice, an unknown operation, a
            column of another length or with a number that is none.

    >>> table = Table(["|none~0|", "|skip_connect~0|"], {"accuracy": [10.0, 54.3]})
    >>> table.value("accuracy", "|skip_connect~0|"), table.value("accuracy", (0,))
    (54.3, 10.0)
    >>> table.best("accuracy"), table.rank("accuracy", "|none~0|")
    ('|skip_connect~0|', 2)
    """

    def __init__(
        self,
        architectures: Sequence[str],
        columns: Mapping[str, Sequence[float]],
        operations: Sequence[str] | None = None,
    ) -> None:
        if not architectures:
            raise ValueError("expected a table with one architecture or more, got none")
        self.architectures = tuple(architectures)
        edges = [[name for name, _ in Genotype.from_arch(text).normal] for text in self.architectures]
        for text, names in zip(self.architectures, edges, strict=True):
            if len(names) != len(edges[0]):
                raise ValueError(f"expected {len(edges[0])} edges in every architecture, got {text!r}")
        found = sorted({name for names in edges for name in names})
        self.operations = tuple(found if operations is None else map(primitive_name, operations))
        unknown = [name for name in found if name not in self.operations]
        if unknown or len(set(self.operations)) < len(self.operations):
            raise ValueError(f"expected operations with {', '.join(unknown or found)} once, got {operations}")
        number = {name: i for i, name in enumerate(self.operations)}
        self.edges = len(edges[0])
        if len(self.operations) ** self.edges >= 2**63:
            raise ValueError(f"expected fewer than 2^63 architectures, got {len(number)}^{self.edges}")
        self._weights = torch.tensor([len(number) ** i for i in range(self.edges)])
        #: The options of each architecture, (N, E).
        self.options = torch.tensor([[number[name] for name in names] for names in edges])
        self._codes, self._order = (self.options * self._weights).sum(-1).sort()
        twice = (self._codes.diff() == 0).nonzero()
        if len(twice):
            text = self.architectures[int(self._order[int(twice[0, 0])])]
            raise ValueError(f"expected every architecture once, found {text!r} twice")
        self._columns = {name: self._column(name, values) for name, values in columns.items()}

    def _column(self, name: str, values: Sequence[float]) -> Tensor:
        column = torch.tensor(values, dtype=torch.float64)
        if len(column) != len(self.architectures):
            expected = len(self.architectures)
            raise ValueError(f"expected {expected} numbers in column {name!r}, got {len(column)}")
        if not bool(column.isfinite().all()):
            row = int((~column.isfinite()).nonzero()[0, 0])
            raise ValueError(f"expected a finite number in column {name!r}, row {row}, got {column[row]:g}")
        return column

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(self._columns)

    def column(self, name: str) -> Tensor:
        """The numbers of all architectures, (N,) float64.

        Raises:  ValueError: there is no such column; the message lists them.
        """
        if name not in self._columns:
            raise ValueError(f"expected a column, one of {', '.join(self._columns)}, got {name!r}")
        return self._columns[name]

    def rows(self, options: Tensor) -> Tensor:
        """Where architectures stand, (…) int64, given the options of their edges, (…, E).

        Raises:  ValueError: an option or an architecture that is not in the table.
        """
        if options.shape[-1:] != (self.edges,) or options.is_floating_point():
            found = f"{tuple(options.shape)} of {options.dtype}"
            raise ValueError(f"expected options (…, {self.edges}) as whole numbers, got {found}")
        options = options.to("cpu", torch.int64)
        wrong = (options < 0) | (options >= len(self.operations))
        codes = (options * self._weights).sum(-1)
        places = torch.searchsorted(self._codes, codes).clamp_max(len(self._codes) - 1)
        missing = wrong.any(-1) | (self._codes[places] != codes)
        if bool(missing.any()):
            first = options[missing][0].tolist()
            raise ValueError(
                f"expected an architecture of the table, {self.edges} options in "
                f"0..{len(self.operations) - 1}, got {tuple(first)}"
            )
        return self._order[places]

    def row(self, architecture: str | Sequence[int]) -> int:
        """Where an architecture stands, given as text or as the options of its edges.

        Raises:  ValueError: it is not in the table.
        """
        if not isinstance(architecture, str):
            return int(self.rows(torch.tensor(architecture)))
        names = [name for name, _ in Genotype.from_arch(architecture).normal]
        if len(names) != self.edges or not set(names) <= set(self.operations):
            raise ValueError(
                f"expected an architecture of {self.edges} edges with the operations "
                f"{', '.join(self.operations)}, got {architecture!r}"
            )
        return self.row([self.operations.index(name) for name in names])

    def value(self, name: str, architecture: str | Sequence[int]) -> float:
        """The number of one architecture in a column."""
        return float(self.column(name)[self.row(architecture)])

    def best(self, name: str, *, largest: bool = True) -> str:
        """The architecture with the largest (or the smallest) number in a column; of equal ones the first."""
        column = self.column(name)
        return self.architectures[int(column.argmax() if largest else column.argmin())]

    def rank(self, name: str, architecture: str | Sequence[int], *, largest: bool = True) -> int:
        """1 for the best; equal numbers share the better rank."""
        column, value = self.column(name), self.value(name, architecture)
        return 1 + int((column > value).sum() if largest else (column < value).sum())


def read_table(path: Path | str, operations: Sequence[str] | None = None) -> Table:
    """Read a CSV file, also gzipped, with a column ``arch`` and else numbers.

    Args:  operations: as in ``Table``.
    Raises:
        ValueError: the file cannot be read or has another form; the message names it and the line.
    """
    path = Path(path)
    try:
        with _text(path) as lines:
            reader = csv.reader(lines)
            header = next(reader, [])
            if header.count(_ARCHITECTURE) != 1 or len(set(header)) < len(header):
                raise ValueError(f"expected different columns, one of them {_ARCHITECTURE!r}, got {header}")
            read = [_cells(header, cells, reader.line_num) for cells in reader if cells]
        texts = [text for text, _ in read]
        names = [name for name in header if name != _ARCHITECTURE]
        numbers = {name: [values[i] for _, values in read] for i, name in enumerate(names)}
        return Table(texts, numbers, operations)
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a readable CSV file: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _cells(header: Sequence[str], cells: Sequence[str], line: int) -> tuple[str, list[float]]:
    """The architecture of a line and its numbers."""
    if len(cells) != len(header):
        raise ValueError(f"line {line}: expected {len(header)} cells, got {len(cells)}")
    values = []
    for name, cell in zip(header, cells, strict=True):
        if name != _ARCHITECTURE:
            try:
                values.append(float(cell))
            except ValueError:
                raise ValueError(f"line {line}, {name}: expected a number, got {cell!r}") from None
    return cells[header.index(_ARCHITECTURE)], values
