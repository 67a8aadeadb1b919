# SPDX-License-Identifier: MIT
"""ASNG against random search where the truth is known: a table of all cells of NAS-Bench-201."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nasp_ext.checks import MOST_SEED, check_whole
from nasp_ext.families.cells.table import Table, read_table
from nasp_ext.optim import ASNG
from nasp_ext.reproduce.base import Experiment, Say, check_steps, table


@dataclass(frozen=True)
class AsngNasbench201(Experiment):
    """ASNG and random search on a table of all NAS-Bench-201 cells, against the best cell there is."""

    table: str = "nasbench201.csv.gz"
    """CSV file, also gzipped, with a column arch and columns of accuracies."""
    search_on: str = "cifar10_val_12ep"
    """Column whose value a query gives; larger is better."""
    score: str = "cifar10_test_200ep"
    """Column in which what was found is scored."""
    deltas: tuple[float, ...] = (3.0, 1.0, 0.3, 0.1, 0.03)
    """Initial steps δ⁰."""
    queries: int = 1000
    """Architectures that a search may look up, with repetition."""
    runs: int = 20
    """Independent searches at each δ⁰."""
    lam: int = 2
    """Samples per step."""
    alpha: float = 1.5
    """Of ASNG."""
    seed: int = 0
    """Of all draws."""

    def __post_init__(self) -> None:
        check_steps("deltas", self.deltas)
        if self.runs < 2 or self.lam < 2 or self.queries < self.lam:
            found = f"runs={self.runs}, lam={self.lam}, queries={self.queries}"
            raise ValueError(f"expected runs >= 2, lam >= 2 and queries >= lam, got {found}")
        for name, most in (("runs", 100_000), ("lam", 10_000), ("queries", 10**9)):
            check_whole(name, getattr(self, name), 2, most)
        check_whole("seed", self.seed, 0, MOST_SEED)
        if not 1 < self.alpha < math.inf:
            raise ValueError(f"expected alpha > 1, finite, got {self.alpha}")

    def run(self, say: Say) -> Sequence[Path]:
        cells = read_table(self.table)
        scores = cells.column(self.score)
        found = self.search(cells)
        rows = [["search", "most likely", "best seen"]]
        for delta, (likely, seen) in zip(self.deltas, zip(*found, strict=True), strict=True):
            rows.append([f"asng, delta0 {delta:g}", _summary(scores[likely]), _summary(scores[seen])])
        rows.append(["random", "", _summary(scores[self.random_search(cells)])])
        say(f"{self.score} after {self.queries} queries of {self.search_on}, {self.runs} runs")
        for line in table(rows):
            say(line)
        first = scores[cells.row(cells.best(self.search_on))]
        say(f"best cell: {scores.max():.2f}; best by {self.search_on}: {first:.2f}")
        return []

    def search(self, cells: Table) -> tuple[Tensor, Tensor]:
        """The most likely cell at the end and the best one seen, as rows of the table, (deltas, runs)."""
        values = cells.column(self.search_on)
        steps = torch.tensor(self.deltas, dtype=torch.float64).repeat_interleave(self.runs)
        search = ASNG(
            [len(cells.operations)] * cells.edges,
            None,
            self.lam,
            self.alpha,
            steps,
            torch.Generator().manual_seed(self.seed),
            runs=len(steps),
        )
        seen: list[Tensor] = []
        for _ in range(self.queries // self.lam):
            samples = search.ask()
            seen.append(cells.rows(samples))
            search.tell(samples, -values[seen[-1]])
        queried = torch.cat(seen, -1)
        best = queried.gather(-1, values[queried].argmax(-1, keepdim=True))[:, 0]
        shape = (len(self.deltas), self.runs)
        return cells.rows(search.mle()).reshape(shape), best.reshape(shape)

    def random_search(self, cells: Table) -> Tensor:
        """The best of uniform draws, as rows of the table, (runs,)."""
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randint(len(cells.architectures), (self.runs, self.queries), generator=generator)
        return drawn.gather(-1, cells.column(self.search_on)[drawn].argmax(-1, keepdim=True))[:, 0]


def _summary(scores: Tensor) -> str:
    return f"{scores.mean():.2f} ± {scores.std():.2f}"
