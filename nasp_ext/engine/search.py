# SPDX-License-Identifier: MIT
"""The search loop: steer the architecture on one half of the data, train weights on the other."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasp_ext.config import SearchConfig
from nasp_ext.derive import genotype_of
from nasp_ext.engine.evaluate import evaluate
from nasp_ext.engine.folder import GENOTYPE, RunFolder
from nasp_ext.engine.progress import Progress
from nasp_ext.engine.steering import SteeringLoss
from nasp_ext.engine.task import ClassificationTask, SearchBatches
from nasp_ext.engine.training import Totals, WeightStep, fixed_randomness, random_state, set_random_state
from nasp_ext.gates import Gates
from nasp_ext.layered import AnyGenotype
from nasp_ext.nn import Network
from nasp_ext.plots import write_cell_svgs
from nasp_ext.space import Space
from nasp_ext.strategies import RandomStrategy, Strategy

_Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class SearchResult:
    """What a search found, and the trained supernet."""

    genotype: AnyGenotype
    gates: Gates
    history: tuple[dict[str, Any], ...]
    network: Network
    files: tuple[Path, ...]


def entropy(scores: Tensor) -> float:
    """Mean over the rows of the entropy, in nats, of the scores divided by their sum.

    Args:  scores: (R, K), numbers >= 0; a row of zeros counts as undecided between all its columns.
    >>> round(entropy(torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])), 4)
    0.3466
    """
    values = scores.detach().double()
    values = torch.where(values.sum(-1, keepdim=True) > 0, values, torch.ones_like(values))
    return float(torch.special.entr(values / values.sum(-1, keepdim=True)).sum(-1).mean())


def skip_connections(genotype: AnyGenotype) -> int:
    """How many edges of all cells are skip connections: many of them are the mark of a collapsed search."""
    return sum(name == "skip_connect" for cell in genotype.cells for name, _ in genotype.pairs(cell))


def plain_report(strategy: Strategy) -> dict[str, Any]:
    """What a strategy reports, as JSON gives it back, so that a resumed history equals the written one.

    Raises:  ValueError: something in it is no finite number, string, list … of JSON.
    """
    report = strategy.report()
    try:
        plain = json.loads(json.dumps(report, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected {type(strategy).__name__}.report() to fit into JSON: {error}") from error
    if not isinstance(plain, dict):
        raise ValueError(f"expected {type(strategy).__name__}.report() to be a dict, got {report!r}")
    return plain


def search(
    space: Space,
    strategy: Strategy,
    task: ClassificationTask,
    config: SearchConfig,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> SearchResult:
    """Search ``space`` with ``strategy`` on ``task``.

    A run that was cut at any moment and is resumed gives the bits of an uninterrupted one (same machine, same
    number of threads); at most the current epoch is lost.

    Args:
        space: the search space of the supernet; the one that ``strategy`` was made for.
        strategy: proposes architectures and learns from their loss.
        task: data and loss.
        config: sizes, epochs, learning rates, seed, device.
        out: folder for config.json, history.jsonl, checkpoint.pt, genotype.json and the cell drawings;
            None writes nothing.
        resume: go on from the checkpoint in ``out``, if there is one.
        overwrite: replace another run in ``out``.
        progress: show a progress bar and a line per epoch.
    Raises:
        ValueError: a folder, checkpoint, batch size or configuration that cannot be used; before any work.
        FloatingPointError: the loss is no number any more.
    """
    if resume and out is None:
        raise ValueError("expected out, the folder to resume from, got None")
    device = config.torch_device()
    batches = task.search_batches(config, device)
    folder = None
    with fixed_randomness(config, device):
        run = SearchState(space, strategy, task, config, device)
        if out is not None:
            folder = RunFolder(Path(out), "search", config, resume=resume, overwrite=overwrite)
            if folder.checkpoint is not None:
                run.load_state_dict(folder.checkpoint, folder.path)
            folder.reset_history(run.history)
        steps = len(batches.train)
        with Progress("search", config.epochs * steps, run.epoch * steps, shown=progress) as shown:
            while run.epoch < config.epochs:
                line = run.run_epoch(batches, shown)
                if folder is not None:
                    folder.end_epoch(run.state_dict(), line)
                shown.line(_summary(line, config.epochs))
    gates = strategy.best()
    genotype = genotype_of(space, gates)
    files: list[Path] = []
    if folder is not None:
        folder.write(GENOTYPE, genotype.to_json() + "\n")
        write_cell_svgs(genotype, folder.path)
        files = folder.files()
    return SearchResult(genotype, gates, tuple(run.history), run.network, tuple(files))


def _summary(line: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {line['epoch']}/{epochs}  loss {line['train_loss']:.3f}  train {line['train_accuracy']:.1%}  "
        f"validation {line['val_accuracy']:.1%}  entropy {line['entropy']:.3f}  "
        f"skips {line['skip_connections']}  {line['seconds']:.1f} s"
    )


class SearchState:
    """The state of a search between two epochs, and how one epoch changes it."""

    def __init__(
        self,
        space: Space,
        strategy: Strategy,
        task: ClassificationTask,
        config: SearchConfig,
        device: torch.device,
    ) -> None:
        self._space, self._strategy, self._task, self._config = space, strategy, task, config
        self._device = device
        self.network = task.supernet(space, config).to(device)
        self._weights = WeightStep(self.network.weight_parameters(), config)
        self.history: list[dict[str, Any]] = []

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    def run_epoch(self, batches: SearchBatches, shown: Progress) -> dict[str, Any]:
        start = time.perf_counter()
        number, config = self.epoch, self._config
        lr = self._weights.start_epoch(number)
        train, steer = Totals(self._device), Totals(self._device)
        self.network.train()
        steps = self._warm_up(batches) if number < config.warmup_epochs else self._steered(batches, steer)
        for batch, proposals in steps:
            losses = [self._loss(gates, batch, train) for gates in proposals]
            self._weights(torch.stack(losses).mean())
            shown.advance(train)
        line = self._line(number, lr, train, steer, batches)
        line["seconds"] = round(time.perf_counter() - start, 3)
        self.history.append(line)
        return line

    def _steered(self, batches: SearchBatches, totals: Totals) -> Iterator[tuple[_Batch, tuple[Gates, ...]]]:
        """Training batches, each with the proposals after a step on a batch of the other half."""
        seed = self._config.seed
        pairs = zip(batches.train.epoch(seed, self.epoch), batches.steer.epoch(seed, self.epoch), strict=True)
        for train, steer in pairs:
            loss = SteeringLoss(
                self.network,
                self._weights.optimizer,
                steer=partial(self._loss, batch=steer, totals=totals),
                train=partial(self._loss, batch=train),
            )
            self._strategy.step(loss)
            yield train, self._strategy.proposals()

    def _warm_up(self, batches: SearchBatches) -> Iterator[tuple[_Batch, tuple[Gates, ...]]]:
        """Training batches with uniform gates that depend on seed and epoch only: all options train alike."""
        seed = (self._config.seed * 100_003 + self.epoch) % 2**63
        proposer = RandomStrategy(self._space, seed=seed, device=self._device)
        for train in batches.train.epoch(self._config.seed, self.epoch):
            proposer.redraw()
            yield train, proposer.proposals()

    def _loss(self, gates: Gates, batch: _Batch, totals: Totals | None = None) -> Tensor:
        x, y = batch
        logits = self.network(x, gates)
        loss = self._task.loss(logits, y)
        if totals is not None:
            totals.add(loss, self._task.correct(logits.detach(), y), len(y))
        return loss

    def _line(
        self, number: int, lr: float, train: Totals, steer: Totals, batches: SearchBatches
    ) -> dict[str, Any]:
        train_loss, train_accuracy = train.means()
        steer_loss, steer_accuracy = steer.means() if steer else (None, None)
        gates = self._strategy.best()
        val_loss, val_accuracy = evaluate(
            self.network, lambda x: self.network(x, gates), self._task, batches.validate
        )
        genotype = genotype_of(self._space, gates)
        return {
            "epoch": number + 1,
            "lr": lr,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "steer_loss": steer_loss,
            "steer_accuracy": steer_accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "entropy": entropy(self._strategy.scores()),
            "skip_connections": skip_connections(genotype),
            "genotype": json.loads(genotype.to_json()),
            "strategy": plain_report(self._strategy),
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "space": dataclasses.asdict(self._space),
            "strategy_kind": type(self._strategy).__name__,
            "config": dataclasses.asdict(self._config),
            "history": self.history,
            "network": self.network.state_dict(),
            "weights": self._weights.optimizer.state_dict(),
            "strategy": self._strategy.state_dict(),
            "random": random_state(self._device),
        }

    def load_state_dict(self, state: dict[str, Any], where: Path) -> None:
        found, expected = state["space"], dataclasses.asdict(self._space)
        if found != expected:
            raise ValueError(
                f"{where}: expected the checkpoint of a search in space {expected['name']!r}, found space "
                f"{found['name']!r}"
            )
        kind = type(self._strategy).__name__
        if state["strategy_kind"] != kind:
            raise ValueError(
                f"{where}: expected a checkpoint of {kind}, found one of {state['strategy_kind']}"
            )
        self.history = list(state["history"])
        self.network.load_state_dict(state["network"])
        self._weights.optimizer.load_state_dict(state["weights"])
        self._strategy.load_state_dict(state["strategy"])
        set_random_state(state["random"], self._device)
