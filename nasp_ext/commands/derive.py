# SPDX-License-Identifier: MIT
"""``nasp-ext derive``: the genotype of a search, with the weights of the search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nasp_ext.commands.command import Command
from nasp_ext.commands.printing import print_files, print_genotype, print_test
from nasp_ext.engine import derive_run
from nasp_ext.engine.build import build_strategy, build_task, search_space
from nasp_ext.engine.folder import check_output
from nasp_ext.engine.run import Run
from nasp_ext.engine.settings import SearchRun


@dataclass(frozen=True)
class Derive:
    """Read the genotype out of a search, finished or not, and test the network with the search's weights."""

    run: str = "runs/search"
    """Folder of the search."""
    out: str | None = None
    """Folder for genotype.json, derived.pt (weights) and the cell drawings; None only prints."""


def _work(command: Derive) -> None:
    run = Run.open(command.run).settings_as(SearchRun)
    out = None if command.out is None else Path(command.out)
    if out is not None:
        check_output(out, resume=False, overwrite=False)
    found, task = search_space(run), build_task(run)
    result = derive_run(found, build_strategy(run, found, task), task, run, command.run, out)
    print_genotype(result.genotype)
    print_files(result.files)
    part = getattr(found, "partial_channels", 1)
    past = f" (of 1/{part} of the channels, as in the search; a retraining has all)" if part > 1 else ""
    print(f"parameters: {result.parameters:,}{past}")
    print_test(task.metrics, result.test, " with the weights of the search")


COMMAND = Command("derive", Derive, _work)
