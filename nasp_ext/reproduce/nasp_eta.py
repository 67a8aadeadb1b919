# SPDX-License-Identifier: MIT
"""Impact of the complexity regulariser (Yao et al., AAAI 2020, eq. 8 and Fig. 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import mean

import torch

from nasp_ext.arch.registry import space
from nasp_ext.checks import check_different
from nasp_ext.config import RetrainConfig, SearchRun
from nasp_ext.engine import search
from nasp_ext.engine.build import build_strategy
from nasp_ext.plots import Panel, chart_svg
from nasp_ext.reproduce.base import Experiment, Say, table
from nasp_ext.reproduce.ranks import spearman
from nasp_ext.tasks.images.load import load_data
from nasp_ext.tasks.images.task import ClassificationTask


@dataclass(frozen=True)
class NaspEta(Experiment):
    """NASP, Fig. 2: the derived network gets smaller as the weight η of the regulariser grows."""

    etas: tuple[float, ...] = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
    """Values of η."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """A search for each of them at each η."""
    data: str = "digits"
    """digits, fashion-mnist, cifar10, or a path, as for search."""
    data_dir: str | None = None
    """Where to look for a named data set."""
    limit: int | None = None
    """Use at most this many images of each part."""
    space: str = "darts"
    """Search space."""
    cells: int = 3
    """Cells of supernet and derived network."""
    channels: int = 8
    """Channels of the first cells of both."""
    epochs: int = 10
    """Epochs of a search."""
    batch: int = 64
    """Images per step."""
    lr: float = 0.1
    """Learning rate of the weights."""
    preset: str = "official"
    """NASP as in the authors' code (official) or as printed (paper)."""
    arch_lr: float = 3e-3
    """Learning rate of A."""
    threads: int | None = 1
    """CPU threads; None leaves PyTorch's choice."""
    out: str = "runs/nasp-eta"
    """Folder for eta.svg and a folder per search; a finished search in it is not run again."""

    def __post_init__(self) -> None:
        if len(set(self.etas)) < 2 or len(set(self.etas)) < len(self.etas) or min(self.etas) < 0:
            raise ValueError(f"expected at least two different etas >= 0, got {self.etas}")
        check_different("seeds", self.seeds)
        for eta in self.etas:
            for seed in self.seeds:
                self._config(eta, seed)

    def run(self, say: Say) -> Sequence[Path]:
        task = ClassificationTask(load_data(self.data, self.data_dir, self.limit))
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

    def _config(self, eta: float, seed: int) -> SearchRun:
        own = {field.name for field in fields(self)} & {field.name for field in fields(SearchRun)}
        return SearchRun(eta=eta, seed=seed, **{name: getattr(self, name) for name in own})

    def _size(self, task: ClassificationTask, eta: float, seed: int) -> int:
        """Parameters of the network that a search derives, as it would be retrained at the same sizes."""
        cells, config = space(self.space), self._config(eta, seed)
        folder = Path(self.out) / f"eta-{eta:g}-seed-{seed}"
        strategy = build_strategy(config, cells, task)
        found = search(cells, strategy, task, config, out=folder, resume=True)
        with torch.device("meta"):  # counting parameters needs no memory
            sizes = RetrainConfig(cells=self.cells, channels=self.channels, auxiliary=0.0)
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
