# SPDX-License-Identifier: MIT
"""What a table of trained cells says of a search: ``nasp-ext search --table`` and ``nasp-ext lookup``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.commands.command import Command
from nasp_ext.engine import read_genotype
from nasp_ext.engine.run import Run
from nasp_ext.families.cells.table import Table, read_table
from nasp_ext.families.genotypes import genotype_from_json
from nasp_ext.reproduce.base import table as aligned

_NUMBER_OF_THE_ROW = "index"


@dataclass(frozen=True)
class Lookup:
    """Look up what a table of trained cells says of a cell, or of each epoch of a search."""

    table: str = ""
    """CSV file, also gzipped, with a column arch and columns of accuracies."""
    genotype: str = "runs/search"
    """The folder of a search, a file with a genotype, or a cell written |op~0|+|op~0|op~1|…"""


def _work(options: Lookup) -> None:
    if not options.table:
        raise ValueError("expected --table FILE, a CSV file with a column arch and columns of accuracies")
    genotype = read_genotype(options.genotype)
    known = read_table(options.table)
    print(f"cell: {genotype.to_arch()}")
    print_lookup(known, genotype, _searched(options.genotype))


def _searched(source: str) -> Sequence[Mapping[str, Any]]:
    """The history of a folder, if it is that of a search."""
    run = Run.open(source) if Run.is_in(source) else None
    return run.history if run is not None and run.kind == "search" else ()


def table_for(space: SearchSpace, path: str) -> Table:
    """The table, for a search of that space.

    Raises:  ValueError: the cells of the space have no such text, or the table cannot be read.
    """
    if not space.tabular:
        raise ValueError(f"expected a space of cells of one input beside a table, got {space.name!r}")
    return read_table(path)


def print_lookup(known: Table, genotype: AnyGenotype, history: Sequence[Mapping[str, Any]]) -> None:
    """Print each column for the cell, with its rank, then one line for every cell that the epochs had.

    Raises:  ValueError: the cell is not in the table.
    """
    arch, columns = genotype.to_arch(), [name for name in known.names if name != _NUMBER_OF_THE_ROW]
    rows = [["table", "found", "rank", "best"]]
    for name in columns:
        best = known.value(name, known.best(name))
        rank = f"{known.rank(name, arch):,} of {len(known.architectures):,}"
        rows.append([name, f"{known.value(name, arch):.2f}", rank, f"{best:.2f}"])
    print(*aligned(rows), sep="\n")
    if not history:
        return
    rows = [["epochs", *columns]]
    for first, last, cell in _cells(history):
        epochs = str(first) if first == last else f"{first}-{last}"
        rows.append([epochs, *(f"{known.value(name, cell):.2f}" for name in columns)])
    print(*aligned(rows), sep="\n")


def _cells(history: Sequence[Mapping[str, Any]]) -> list[tuple[int, int, str]]:
    """(first epoch, last epoch, cell) of each run of epochs with one cell."""
    found: list[tuple[int, int, str]] = []
    for line in history:
        arch, epoch = genotype_from_json(line["genotype"]).to_arch(), line["epoch"]
        if found and found[-1][2] == arch:
            found[-1] = (found[-1][0], epoch, arch)
        else:
            found.append((epoch, epoch, arch))
    return found


COMMAND = Command("lookup", Lookup, _work)
