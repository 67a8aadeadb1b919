# SPDX-License-Identifier: MIT
"""What one replaced edge does to a trained supernet (Hao & Zhu 2021, sec. 5.3.1 and Fig. 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean

from torch import nn

from nasp_ext.arch.gates import MIXED, Gates
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.checks import check_different
from nasp_ext.engine import evaluate, search
from nasp_ext.engine.build import build_strategy, build_task, search_space
from nasp_ext.engine.measures import headline
from nasp_ext.engine.settings import SearchRun, hiding
from nasp_ext.engine.strategy_list import StrategyList
from nasp_ext.engine.training import fixed_randomness
from nasp_ext.plots import Panel, chart_svg
from nasp_ext.reproduce.base import Experiment, Say, table
from nasp_ext.tasks import Task
from nasp_ext.tasks.base import DataPart

_MIXING = ("asm", "darts", "darts-2nd")


_STRATEGIES = StrategyList(("asm", "darts"), {"edges_per_node": "all"})
_RUN = SearchRun(cells=3, channels=8, epochs=10, batch=64, lr=0.1, threads=1)


@dataclass(frozen=True)
class AsmStability(Experiment):
    """ASM-NAS, Fig. 3: accuracy of the supernet once a single mixed edge is its selected option alone."""

    strategies: StrategyList = field(default=_STRATEGIES, metadata=hiding("edges_per_node"))
    seeds: tuple[int, ...] = (0,)
    """Searches of each; the first one is listed and drawn edge by edge."""
    search: SearchRun = field(default=_RUN, metadata=hiding("seed", groups=("strategy",)))
    out: str = "runs/asm-stability"
    """Folder for stability.svg and a folder per search; a finished search in it is not run again."""

    def __post_init__(self) -> None:
        check_different("seeds", self.seeds)
        if not set(self.strategies.names) <= set(_MIXING):
            raise ValueError(
                f"expected different strategies of {', '.join(_MIXING)}, got {self.strategies.names}"
            )
        for strategy in self.strategies.names:
            search_space(self._run(strategy, self.seeds[0])).in_layers(self.search.cells)

    def run(self, say: Say) -> Sequence[Path]:
        task = build_task(self.search)
        summary = [["search", "supernet", "mean change", "largest loss", "largest gain"]]
        shown: dict[str, Stability] = {}
        for name in self.strategies.names:
            for seed in self.seeds:
                found = self._measure(name, seed, task)
                changes = found.changes()
                figures = (mean(map(abs, changes)), -min(0.0, *changes), max(0.0, *changes))
                summary.append(
                    [f"{name} {seed}", f"{found.original:.2%}", *(f"{100 * v:.2f}" for v in figures)]
                )
                shown.setdefault(name, found)
        for line in [*table(_edges(shown)), "", *table(summary)]:
            say(line)
        say("Test images; changes in points, of the mean the magnitude.")
        file = Path(self.out) / "stability.svg"
        file.write_text(_drawing(shown, self.search.cells), encoding="utf-8")
        return [file]

    def _run(self, strategy: str, seed: int) -> SearchRun:
        return replace(self.search, seed=seed, strategy=self.strategies.settings(strategy))

    def _measure(self, name: str, seed: int, task: Task) -> Stability:
        config = self._run(name, seed)
        found = search_space(config)
        strategy = build_strategy(config, found, task)
        result = search(found, strategy, task, config, out=Path(self.out) / f"{name}-{seed}", resume=True)
        mixture, best = strategy.propose(), result.gates
        device = config.torch_device()
        with fixed_randomness(config, device):
            network = result.network
            cells = found.in_layers(self.search.cells)
            if cells is not found:
                network = task.supernet(cells, config).to(device)
                mixture, best = in_layers(result.network, network, cells, (mixture, best))
            assert best.active is not None  # best() is discrete
            batches = task.test_batches(config, device)
            names = tuple(cells.choices(row)[option] for row, option in enumerate(best.active))
            gates = (mixture, *(replaced_edge(mixture, best, row) for row in range(cells.rows)))
            original, *replaced = (_accuracy(network, one, task, batches) for one in gates)
        return Stability(cells, names, original, tuple(replaced))


@dataclass(frozen=True)
class Stability:
    """Accuracies of a supernet: as it is, and with the edge of each row (R,) replaced by its option."""

    space: SearchSpace
    options: tuple[str, ...]
    original: float
    replaced: tuple[float, ...]

    def changes(self) -> list[float]:
        """Of the accuracy, by row."""
        return [accuracy - self.original for accuracy in self.replaced]


def _accuracy(network: nn.Module, gates: Gates, task: Task, batches: DataPart) -> float:
    return evaluate(network, task, batches, gates)[headline(task.metrics)[0].name]


def replaced_edge(mixture: Gates, best: Gates, row: int) -> Gates:
    """The mixture, but for one row, which is the option that ``best`` has there.

    >>> import torch
    >>> best = Gates(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), (1, 0), unit=True)
    >>> replaced_edge(Gates(torch.full((2, 2), 0.5)), best, 0).active
    (1, -3)
    """
    assert best.active is not None
    weight = mixture.weight.clone()
    weight[row] = best.weight[row]
    active = [MIXED] * len(weight)
    active[row] = best.active[row]
    return Gates(weight, tuple(active), unit=best.unit)


def in_layers(
    network: nn.Module, layered: nn.Module, cells: SearchSpace, gates: tuple[Gates, Gates]
) -> tuple[Gates, Gates]:
    """Give a network whose layers share cells the form in which each has rows of its own.

    Args:
        layered: supernet of ``cells``, which takes the state of ``network``.
        gates: dense and discrete ones of ``network``.
    Returns: the same for ``layered``.
    """
    layered.load_state_dict(network.state_dict())
    rows = [cells.cell_row(row) for row in range(cells.rows)]
    mixture, best = gates
    assert best.active is not None  # discrete
    active = tuple(best.active[row] for row in rows)
    return Gates(mixture.weight[rows]), Gates(best.weight[rows], active, unit=best.unit)


def _edges(shown: Mapping[str, Stability]) -> list[list[str]]:
    """A line per edge: what each method puts there, and what that changes."""
    lines = [["cell edge", *(word for name in shown for word in (name, "change"))]]
    cells = next(iter(shown.values())).space
    for rows in cells.cell_rows:
        for row in rows:
            words = [cells.title(row)]
            for found in shown.values():
                words += [found.options[row], f"{100 * found.changes()[row]:+.2f}"]
            lines.append(words)
    return lines


def _drawing(shown: Mapping[str, Stability], cells: int) -> str:
    """As in the paper: accuracy over the index of the edge, a panel per method and cell."""
    panels = []
    for name, found in shown.items():
        for layer, rows in enumerate(found.space.cell_rows, 1):
            percent = [(float(i), 100 * found.replaced[row]) for i, row in enumerate(rows)]
            original = [(0.0, 100 * found.original), (float(len(rows) - 1), 100 * found.original)]
            series = {"one edge replaced": [percent], "supernet": [original]}
            panels.append(Panel(f"{name}, cell {layer:02d}: test accuracy (%)", series, x_label="edge"))
    return chart_svg(panels, "One edge replaced at a time", columns=min(cells, 3))
