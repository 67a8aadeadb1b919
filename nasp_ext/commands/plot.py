# SPDX-License-Identifier: MIT
"""``nasp-ext plot``: the drawings of a genotype, and of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nasp_ext.commands.command import Command
from nasp_ext.engine import read_genotype
from nasp_ext.engine.architecture import architecture_maps
from nasp_ext.engine.attention import attention_svg
from nasp_ext.engine.build import search_space
from nasp_ext.engine.lock import locked_folder
from nasp_ext.engine.run import Run
from nasp_ext.engine.settings import SearchRun
from nasp_ext.families.genotypes import write_drawings
from nasp_ext.plots import heatmaps_svg, history_svg


@dataclass(frozen=True)
class Plot:
    """Draw the cells of a genotype, and of a run its history and architecture, as SVG files."""

    genotype: str = "runs/search"
    """A file (JSON, Python code, a log; FILE:NAME and FILE:LINE choose one of several), the folder of a run,
    a published name, or the text of a genotype: Genotype(normal=[…], …) or |op~0|+|op~0|op~1|…"""
    out: str = "."
    """Folder for a drawing of each cell, such as cell_normal.svg, history.svg and architecture.svg."""


def _work(command: Plot) -> None:
    """Draw, and print the files."""
    genotype = read_genotype(command.genotype)
    folder = Path(command.out)
    drawings = _run_drawings(Run.open(command.genotype)) if Run.is_in(command.genotype) else {}
    with locked_folder(folder):
        files = list(write_drawings(genotype, folder))
        for name, drawing in drawings.items():
            files.append(folder / name)
            files[-1].write_text(drawing, encoding="utf-8")
    if not files:
        raise ValueError(f"expected the genotype of cells to draw, got one of kind {genotype.kind!r}")
    for file in files:
        print(f"wrote {file}")


def _run_drawings(run: Run) -> dict[str, str]:
    """What can be drawn of a run: its curves, and of a search its architecture over the epochs."""
    history = run.history
    drawings = {"history.svg": history_svg(history)}
    if history and isinstance(run.settings, SearchRun):
        searched = search_space(run.settings)
        drawings["architecture.svg"] = heatmaps_svg(
            architecture_maps(searched, history), "Scores and derived options over the epochs"
        )
        if searched.attention:
            last = history[-1]
            drawings["attention.svg"] = attention_svg(searched, last["scores"], last["active"])
    return drawings


COMMAND = Command("plot", Plot, _work)
