# SPDX-License-Identifier: MIT
"""The state of a search between two epochs, and how one epoch changes it."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.config import SearchConfig
from nasp_ext.engine.accept import (
    check_body,
    check_head,
    check_history,
    load_strategy,
    naming,
    steering_steps,
)
from nasp_ext.engine.arguments import check_gates
from nasp_ext.engine.attention import mean_attention
from nasp_ext.engine.evaluation import evaluate
from nasp_ext.engine.history import check_search_line
from nasp_ext.engine.progress import Progress
from nasp_ext.engine.record import entropy, peak_memory, plain_report, plain_scores, skip_connections
from nasp_ext.engine.statistics import own_statistics
from nasp_ext.engine.steering import SteeringLoss
from nasp_ext.engine.training import Totals, WeightStep, random_state, set_random_state
from nasp_ext.families.derivation import genotype_of
from nasp_ext.states import check_same
from nasp_ext.strategies import AttentionStrategy, RandomStrategy, Strategy
from nasp_ext.tasks.base import SearchData
from nasp_ext.tasks.images.task import ClassificationTask

_Batch = tuple[Tensor, Tensor]


def _fields(space: SearchSpace) -> dict[str, Any]:
    """What a checkpoint holds of a space; without partial channels as it was before there were any."""
    return dataclasses.asdict(
        space, dict_factory=lambda pairs: dict(pair for pair in pairs if pair != ("partial_channels", 1))
    )


class SearchState:
    """The state of a search between two epochs, and how one epoch changes it."""

    def __init__(
        self,
        space: SearchSpace,
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

    def try_out(self) -> None:
        """Ask the strategy for what a search needs of it, so that it refuses before anything is written."""
        for gates in (*self._strategy.proposals(), self._strategy.propose()):
            check_gates(self._space, gates)
        genotype_of(self._space, self._strategy.best())
        entropy(self._strategy.scores())
        plain_report(self._strategy)

    def run_epoch(self, batches: SearchData, shown: Progress) -> dict[str, Any]:
        start, start_memory = time.perf_counter(), peak_memory(self._device)
        number, config = self.epoch, self._config
        lr = self._weights.start_epoch(number)
        train, steer = Totals(self._device), Totals(self._device)
        self.network.train()
        warm = number >= config.warmup_epochs
        for batch, proposals in self._steps(warm, batches, steer):
            losses = [self._loss(gates, batch, train) for gates in proposals]
            self._weights(torch.stack(losses).mean())
            shown.advance(train)
        train_means, searched = train.means(), time.perf_counter()  # reading them waits for the device
        if warm and isinstance(self._strategy, AttentionStrategy):
            self._strategy.select(partial(self._attention, batches=batches))
        line: dict[str, Any] = {
            "epoch": number + 1,
            "iterations": (number + 1) * len(batches.train),
            "lr": lr,
        }
        line |= self._line(train_means, steer, batches, proposals)
        line["search_seconds"] = round(searched - start, 3)
        line["seconds"] = round(time.perf_counter() - start, 3)
        line["start_memory"] = start_memory
        line["peak_memory"] = peak_memory(self._device)
        self.history.append(line)
        return line

    def _steps(
        self, warm: bool, batches: SearchData, totals: Totals
    ) -> Iterator[tuple[_Batch, tuple[Gates, ...]]]:
        """Training batches, each with the gates whose mean loss the weights go down."""
        if warm and not isinstance(self._strategy, AttentionStrategy):
            return self._steered(batches, totals)
        # A mixture trains every option while A rests; one architecture alone would train its own.
        if not warm and self._strategy.propose().active is not None:
            return self._warm_up(batches)
        train = batches.train.epoch(self._config.seed, self.epoch)
        return ((batch, self._strategy.proposals()) for batch in train)

    def _steered(self, batches: SearchData, totals: Totals) -> Iterator[tuple[_Batch, tuple[Gates, ...]]]:
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

    def _warm_up(self, batches: SearchData) -> Iterator[tuple[_Batch, tuple[Gates, ...]]]:
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
        self, train: tuple[float, float], steer: Totals, batches: SearchData, trained: Sequence[Gates]
    ) -> dict[str, Any]:
        """Args:    trained: gates of the last weight step, whose running statistics the network has."""
        steer_loss, steer_accuracy = steer.means() if steer else (None, None)
        gates, proposed, scores = self._strategy.best(), self._strategy.propose(), self._strategy.scores()
        count = self._bn_batches(gates, trained)
        val_loss, val_accuracy = self._evaluated(gates, batches, count)
        mixture = None
        if proposed.active is None:
            mixture = self._evaluated(proposed, batches, self._bn_batches(proposed, trained))[1]
        genotype = genotype_of(self._space, gates)
        return {
            "train_loss": train[0],
            "train_accuracy": train[1],
            "steer_loss": steer_loss,
            "steer_accuracy": steer_accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "bn_batches": count,
            "mixture_accuracy": mixture,
            "entropy": entropy(scores),
            "skip_connections": skip_connections(genotype),
            "genotype": json.loads(genotype.to_json()),
            "strategy": plain_report(self._strategy),
            "active": list(gates.active or ()),
            "scores": plain_scores(scores),
        }

    def _bn_batches(self, gates: Gates, trained: Sequence[Gates]) -> int:
        """0 where the gates are what was trained, so that the running statistics are theirs."""
        own = all(one.active == gates.active for one in trained)
        return 0 if own else self._config.bn_batches

    def _evaluated(self, gates: Gates, batches: SearchData, count: int) -> tuple[float, float]:
        """Loss and accuracy on the validation images, BatchNorm with the statistics of ``count`` batches."""
        with self._statistics(gates, batches, count):
            return evaluate(self.network, lambda x: self.network(x, gates), self._task, batches.validate)

    def _attention(self, gates: Gates, batches: SearchData) -> Tensor:
        with self._statistics(gates, batches, self._config.bn_batches):
            return mean_attention(self.network, gates, batches.validate)

    def _statistics(self, gates: Gates, batches: SearchData, count: int) -> AbstractContextManager[None]:
        images = batches.first_images(self._config.seed, self.epoch, count)
        return own_statistics(self.network, lambda x: self.network(x, gates), images)

    def state_dict(self) -> dict[str, Any]:
        return {
            "space": _fields(self._space),
            "strategy_kind": type(self._strategy).__name__,
            "config": dataclasses.asdict(self._config),
            "history": self.history,
            "network": self.network.state_dict(),
            "weights": self._weights.optimizer.state_dict(),
            "strategy": self._strategy.state_dict(),
            "random": random_state(self._device),
        }

    def load_state_dict(self, state: dict[str, Any], where: Path) -> None:
        """Go on from a checkpoint, all of which is looked at before any of it is taken.

        Raises:  ValueError: it is none that this run could have written; names ``where`` and the entry.
        """
        config, strategy = self._config, self._strategy
        with naming(where):
            own = self.state_dict()
            check_head(state, own, config)
            self._check_kind(state)
            batches = self._task.search_batches(config, torch.device("cpu")).train
            line = partial(check_search_line, space=self._space, iterations=len(batches))
            check_history(state["history"], config, line)
            check_body(state, own, self._weights.optimizer, self.network)
            steps = steering_steps(state["history"], config.warmup_epochs)
            strategy.check_state(state["strategy"], 0 if isinstance(strategy, AttentionStrategy) else steps)
            load_strategy(strategy, state["strategy"])
        self.history = list(state["history"])
        self.network.load_state_dict(state["network"])
        self._weights.optimizer.load_state_dict(state["weights"])
        set_random_state(state["random"], self._device)

    def _check_kind(self, state: dict[str, Any]) -> None:
        found, expected = state["space"], _fields(self._space)
        name = found.get("name") if isinstance(found, dict) else found
        if name != expected["name"]:
            raise ValueError(
                f"expected the checkpoint of a search in space {expected['name']!r}, found space {name!r}"
            )
        check_same(found, expected, "space")
        kind = type(self._strategy).__name__
        if state["strategy_kind"] != kind:
            raise ValueError(f"expected a checkpoint of {kind}, found one of {state['strategy_kind']}")
