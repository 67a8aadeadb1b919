# SPDX-License-Identifier: MIT
"""``nasp-ext retrain``: train what a search found, from scratch."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasp_ext.commands.command import Command
from nasp_ext.commands.parsing import value_of
from nasp_ext.commands.printing import print_files, print_genotype, print_test
from nasp_ext.commands.start import filled, searched_task, stored_settings, suggested, told_task
from nasp_ext.engine import read_genotype, retrain
from nasp_ext.engine.build import build_genotype, build_task
from nasp_ext.engine.folder import check_output
from nasp_ext.engine.settings import USUAL_GENOTYPE, RetrainRun, TaskSettings


@dataclass(frozen=True)
class Retrain:
    """Train the network of a genotype from scratch and test it."""

    run: RetrainRun = field(default_factory=RetrainRun)
    out: str = "runs/retrain"
    """Output folder."""
    resume: bool = False
    """Go on from the checkpoint in the output folder, with its options."""
    overwrite: bool = False
    """Replace another run in the output folder."""
    config_file: str | None = None
    """Take the options of this config.json; options on the command line come on top."""


def _start(argv: Sequence[str]) -> Retrain:
    """A file, the run to resume, or what suits the data and the genotype."""
    run = stored_settings(RetrainRun, argv, Retrain.out)
    if run is not None:
        task = told_task(argv, run.task)
        genotype = run.genotype if task.genotype(run.seed) is None else None
        return Retrain(dataclasses.replace(run, task=task, genotype=genotype))
    source = value_of(argv, "--genotype") or USUAL_GENOTYPE
    task = told_task(argv, TaskSettings())
    if task.genotype(RetrainRun.seed) is None:  # then it matters what was searched on
        task = told_task(argv, searched_task(source) or TaskSettings())
    task = filled(task, RetrainRun.kind)
    return Retrain(RetrainRun(**{**suggested(task, RetrainRun), **_layers(source, task)}, task=task))


def _layers(source: str, task: TaskSettings) -> dict[str, Any]:
    """The number of cells of a genotype that says it; one that cannot be read is told when it is needed."""
    if "cells" in task.without or task.genotype(RetrainRun.seed) is not None:
        return {}
    with contextlib.suppress(ValueError):
        depth = read_genotype(source).depth
        if depth is not None:
            return {"cells": depth}
    return {}


def _work(command: Retrain) -> None:
    run = command.run
    check_output(Path(command.out), resume=command.resume, overwrite=command.overwrite)
    genotype = build_genotype(run)
    task = build_task(run)
    result = retrain(
        genotype,
        task,
        run,
        out=command.out,
        resume=command.resume,
        overwrite=command.overwrite,
        progress=True,
    )
    print_genotype(genotype)
    print_files(result.files)
    print(f"parameters: {result.parameters:,}")
    if "best_epoch" in result.history[-1]:
        print(f"best epoch: {result.best_epoch}, of the least validation loss")
    print_test(task.metrics, result.test)


COMMAND = Command("retrain", Retrain, _work, _start, "same command with --resume")
