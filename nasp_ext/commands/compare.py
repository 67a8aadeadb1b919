# SPDX-License-Identifier: MIT
"""``nasp-ext compare``: strategies on one supernet and budget (Yao et al., AAAI 2020, Fig. 3 and 5)."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import nasp_ext
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.checks import MOST_EPOCHS, check_different, check_range, shown
from nasp_ext.commands.lookup import table_for
from nasp_ext.commands.parsing import parse
from nasp_ext.commands.results import Result, curves_svg, rows_of, to_json
from nasp_ext.config import RetrainConfig, SearchRun
from nasp_ext.engine import derive_run, read_genotype, retrain
from nasp_ext.engine.build import build_strategy, search_space
from nasp_ext.engine.checkpoint import write_atomic
from nasp_ext.engine.folder import HISTORY, read_history
from nasp_ext.engine.lock import locked_folder
from nasp_ext.families.genotypes import genotype_from_json
from nasp_ext.reproduce.base import Say, table
from nasp_ext.strategies.base import option_types
from nasp_ext.tasks.images.load import load_data
from nasp_ext.tasks.images.task import ClassificationTask

# The accuracy of an architecture in a table of trained ones; None if the table lacks it.
Truth = Callable[[AnyGenotype], float | None]


@dataclass(frozen=True)
class Compare:
    """Compare strategies on one supernet, data set and budget: a table, and accuracy against time."""

    strategies: tuple[str, ...] = ("nasp", "darts", "random")
    """Strategies, separated by spaces or commas."""
    seeds: tuple[int, ...] = (0,)
    """A search of each strategy for each of them."""
    data: str = "digits"
    """digits, fashion-mnist, cifar10, or a path, as for search."""
    data_dir: str | None = None
    """Where to look for a named data set."""
    limit: int | None = None
    """Use at most this many images of each part."""
    space: str = "darts"
    """Search space."""
    cells: int = 3
    """Cells of the supernet and of the derived network."""
    channels: int = 8
    """Channels of the first cells of both."""
    epochs: int = 10
    """Epochs of a search."""
    batch: int = 64
    """Images per step."""
    lr: float = 0.1
    """First learning rate of the weights, of search and retraining."""
    arch_lr: float | None = 3e-3
    """Learning rate of A for the strategies that have one; None = their own."""
    preset: str = "official"
    """Preset of the strategies that have one: official or paper."""
    edges_per_node: int | str = "preset"
    """Edges kept per node: a number, all, or what the preset says."""
    bn_batches: int = 8
    """Training batches for the BatchNorm statistics of what is evaluated, as for search; 0 = none."""
    strategy_options: tuple[str, ...] = ()
    """Further options, each as strategy:name=value."""
    retrain: int = 0
    """Epochs of retraining each derived network; 0 = none."""
    device: str = "auto"
    """cpu, cuda, cuda:1 …; auto takes a GPU if there is one."""
    threads: int | None = 1
    """CPU threads; more pay off for large networks on an idle machine. None leaves PyTorch's choice."""
    table: str | None = None
    """Table of trained cells, for nas-bench-201: what it says of the cells that were found."""
    column: str = "cifar10_test_200ep"
    """The accuracy in the table, in %."""
    out: str = "runs/compare"
    """Folder for compare.svg, compare.json and a folder per search; what is in it is not run again."""

    def __post_init__(self) -> None:
        check_different("strategies", self.strategies)
        check_different("seeds", self.seeds)
        if self.retrain < 0:
            raise ValueError(f"expected retrain >= 0 epochs, got {shown(self.retrain)}")
        check_range("retrain", self.retrain, 0, MOST_EPOCHS)
        for word in self.strategy_options:
            if word.partition(":")[0] not in self.strategies:
                known = ", ".join(self.strategies)
                raise ValueError(
                    f"expected strategy:name=value, the strategy one of {known}, got {shown(word)}"
                )
        for strategy in self.strategies:
            for seed in self.seeds:
                self.search_run(strategy, seed)

    def search_run(self, strategy: str, seed: int) -> SearchRun:
        """The configuration of one search; an option that a strategy has not got stays at its default."""
        known = option_types(strategy)
        own = {field.name for field in dataclasses.fields(self)} - {"strategy_options"}
        shared = own & {field.name for field in dataclasses.fields(SearchRun)}
        fields = {"lr": "arch_lr", "preset": "preset", "edges_per_node": "edges_per_node"}
        shared -= {field for option, field in fields.items() if option not in known}
        options = [word.partition(":") for word in self.strategy_options]
        return SearchRun(
            strategy=strategy,
            seed=seed,
            strategy_options=tuple(option for name, _, option in options if name == strategy),
            **{name: getattr(self, name) for name in shared},
        )

    def truth(self) -> Truth | None:
        """The accuracy that the table gives a cell, None without a table.

        Raises:  ValueError: the table cannot be read, lacks the column, or is of another space.
        """
        if self.table is None:
            return None
        known = table_for(search_space(self.search_run(self.strategies[0], self.seeds[0])), self.table)
        known.best(self.column)
        return lambda genotype: known.value(self.column, genotype.to_arch()) / 100

    def run(self, say: Say, truth: Truth | None = None) -> Sequence[Path]:
        """Search, derive, retrain if asked; ``say`` prints a line. Returns the files that were written."""
        task, folder = ClassificationTask(load_data(self.data, self.data_dir, self.limit)), Path(self.out)
        for strategy in self.strategies:  # every mistake is told before the first search
            run = self.search_run(strategy, self.seeds[0])
            build_strategy(run, search_space(run), task).propose()
            task.search_batches(run, run.torch_device())
        with locked_folder(folder):
            return self._run_all(task, folder, say, truth)

    def _run_all(self, task: ClassificationTask, folder: Path, say: Say, truth: Truth | None) -> list[Path]:
        results = []
        for seed in self.seeds:
            for strategy in self.strategies:
                result, genotype = self._result(self.search_run(strategy, seed), task, say)
                if truth is not None:
                    lines = read_history(self._folder(strategy, seed) / HISTORY)
                    each = tuple(truth(genotype_from_json(line["genotype"])) for line in lines)
                    result = dataclasses.replace(result, truth=truth(genotype), truths=each)
                results.append(result)
        for line in table(rows_of(results)):
            say(line)
        files = [folder / "compare.svg", folder / "compare.json"]
        title = (
            f"{Path(self.data).name}, {self.cells} cells of {self.channels} channels, {self.epochs} epochs"
        )
        write_atomic(files[0], curves_svg(results, title).encode())
        written = {"options": dataclasses.asdict(self), "results": [to_json(result) for result in results]}
        write_atomic(files[1], (json.dumps(written, indent=1) + "\n").encode())
        return files

    def _result(self, run: SearchRun, task: ClassificationTask, say: Say) -> tuple[Result, AnyGenotype]:
        folder = self._folder(run.strategy, run.seed)
        file, key = folder / "result.json", {"search": json.loads(run.to_json()), "retrain": self.retrain}
        if file.exists():
            stored = _stored(file)
            if stored["of"] == key:
                return Result.from_json(stored["result"]), read_genotype(str(folder))
        for line in search_in_a_process_of_its_own(run, folder):
            say(f"{folder.name}: {line}")
        found, config = search_space(run), self._retrain_config(run)
        derived = derive_run(found, build_strategy(run, found, task), task, run, folder)
        with torch.device("meta"):  # counting parameters needs no memory
            parameters = sum(p.numel() for p in task.derived(derived.genotype, config).parameters())
        retrained = None
        if self.retrain:
            out = folder / f"retrain-{self.retrain}"
            retrained = retrain(derived.genotype, task, config, out=out, resume=True).test_accuracy
        result = Result.from_history(
            read_history(folder / HISTORY),
            strategy=run.strategy,
            seed=run.seed,
            test_accuracy=derived.test_accuracy,
            retrained_accuracy=retrained,
            parameters=parameters,
        )
        write_atomic(file, json.dumps({"of": key, "result": to_json(result)}).encode())
        return result, derived.genotype

    def _folder(self, strategy: str, seed: int) -> Path:
        return Path(self.out) / f"{strategy}-seed-{seed}"

    def _retrain_config(self, run: SearchRun) -> RetrainConfig:
        return RetrainConfig(
            cells=run.cells,
            channels=run.channels,
            epochs=max(self.retrain, 1),
            batch=run.batch,
            seed=run.seed,
            lr=run.lr,
            device=run.device,
            threads=run.threads,
            auxiliary=0.0,
            drop_path=0.0,
            cutout=0,
        )


