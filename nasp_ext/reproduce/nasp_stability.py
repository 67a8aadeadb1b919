# SPDX-License-Identifier: MIT
"""Changes of A in DARTS and of Ā in NASP over the epochs (Yao et al., AAAI 2020, Fig. 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nasp_ext.arch.registry import space
from nasp_ext.checks import check_different
from nasp_ext.config import SearchRun
from nasp_ext.engine import search
from nasp_ext.engine.architecture import architecture_maps, steadiness
from nasp_ext.engine.build import build_strategy
from nasp_ext.plots import heatmaps_svg
from nasp_ext.reproduce.base import Experiment, Say, table
from nasp_ext.tasks.images.load import load_data
from nasp_ext.tasks.images.task import ClassificationTask

_DENSE = {"nasp": False, "darts": True}


@dataclass(frozen=True)
class NaspStability(Experiment):
    """NASP, Fig. 4: how the architecture changes from epoch to epoch, in NASP and in DARTS."""

    seeds: tuple[int, ...] = (0,)
    """Searches of each method; the first one is drawn."""
    data: str = "digits"
    """digits, fashion-mnist, cifar10, or a path, as for search."""
    data_dir: str | None = None
    """Where to look for a named data set."""
    limit: int | None = None
    """Use at most this many images of each part."""
    space: str = "darts"
    """Search space."""
    cells: int = 3
    """Cells of the supernet."""
    channels: int = 8
    """Channels of its first cells."""
    epochs: int = 20
    """Epochs of a search."""
    batch: int = 64
    """Images per step."""
    lr: float = 0.1
    """Learning rate of the weights."""
    arch_lr: float = 3e-3
    """Learning rate of A, of both."""
    threads: int | None = 1
    """CPU threads; None leaves PyTorch's choice."""
    out: str = "runs/nasp-stability"
    """Folder for the drawings and a folder per search; a finished search in it is not run again."""

    def __post_init__(self) -> None:
        check_different("seeds", self.seeds)
        if self.epochs < 2:
            raise ValueError(f"expected at least two epochs to compare, got {self.epochs}")
        for seed in self.seeds:
            self._config("nasp", seed)

    def run(self, say: Say) -> Sequence[Path]:
        task = ClassificationTask(load_data(self.data, self.data_dir, self.limit))
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
                        architecture_maps(space(self.space), history), f"{name} over its epochs"
                    )
                    files[-1].write_text(drawing, encoding="utf-8")
        say("Means over the rows of A and over the epochs:")
        for line in table(rows):
            say(line)
        return files

    def _config(self, strategy: str, seed: int) -> SearchRun:
        own = {field.name for field in fields(self)} & {field.name for field in fields(SearchRun)}
        return SearchRun(strategy=strategy, seed=seed, **{name: getattr(self, name) for name in own})

    def _history(self, name: str, seed: int, task: ClassificationTask) -> Sequence[Mapping[str, Any]]:
        config, cells = self._config(name, seed), space(self.space)
        folder = Path(self.out) / f"{name}-seed-{seed}"
        return search(
            cells, build_strategy(config, cells, task), task, config, out=folder, resume=True
        ).history
