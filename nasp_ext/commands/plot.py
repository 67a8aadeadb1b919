# SPDX-License-Identifier: MIT
"""``nasp-ext plot``: the drawings of a genotype, and of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nasp_ext.config import SearchRun
from nasp_ext.engine import existing_folder, read_genotype
from nasp_ext.engine.architecture import architecture_maps
from nasp_ext.engine.attention import attention_svg
from nasp_ext.engine.build import search_space
from nasp_ext.engine.folder import CONFIG, HISTORY, read_history
from nasp_ext.engine.lock import locked_folder
from nasp_ext.families.genotypes import write_drawings
from nasp_ext.plots import heatmaps_svg, history_svg


@dataclass(frozen=True)
class Plot:
    """Draw the cells of a genotype, and of a run its history and architecture, as SVG files."""

    genotype: str = "runs/search"
    """A file (JSON, Python code, a log; FILE:NAME and FILE:LINE choose one of several), the folder of a run,
    a published name, or the text of a genotype: Genotype(normal=[…], …) or |op~0|+|op~0|op~1|…"""
    out: str = "."
    """Folder for cell_normal.svg, cell_reduce.svg, history.svg and architecture.svg."""


def plot(command: Plot) -> None:
    """Draw, and print the files."""
    genotype = read_genotype(command.genotype)
    folder = Path(command.out)
    run = existing_folder(command.genotype)
    drawings = {} if run is None else _run_drawings(run)
    with locked_folder(folder):
        files = list(write_drawings(genotype, folder))
        for name, drawing in drawings.items():
            files.append(folder / name)
            files[-1].write_text(drawing, encoding="utf-8")
    for file in files:
        print(f"wrote {file}")


def _run_drawings(run: Path) -> dict[str, str]:
    """What can be drawn of a run: its curves, and of a search its architecture over the epochs."""
    if not (run / HISTORY).is_file():
        return {}
    history = read_history(run / HISTORY)
    drawings = {"history.svg": history_svg(history)}
    configuration = run / CONFIG
    if history and "scores" in history[0] and '"space"' in configuration.read_text(encoding="utf-8"):
        searched = search_space(SearchRun.from_file(configuration))
        drawings["architecture.svg"] = heatmaps_svg(
            architecture_maps(searched, history), "Scores and derived options over the epochs"
        )
        if searched.attention:
            last = history[-1]
            drawings["attention.svg"] = attention_svg(searched, last["scores"], last["active"])
    return drawings