def _stored(file: Path) -> dict[str, Any]:
    """The result of an earlier call.

    Raises:  ValueError: the file holds something else.
    """
    try:
        stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if "of" not in stored:
            raise ValueError("it does not say of which search")
        Result.from_json(stored["result"])
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{file}: expected the result of a search ({error}): remove it to run again"
        ) from error
    return stored


def search_in_a_process_of_its_own(run: SearchRun, folder: Path) -> Iterator[str]:
    """Run ``nasp-ext search`` as a child, so that its peak memory is its own; yields the lines of its epochs.

    Raises:  ValueError: the child ended with an error, which is repeated.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "search.json"
    write_atomic(config, run.to_json().encode())
    command = [sys.executable, "-m", "nasp_ext", "search", "--config-file", str(config), "--resume"]
    source = str(Path(nasp_ext.__file__).parents[1])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        [*command, "--out", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as child:
        assert child.stdout is not None
        last = ""
        for line in child.stdout:
            last = line.strip() or last
            if last.startswith("epoch "):
                yield last
    if child.returncode:
        reason = last.removeprefix("nasp-ext: error: ") if child.returncode > 0 else "ended by a signal"
        raise ValueError(f"the search of {run.strategy!r} failed with status {child.returncode}: {reason}")


def compare(argv: Sequence[str]) -> None:
    """Compare strategies on one supernet, data set and budget."""
    words: list[str] = []
    listing = False
    for word in argv:
        listing = word in ("--strategies", "--seeds") if word.startswith("--") else listing
        words += word.split(",") if listing else [word]
    options: Compare = parse(Compare, "compare", words)
    for file in options.run(partial(print, flush=True), options.truth()):
        print(f"wrote {file}")
