# SPDX-License-Identifier: MIT
"""``nasp-ext reproduce NAME``: an experiment of the papers on a case that fits on a desk."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from nasp_ext.commands.command import Command, Group
from nasp_ext.commands.printing import print_files
from nasp_ext.engine.lock import locked_folder
from nasp_ext.reproduce import EXPERIMENTS, Experiment


def _work(experiment: Experiment) -> None:
    out = getattr(experiment, "out", None)  # an experiment that only prints has none
    with nullcontext() if out is None else locked_folder(Path(out)):
        print_files(list(experiment.run(partial(print, flush=True))))


def _parts() -> Mapping[str, Command]:
    return {name: Command(f"reproduce {name}", kind, _work) for name, kind in EXPERIMENTS.items()}


COMMAND = Group(
    "reproduce",
    "Repeat an experiment of the papers: a table, and a drawing.",
    "experiment",
    _parts,
    "the same command goes on",
)
