# SPDX-License-Identifier: MIT
"""Robustness of ASNG against its initial step (Akimoto et al., ICML 2019, sec. 3.1, Fig. 1 and 3)."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from nasp_ext.checks import MOST_SEED, MOST_THREADS, check_whole
from nasp_ext.optim import ASNG, SNG, AdamSNG
from nasp_ext.optim.natural import NaturalGradient
from nasp_ext.plots import Panel, chart_svg
from nasp_ext.reproduce.base import Experiment, Say, check_steps, table
from nasp_ext.reproduce.selective_error import SelectiveError, iterations_to_target

_METHODS: dict[str, type[NaturalGradient]] = {"asng": ASNG, "sng": SNG, "adam": AdamSNG}
_ALPHA = 1.5  # of Alg. 1
_MOST = {"runs": 100_000, "iterations": 10**9, "variables": 10_000, "options": 10_000}
_Iterations = list[list[list[float | None]]]  # of each ε, initial step and run; None = no success


@dataclass(frozen=True)
class AsngToy(Experiment):
    """ASNG, Fig. 1: ASNG succeeds at every initial step, SNG and Adam only near tuned ones."""

    methods: tuple[str, ...] = tuple(_METHODS)
    """asng, sng (constant step), adam (on the normalised natural gradient)."""
    alphas: tuple[float, ...] = (_ALPHA,)
    """Alpha of ASNG, 1.5 in Alg. 1; several are compared as in Fig. 3, of which the paper gives no values."""
    epsilons: tuple[float, ...] = (0.05, 0.0005)
    """Initial steps of the weights x, which fall to 0 as a cosine."""
    deltas: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    """Initial steps of the distribution."""
    runs: int = 100
    """Runs of each method at each pair of steps; all advance together."""
    iterations: int = 100_000
    """A run that has not sampled a success until then has failed."""
    variables: int = 30
    """D, categorical variables."""
    options: int = 5
    """K, options of each."""
    seed: int = 0
    """Of all draws."""
    threads: int | None = 1
    """CPU threads; None leaves PyTorch's choice."""
    out: str = "runs/asng-toy"
    """Folder for toy.svg and a file per method; a method that is in it already is not run again."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in _METHODS]
        if unknown or not self.methods:
            raise ValueError(
                f"expected methods among {', '.join(_METHODS)}, got {', '.join(unknown) or 'none'}"
            )
        for name in ("epsilons", "deltas", "alphas"):
            steps = getattr(self, name)
            check_steps(name, steps)
        if min(self.alphas) <= 1:
            raise ValueError(f"expected alphas > 1, got {self.alphas}")
        if self.alphas != (_ALPHA,) and "asng" not in self.methods:
            raise ValueError(f"expected asng among the methods that alphas are of, got {self.methods}")
        for name, least in (("runs", 1), ("iterations", 1), ("variables", 1), ("options", 2)):
            check_whole(name, getattr(self, name), least, _MOST[name])
        check_whole("seed", self.seed, 0, MOST_SEED // 2)
        if self.threads is not None:
            check_whole("threads", self.threads, 1, MOST_THREADS)

    def run(self, say: Say) -> Sequence[Path]:
        folder = Path(self.out)
        threads = torch.get_num_threads()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            found = {name: self._stored(name, folder / f"{name}.json", say) for name in self._series()}
        finally:
            torch.set_num_threads(threads)
        say("iterations to a success / success rate, median (success rate)")
        for line in table(self._rows(found)):
            say(line)
        file = folder / "toy.svg"
        file.write_text(self._drawing(found), encoding="utf-8")
        return [*(folder / f"{name}.json" for name in found), file]

    def _series(self) -> dict[str, tuple[str, float]]:
        """What is compared, by name: each method with its α; the names tell α where it is not Alg. 1's."""
        return {
            method if alpha == _ALPHA else f"{method}-alpha-{alpha}": (method, alpha)
            for method in self.methods
            for alpha in (self.alphas if method == "asng" else (_ALPHA,))
        }

    def iterations_of(self, method: str, say: Say, alpha: float = _ALPHA) -> _Iterations:
        """Iterations to the first success of every run of a method; ``alpha`` is ASNG's."""
        deltas = torch.tensor(self.deltas).repeat_interleave(self.runs).repeat(len(self.epsilons))
        epsilons = torch.tensor(self.epsilons).repeat_interleave(self.runs * len(self.deltas))
        draws, data = (torch.Generator().manual_seed(2 * self.seed + i) for i in range(2))
        own: dict[str, Any] = {"alpha": alpha} if method == "asng" else {}
        search = _METHODS[method](
            [self.options] * self.variables,
            delta0=deltas,
            generator=draws,
            runs=len(deltas),
            dtype=torch.float32,
            **own,
        )
        problem = SelectiveError(len(deltas), self.variables, self.options, data)
        found = iterations_to_target(
            problem, search, epsilons, self.iterations, lambda text: say(f"{method}: {text}")
        )
        shape = (len(self.epsilons), len(self.deltas), self.runs)
        values: list[list[list[float]]] = found.reshape(shape).tolist()
        return [[[t if math.isfinite(t) else None for t in runs] for runs in rows] for rows in values]

    def _stored(self, series: str, file: Path, say: Say) -> _Iterations:
        method, alpha = self._series()[series]
        settings = dataclasses.asdict(self)
        for name in ("methods", "alphas", "threads", "out"):  # of the call, not of what is found
            del settings[name]
        if alpha != _ALPHA:
            settings["alpha"] = alpha
        settings = json.loads(json.dumps(settings))
        if file.exists():
            stored = json.loads(file.read_text(encoding="utf-8"))
            if stored["settings"] != settings:
                raise ValueError(f"{file}: expected results of these settings, found {stored['settings']}")
        else:
            stored = {"settings": settings, "iterations": self.iterations_of(method, say, alpha)}
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(stored), encoding="utf-8")
        iterations: _Iterations = stored["iterations"]
        return iterations

    def _rows(self, found: Mapping[str, _Iterations]) -> list[list[str]]:
        rows = [["epsilon", "delta0", *found]]
        for i, epsilon in enumerate(self.epsilons):
            for j, delta in enumerate(self.deltas):
                rows.append(
                    [f"{epsilon:g}", f"{delta:g}", *(_cell(values[i][j]) for values in found.values())]
                )
        return rows

    def _drawing(self, found: Mapping[str, _Iterations]) -> str:
        """Cost over initial step, both on logarithmic axes; no point where no run succeeded."""
        panels = []
        for i, epsilon in enumerate(self.epsilons):
            series = {}
            for name, values in found.items():
                pieces: list[list[tuple[float, float]]] = [[]]
                for delta, runs in sorted(zip(self.deltas, values[i], strict=True)):
                    value = cost(runs)
                    if math.isfinite(value):
                        pieces[-1].append((math.log10(delta), math.log10(value)))
                    elif pieces[-1]:
                        pieces.append([])
                if any(pieces):
                    series[name] = [piece for piece in pieces if piece]
            if series:
                ticks = {math.log10(delta): f"{delta:g}" for delta in self.deltas}
                title = f"log10(iterations / success rate), ε = {epsilon:g}"
                panels.append(Panel(title, series, x_label="initial step δ⁰", x_ticks=ticks))
        if not panels:
            raise ValueError(f"expected a success to draw, got none in {self.iterations} iterations")
        return chart_svg(panels, "Selective squared error function")


def cost(runs: Sequence[float | None]) -> float:
    """Median of the iterations to a success, divided by the success rate; inf without a success.

    >>> cost([10, 30, None, None])
    40.0
    """
    found = [t for t in runs if t is not None]
    return median(found) * len(runs) / len(found) if found else math.inf


def _cell(runs: Sequence[float | None]) -> str:
    rate = sum(t is not None for t in runs) / len(runs)
    return f"{cost(runs):,.0f} ({rate:.0%})" if rate else "-"
