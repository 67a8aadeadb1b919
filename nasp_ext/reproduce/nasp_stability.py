# SPDX-License-Identifier: MIT
"""Changes of A in DARTS and of Ā in NASP over the epochs (Yao et al., AAAI 2020, Fig. 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nasp_ext.checks import check_different
from nasp_ext.engine import search
from nasp_ext.engine.architecture import architecture_maps, steadiness
from nasp_ext.engine.build import build_strategy, build_task, search_space
from nasp_ext.engine.settings import SearchRun, hiding
from nasp_ext.engine.strategy_list import StrategyList
from nasp_ext.plots import heatmaps_svg
from nasp_ext.reproduce.base import Experiment, Say, table
from nasp_ext.tasks import Task

_DENSE = {"nasp": False, "darts": True}


_STRATEGIES = StrategyList(tuple(_DENSE), {"arch_lr": "0.003"})
_RUN = SearchRun(cells=3, channels=8, epochs=20, batch=64, lr=0.1, threads=1)


@dataclass(frozen=True)
class NaspStability(Experiment):
    """NASP, Fig. 4: how the architecture changes from epoch to epoch, in NASP and in DARTS."""

    seeds: tuple[int, ...] = (0,)
    """Searches of each method; the first one is drawn."""
    strategies: StrategyList = field(default=_STRATEGIES, metadata=hiding("strategies"))
    search: SearchRun = field(default=_RUN, metadata=hiding("seed", groups=("strategy",)))
    out: str = "runs/nasp-stability"
    """Folder for the drawings and a folder per search; a finished search in it is not run again."""

    def __post_init__(self) -> None:
        check_different("seeds", self.seeds)
        if self.search.epochs < 2:
            raise ValueError(f"expected at least two epochs to compare, got {self.search.epochs}")
        for seed in self.seeds:
            self._run("nasp", seed)

    def run(self, say: Say) -> Sequence[Path]:
        task = build_task(self.search)
        rows = [["search", "other best option", "other derived row", "movement of what ran"]]
        files = []
        for name, dense in _DENSE.items():
            for seed in self.seeds:
                history = self._history(name, seed, task)
                found = steadiness(history, dense=dense)
                rows.append([f"{name} {seed}", *(f"{v:.4f}" for v in (found.best, found.derived, found.ran))])
                if seed == self.seeds[0]:
                    files.append(Path(self.out) / f"architecture_{name}.svg")
                    drawing = heatmaps_svg(
                        architecture_maps(search_space(self.search), history), f"{name} over its epochs"
                    )
                    files[-1].write_text(drawing, encoding="utf-8")
        say("Means over the rows of A and over the epochs:")
        for line in table(rows):
            say(line)
        return files

    def _run(self, strategy: str, seed: int) -> SearchRun:
        return replace(self.search, seed=seed, strategy=self.strategies.settings(strategy))

    def _history(self, name: str, seed: int, task: Task) -> Sequence[Mapping[str, Any]]:
        run = self._run(name, seed)
        folder, cells = Path(self.out) / f"{name}-seed-{seed}", search_space(run)
        return search(cells, build_strategy(run, cells, task), task, run, out=folder, resume=True).history
