# SPDX-License-Identifier: MIT
"""``nasp-ext reproduce NAME``: an experiment of the papers on a case that fits on a desk."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from nasp_ext.commands.parsing import parse
from nasp_ext.engine.lock import locked_folder
from nasp_ext.reproduce import EXPERIMENTS


def reproduce(argv: Sequence[str]) -> None:
    """Repeat an experiment of the papers: a table, and a drawing."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return
    name = argv[0]
    if name not in EXPERIMENTS:
        raise ValueError(f"expected an experiment, one of {', '.join(EXPERIMENTS)}, got {name!r}")
    experiment = parse(EXPERIMENTS[name], f"reproduce {name}", argv[1:])
    out = getattr(experiment, "out", None)  # an experiment that only prints has none
    with nullcontext() if out is None else locked_folder(Path(out)):
        for file in experiment.run(partial(print, flush=True)):
            print(f"wrote {file}")


def _usage() -> str:
    lines = ["usage: nasp-ext reproduce NAME [options]", "", "experiments:"]
    width = max(map(len, EXPERIMENTS))
    for name, kind in EXPERIMENTS.items():
        lines.append(f"  {name:<{width}} {(kind.__doc__ or '').splitlines()[0]}")
    return "\n".join([*lines, "", "nasp-ext reproduce NAME --help lists the options of one experiment"])
