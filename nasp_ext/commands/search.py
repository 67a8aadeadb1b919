# SPDX-License-Identifier: MIT
"""``nasp-ext search``: search cells, with a checkpoint after each epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nasp_ext.commands.command import Command
from nasp_ext.commands.lookup import print_lookup, table_for
from nasp_ext.commands.printing import precise, print_files, print_genotype
from nasp_ext.commands.start import chosen_strategy, filled, stored_settings, suggested, told_task
from nasp_ext.engine import search
from nasp_ext.engine.build import build_strategy, build_task, search_space
from nasp_ext.engine.folder import check_output
from nasp_ext.engine.measures import headline
from nasp_ext.engine.settings import SearchRun


@dataclass(frozen=True)
class Search:
    """Search cells on a data set; without options, on the embedded handwritten digits."""

    run: SearchRun = field(default_factory=SearchRun)
    out: str = "runs/search"
    """Output folder."""
    resume: bool = False
    """Go on from the checkpoint in the output folder, with its options."""
    overwrite: bool = False
    """Replace another run in the output folder."""
    config_file: str | None = None
    """Take the options of this config.json; options on the command line come on top."""
    table: str | None = None
    """CSV file of trained cells: print what it says of the cell found and of those on the way."""


def _start(argv: Sequence[str]) -> Search:
    """A file, the run to resume, or what suits the data."""
    run = stored_settings(SearchRun, argv, Search.out)
    if run is not None:
        task, strategy = told_task(argv, run.task), chosen_strategy(argv, run.strategy)
        return Search(dataclasses.replace(run, task=task, strategy=strategy))
    task, strategy = told_task(argv, SearchRun().task), chosen_strategy(argv, SearchRun().strategy)
    usual = SearchRun(task=filled(task, SearchRun.kind), strategy=strategy)
    return Search(SearchRun.from_flat(usual.flat() | suggested(task, usual)))


def _work(command: Search) -> None:
    run = command.run
    check_output(Path(command.out), resume=command.resume, overwrite=command.overwrite)
    found = search_space(run)  # an unknown name is told before the data are read
    known = None if command.table is None else table_for(found, command.table)
    task = build_task(run)
    result = search(
        found,
        build_strategy(run, found, task),
        task,
        run,
        out=command.out,
        resume=command.resume,
        overwrite=command.overwrite,
        progress=True,
    )
    print_genotype(result.genotype)
    last = result.history[-1]
    for metric in headline(task.metrics):
        mixed, value = last[f"mixture_{metric.name}"], precise(metric, last[f"val_{metric.name}"])
        mixture = "" if mixed is None else f" (mixture {precise(metric, mixed)})"
        print(f"validation {metric.name} of the supernet: {value}{mixture}")
    if known is not None:
        print_lookup(known, result.genotype, result.history)
    print_files(result.files)
    print(f"next: nasp-ext retrain --genotype {command.out}")


COMMAND = Command("search", Search, _work, _start, "same command with --resume")
