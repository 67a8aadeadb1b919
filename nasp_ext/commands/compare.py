# SPDX-License-Identifier: MIT
"""``nasp-ext compare``: strategies on one supernet and budget (Yao et al., AAAI 2020, Fig. 3 and 5)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.checks import MOST_EPOCHS, check_different, check_range, shown
from nasp_ext.commands.child import search_in_a_process_of_its_own
from nasp_ext.commands.command import Command
from nasp_ext.commands.lookup import table_for
from nasp_ext.commands.parsing import values_of
from nasp_ext.commands.printing import print_files
from nasp_ext.commands.results import Result, curves_svg, rows_of, to_json
from nasp_ext.commands.start import filled, suggested, told_task
from nasp_ext.config import RetrainConfig, TrainingConfig, training_fields
from nasp_ext.engine import derive_run, retrain
from nasp_ext.engine.build import build_strategy, build_task, search_space
from nasp_ext.engine.checkpoint import write_atomic
from nasp_ext.engine.lock import locked_folder
from nasp_ext.engine.measures import headline
from nasp_ext.engine.options import own_options
from nasp_ext.engine.run import Run
from nasp_ext.engine.settings import SearchRun, hiding
from nasp_ext.engine.strategy_list import StrategyList
from nasp_ext.families.genotypes import genotype_from_json
from nasp_ext.reproduce.base import Say, table
from nasp_ext.tasks.base import Task

# What a table of trained architectures says of one, from 0 to 1; None if the table lacks it.
Truth = Callable[[AnyGenotype], float | None]
_STRATEGIES = StrategyList(("nasp", "pa", "darts", "random"), {"arch_lr": "0.003"})
_RUN = SearchRun(cells=3, channels=8, epochs=10, batch=64, lr=0.1, threads=1)


@dataclass(frozen=True)
class Compare:
    """Compare strategies on one supernet, data set and budget: a table, and curves against time."""

    strategies: StrategyList = _STRATEGIES
    seeds: tuple[int, ...] = (0,)
    """A search of each strategy for each of them."""
    search: SearchRun = field(default=_RUN, metadata=hiding("seed", groups=("strategy",)))
    retrain: int = 0
    """Epochs of retraining each derived network; 0 = none."""
    table: str | None = None
    """Table of trained cells, for nas-bench-201: what it says of the cells that were found."""
    column: str = "cifar10_test_200ep"
    """The column of the table that counts, in %."""
    out: str = "runs/compare"
    """Folder for compare.svg, compare.json and a folder per search; what is in it is not run again."""

    def __post_init__(self) -> None:
        check_different("seeds", self.seeds)
        if self.retrain < 0:
            raise ValueError(f"expected retrain >= 0 epochs, got {shown(self.retrain)}")
        check_range("retrain", self.retrain, 0, MOST_EPOCHS)
        for strategy in self.strategies.names:
            for seed in self.seeds:
                self.search_run(strategy, seed)

    def search_run(self, strategy: str, seed: int) -> SearchRun:
        """The settings of one search; an option that a strategy has not got is left out."""
        return dataclasses.replace(self.search, seed=seed, strategy=self.strategies.settings(strategy))

    def truth(self) -> Truth | None:
        """What the table says of a cell, None without a table.

        Raises:  ValueError: the table cannot be read, lacks the column, or is of another space.
        """
        if self.table is None:
            return None
        first = self.search_run(self.strategies.names[0], self.seeds[0])
        known = table_for(search_space(first), self.table)
        known.best(self.column)
        return lambda genotype: known.value(self.column, genotype.to_arch()) / 100

    def run(self, say: Say, truth: Truth | None = None) -> Sequence[Path]:
        """Search, derive, retrain if asked; ``say`` prints a line. Returns the files that were written."""
        task = build_task(self.search)
        for strategy in self.strategies.names:  # every mistake is told before the first search
            run = self.search_run(strategy, self.seeds[0])
            build_strategy(run, search_space(run), task).propose()
            task.search_batches(run, run.torch_device())
        with locked_folder(Path(self.out)):
            return self._compare_all(task, Path(self.out), say, truth)

    def _compare_all(self, task: Task, folder: Path, say: Say, truth: Truth | None) -> list[Path]:
        results = []
        for seed in self.seeds:
            for strategy in self.strategies.names:
                result, genotype = self._result(self.search_run(strategy, seed), task, say)
                if truth is not None:
                    history = Run.open(self._folder(strategy, seed)).history
                    each = tuple(truth(genotype_from_json(line["genotype"])) for line in history)
                    result = dataclasses.replace(result, truth=truth(genotype), truths=each)
                results.append(result)
        metric = headline(task.metrics)[0]
        for line in table(rows_of(results, metric)):
            say(line)
        files = [folder / "compare.svg", folder / "compare.json"]
        run = self.search
        write_atomic(files[0], curves_svg(results, _title(run), metric).encode())
        written = {"options": dataclasses.asdict(self), "results": [to_json(result) for result in results]}
        write_atomic(files[1], (json.dumps(written, indent=1) + "\n").encode())
        return files

    def _result(self, run: SearchRun, task: Task, say: Say) -> tuple[Result, AnyGenotype]:
        folder = self._folder(run.strategy.name, run.seed)
        file = folder / "result.json"
        if file.exists():
            stored = _stored(file)
            if stored["retrain"] == self.retrain and stored["search"] == run:
                return stored["result"], Run.open(folder).genotype
        for line in search_in_a_process_of_its_own(run, folder):
            say(f"{folder.name}: {line}")
        found, config = search_space(run), self._retrain_config(run)
        derived = derive_run(found, build_strategy(run, found, task), task, run, folder)
        with torch.device("meta"):  # counting parameters needs no memory
            parameters = sum(p.numel() for p in task.derived(derived.genotype, config).parameters())
        metric, retrained = headline(task.metrics)[0], None
        if self.retrain:
            out = folder / f"retrain-{self.retrain}"
            retrained = retrain(derived.genotype, task, config, out=out, resume=True).test[metric.name]
        result = Result.from_history(
            Run.open(folder).history,
            metric,
            strategy=run.strategy.name,
            seed=run.seed,
            test=derived.test[metric.name],
            retrained=retrained,
            parameters=parameters,
        )
        key = {"search": json.loads(run.to_json()), "retrain": self.retrain}
        write_atomic(file, json.dumps({"of": key, "result": to_json(result)}).encode())
        return result, derived.genotype

    def _folder(self, strategy: str, seed: int) -> Path:
        return Path(self.out) / f"{strategy}-seed-{seed}"

    def _retrain_config(self, run: SearchRun) -> RetrainConfig:
        """Of the network and weights what the search has, without the usual regularisation of CIFAR-10.

        The last learning rate is the usual one of a retraining, unless the search has another than its own.
        """
        shared = {name: getattr(run, name) for name in training_fields(TrainingConfig)}
        plain = {"auxiliary": 0.0, "drop_path": 0.0, "cutout": 0, "epochs": max(self.retrain, 1)}
        last = RetrainConfig.lr_min if run.lr_min == SearchRun.lr_min else run.lr_min
        chosen = {**shared, **plain, "lr_min": last}
        return RetrainConfig(
            **{name: value for name, value in chosen.items() if name not in run.task.without}
        )


def _title(run: SearchRun) -> str:
    """What is searched on, the first word that its task is told, such as the data set, or its name; sizes."""
    words = [value for value in run.task.values().values() if isinstance(value, str) and value]
    sizes = {"cells": run.cells, "channels": run.channels}
    known = [f"{size} {name}" for name, size in sizes.items() if name not in run.task.without]
    parts = (Path(words[0]).name if words else run.task.name, " of ".join(known), f"{run.epochs} epochs")
    return ", ".join(filter(None, parts))


def _stored(file: Path) -> dict[str, Any]:
    """The result of an earlier call, and the search that it is of.

    Raises:  ValueError: the file holds something else.
    """
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if "of" not in stored:
            raise ValueError("it does not say of which search")
        search = SearchRun.from_json(json.dumps(stored["of"]["search"]))
        result = Result.from_json(stored["result"])
        return {"search": search, "retrain": stored["of"]["retrain"], "result": result}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{file}: expected the result of a search ({error}): remove it to run again"
        ) from error


def _start(argv: Sequence[str]) -> Compare:
    """With the strategies and the task that the words name, whose options are flags."""
    names = values_of(argv, "--strategies") or _STRATEGIES.names
    strategies = dataclasses.replace(_STRATEGIES, names=names)
    task = told_task(argv, _RUN.task)
    if task.name == _RUN.task.name:
        return Compare(strategies=strategies, search=dataclasses.replace(_RUN, task=task))
    usual = SearchRun(task=filled(task, SearchRun.kind))
    flags, options = suggested(task, usual), own_options(usual.strategy.name).values()
    texts = {one.flag: one.text(flags.pop(one.flag)) for one in options if one.flag in flags}
    strategies = dataclasses.replace(strategies, texts={**strategies.texts, **texts})
    return Compare(strategies=strategies, search=SearchRun.from_flat(usual.flat() | flags))


def _work(command: Compare) -> None:
    print_files(command.run(partial(print, flush=True), command.truth()))


COMMAND = Command("compare", Compare, _work, _start, "the same command goes on")
