# SPDX-License-Identifier: MIT
"""Impact of the complexity regulariser (Yao et al., AAAI 2020, eq. 8 and Fig. 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean

import torch

from nasp_ext.checks import check_different
from nasp_ext.config import RetrainConfig
from nasp_ext.engine import search
from nasp_ext.engine.build import build_strategy, build_task, search_space
from nasp_ext.engine.settings import SearchRun, StrategySettings, hiding
from nasp_ext.plots import Panel, chart_svg
from nasp_ext.reproduce.base import Experiment, Say, table
from nasp_ext.reproduce.ranks import spearman
from nasp_ext.tasks import Task

_NASP = StrategySettings("nasp", {"lr": 3e-3})
_RUN = SearchRun(cells=3, channels=8, epochs=10, batch=64, lr=0.1, threads=1, strategy=_NASP)


@dataclass(frozen=True)
class NaspEta(Experiment):
    """NASP, Fig. 2: the derived network gets smaller as the weight η of the regulariser grows."""

    etas: tuple[float, ...] = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
    """Values of η."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """A search for each of them at each η."""
    search: SearchRun = field(default=_RUN, metadata=hiding("seed", "strategy", "strategy_options", "eta"))
    out: str = "runs/nasp-eta"
    """Folder for eta.svg and a folder per search; a finished search in it is not run again."""

    def __post_init__(self) -> None:
        if len(set(self.etas)) < 2 or len(set(self.etas)) < len(self.etas) or min(self.etas) < 0:
            raise ValueError(f"expected at least two different etas >= 0, got {self.etas}")
        check_different("seeds", self.seeds)
        for eta in self.etas:
            for seed in self.seeds:
                self._run(eta, seed)

    def run(self, say: Say) -> Sequence[Path]:
        task = build_task(self.search)
        sizes: dict[float, list[int]] = {}
        for eta in sorted(self.etas):
            sizes[eta] = [self._size(task, eta, seed) for seed in self.seeds]
            say(f"eta {eta:g}: {', '.join(f'{size:,}' for size in sizes[eta])} parameters")
        rows = [["eta", *(f"seed {seed}" for seed in self.seeds), "mean"]]
        for eta, found in sizes.items():
            rows.append([f"{eta:g}", *(f"{size:,}" for size in found), f"{mean(found):,.0f}"])
        for line in table(rows):
            say(line)
        rho = rank_correlation(sizes)
        say(f"Spearman's rank correlation of eta and parameters: {rho:.3f}")
        file = Path(self.out) / "eta.svg"
        file.write_text(_drawing(sizes, rho), encoding="utf-8")
        return [file]

    def _run(self, eta: float, seed: int) -> SearchRun:
        strategy = replace(self.search.strategy, options={**self.search.strategy.options, "eta": eta})
        return replace(self.search, seed=seed, strategy=strategy)

    def _size(self, task: Task, eta: float, seed: int) -> int:
        """Parameters of the network that a search derives, as it would be retrained at the same sizes."""
        run = self._run(eta, seed)
        folder, cells = Path(self.out) / f"eta-{eta:g}-seed-{seed}", search_space(run)
        found = search(cells, build_strategy(run, cells, task), task, run, out=folder, resume=True)
        with torch.device("meta"):  # counting parameters needs no memory
            sizes = RetrainConfig(cells=run.cells, channels=run.channels, auxiliary=0.0)
            return sum(p.numel() for p in task.derived(found.genotype, sizes).parameters())


def rank_correlation(sizes: Mapping[float, Sequence[int]]) -> float:
    """Spearman's, over all searches, of η and size."""
    pairs = [(eta, size) for eta, found in sizes.items() for size in found]
    return spearman([eta for eta, _ in pairs], [size for _, size in pairs])


def _drawing(sizes: Mapping[float, Sequence[int]], rho: float) -> str:
    """Mean and single searches over the values of η, which stand at equal distances."""
    found = [[size / 1e3 for size in searched] for searched in sizes.values()]
    means = [(float(at), mean(values)) for at, values in enumerate(found)]
    single = [(float(at), value) for at, values in enumerate(found) for value in values]
    panel = Panel(
        f"Thousand parameters (rank correlation {rho:.2f})",
        {"mean": [means], "one search": [single]},
        x_label="weight η of the regulariser",
        x_ticks={float(at): f"{eta:g}" for at, eta in enumerate(sizes)},
        dots=("one search",),
    )
    return chart_svg([panel], "Size of the derived network")
