# SPDX-License-Identifier: MIT
"""The state of a search between two epochs, and how one epoch changes it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.config import SearchConfig
from nasp_ext.engine.accept import (
    check_body,
    check_head,
    check_history,
    check_kind,
    load_strategy,
    naming,
    space_fields,
    steering_steps,
)
from nasp_ext.engine.architectures import counts, plain
from nasp_ext.engine.arguments import check_arguments, check_batches, check_gates, placed
from nasp_ext.engine.attention import mean_attention
from nasp_ext.engine.collectives import LOCAL, Collective
from nasp_ext.engine.evaluation import evaluate
from nasp_ext.engine.history import check_counts, check_search_line
from nasp_ext.engine.measures import Means, Totals, fields, headline
from nasp_ext.engine.progress import Progress
from nasp_ext.engine.record import entropy, peak_memory, plain_report, plain_scores
from nasp_ext.engine.statistics import (
    has_running_statistics,
    norm_calls,
    repeated_norms,
    task_statistics,
)
from nasp_ext.engine.steering import BatchLoss
from nasp_ext.engine.stream import Stream, check_state
from nasp_ext.engine.training import WeightStep, random_state, rate_of, set_random_state
from nasp_ext.states import check_keys
from nasp_ext.strategies import RandomStrategy, Strategy
from nasp_ext.tasks.base import DataPart, SearchData, Task

_STREAMS = "streams"  # of a checkpoint, where a task carries a state from batch to batch


class SearchState:
    """The state of a search between two epochs, and how one epoch changes it."""

    def __init__(
        self,
        space: SearchSpace,
        strategy: Strategy,
        task: Task,
        config: SearchConfig,
        device: torch.device,
        collective: Collective = LOCAL,
    ) -> None:
        self._space, self._strategy, self._task, self._config = space, strategy, task, config
        self._device, self._collective = device, collective
        self.network: Any = placed(task.supernet(space, config), device)
        with torch.no_grad():
            collective.broadcast_([*self.network.parameters(), *self.network.buffers()])
        self._weights = WeightStep(self.network.parameters(), config, collective)
        self._streams = {part: Stream(task, self.network) for part in ("train", "steer")}
        self._repeats: bool | None = None  # whether a BatchNorm runs more than once in a batch of this epoch
        self.history: list[dict[str, Any]] = []

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    def genotype(self) -> AnyGenotype:
        """The one to derive if the search ended now."""
        return self._space.genotype(self._strategy.best())

    def try_out(self) -> None:
        """Ask the strategy for what a search needs of it, so that it refuses before anything is written."""
        for gates in (*self._strategy.proposals(), self._strategy.propose()):
            check_gates(self._space, gates)
        check_arguments(genotype=(self.genotype(), AnyGenotype))
        plain(self.genotype())
        check_counts(counts(self.genotype()), self._task.metrics)
        entropy(self._strategy.scores())
        plain_report(self._strategy)

    def run_epoch(self, batches: SearchData, shown: Progress) -> dict[str, Any]:
        start, start_memory = time.perf_counter(), peak_memory(self._device)
        number, config = self.epoch, self._config
        lr = self._weights.start_epoch(number)
        self._repeats = None  # told by the first batch of each epoch, so that a resumed run finds the same
        train, steer = (Totals(self._task.metrics, self._collective) for _ in range(2))
        self.network.train()
        warm = number >= config.warmup_epochs
        done = 0
        for batch, proposals in self._steps(warm, batches, steer):
            done += 1
            losses = [self._loss("train", gates, batch, train) for gates in proposals]
            self._weights(torch.stack(losses).mean(), self._rate(batch))
            shown.advance(train)
            for stream in self._streams.values():
                stream.advance()
        check_batches(done, batches.train, "train part")
        train_means, searched = train.means(), time.perf_counter()  # reading them waits for the device
        if warm:
            self._strategy.end_epoch(_EpochProbe(self, batches))
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
    ) -> Iterator[tuple[Any, tuple[Gates, ...]]]:
        """Training batches, each with the gates whose mean loss the weights go down."""
        if warm and self._strategy.steers:
            return self._steered(batches, totals)
        # A mixture trains every option while A rests; one architecture alone would train its own.
        if not warm and self._strategy.propose().active is not None:
            return self._warm_up(batches)
        train = batches.train.epoch(self._config.seed, self.epoch)
        return ((batch, self._strategy.proposals()) for batch in train)

    def _steered(self, batches: SearchData, totals: Totals) -> Iterator[tuple[Any, tuple[Gates, ...]]]:
        """Training batches, each with the proposals after a step on a batch of the other half."""
        seed = self._config.seed
        pairs = zip(batches.train.epoch(seed, self.epoch), batches.steer.epoch(seed, self.epoch), strict=True)
        for train, steer in pairs:
            loss = BatchLoss(
                self.network,
                self._weights.optimizer,
                steer=partial(self._loss, "steer", batch=steer, totals=totals),
                train=partial(self._loss, "train", batch=train),
                collective=self._collective,
                rate=self._rate(train),
            )
            self._strategy.step(loss)
            yield train, self._strategy.proposals()

    def _warm_up(self, batches: SearchData) -> Iterator[tuple[Any, tuple[Gates, ...]]]:
        """Training batches with uniform gates that depend on seed and epoch only: all options train alike."""
        seed = (self._config.seed * 100_003 + self.epoch) % 2**63
        proposer = RandomStrategy(self._space, seed=seed, device=self._device)
        for train in batches.train.epoch(self._config.seed, self.epoch):
            proposer.redraw()
            yield train, proposer.proposals()

    def _rate(self, batch: Any) -> float:
        return rate_of(self._task, batch, self._device, self._collective)

    def _loss(self, part: str, gates: Gates, batch: Any, totals: Totals | None = None) -> Tensor:
        """Of gates on a batch; what is not counted in the totals leaves no state to the next batch."""
        before = norm_calls(self.network) if self._repeats is None else None
        outcome = self._streams[part].run(batch, gates, keep=totals is not None)
        if before is not None:
            self._repeats = bool(repeated_norms(self.network, before))
        if totals is not None:
            totals.add(outcome)
        return outcome.loss

    def _line(
        self, train: Means, steer: Totals, batches: SearchData, trained: Sequence[Gates]
    ) -> dict[str, Any]:
        """Args:    trained: gates of the last weight step, whose running statistics the network has."""
        metrics = self._task.metrics
        gates, proposed, scores = self._strategy.best(), self._strategy.propose(), self._strategy.scores()
        count = self._bn_batches(gates, trained)
        line: dict[str, Any] = fields("train", metrics, train)
        line |= fields("steer", metrics, steer.means() if steer else None)
        line |= fields("val", metrics, self._evaluated(gates, batches, count, batches.validate))
        line["bn_batches"] = count
        mixture = None
        if proposed.active is None:
            own = self._bn_batches(proposed, trained)
            mixture = self._evaluated(proposed, batches, own, batches.validate)
        for metric in headline(metrics):
            line[f"mixture_{metric.name}"] = None if mixture is None else mixture[metric.name]
        every = self._config.test_every
        if every and (self.epoch + 1) % every == 0:
            tested = self._task.test_batches(self._config, self._device, self._shard)
            line |= fields("test", metrics, self._evaluated(gates, batches, count, tested))
        genotype = self._space.genotype(gates)
        return {
            **line,
            "entropy": entropy(scores),
            **counts(genotype),
            "genotype": plain(genotype),
            "strategy": plain_report(self._strategy),
            "active": list(gates.active or ()),
            "scores": plain_scores(scores),
        }

    @property
    def _shard(self) -> tuple[int, int]:
        return self._collective.rank, self._collective.size

    def _bn_batches(self, gates: Gates, trained: Sequence[Gates]) -> int:
        """0 where the gates are what was trained, so that the running statistics are theirs.

        Those of a norm that runs many times in a batch are of its last calls only, whatever was trained.
        """
        own = all(one.active == gates.active for one in trained) and not self._repeats
        return 0 if own or not has_running_statistics(self.network) else self._config.bn_batches

    def _evaluated(self, gates: Gates, batches: SearchData, count: int, part: DataPart) -> Means:
        """Means over a part of the data, BatchNorm with the statistics of ``count`` training batches."""
        try:
            with self._statistics(gates, batches, count):
                return evaluate(self.network, self._task, part, gates, collective=self._collective)
        except FloatingPointError as error:  # the weights may well train on
            raise FloatingPointError(f"evaluation after epoch {self.epoch + 1}: {error}") from error

    def attention(self, gates: Gates, batches: SearchData) -> Tensor:
        """The mean attention (R, K) over the validation part; see ``mean_attention``."""
        with self._statistics(gates, batches, self._config.bn_batches):
            return mean_attention(self.network, gates, self._task, batches.validate)

    def _statistics(self, gates: Gates, batches: SearchData, count: int) -> AbstractContextManager[None]:
        first = batches.first_batches(self._config.seed, self.epoch, count)
        return task_statistics(self._task, self.network, gates, first)

    def state_dict(self) -> dict[str, Any]:
        carried = {part: stream.state_after() for part, stream in self._streams.items()}
        check_state(carried, _STREAMS)
        return {
            "space": space_fields(self._space),
            "strategy_kind": type(self._strategy).__name__,
            "config": self._config.flat(),
            "history": self.history,
            "network": self.network.state_dict(),
            "weights": self._weights.optimizer.state_dict(),
            "strategy": self._strategy.state_dict(),
            "random": random_state(self._device),
            **({_STREAMS: carried} if any(state is not None for state in carried.values()) else {}),
        }

    def load_state_dict(self, state: dict[str, Any], where: Path) -> None:
        """Go on from a checkpoint, all of which is looked at before any of it is taken.

        Raises:  ValueError: it is none that this run could have written; names ``where`` and the entry.
        """
        config, strategy = self._config, self._strategy
        with naming(where):
            own = self.state_dict()
            check_head(state, own, config, optional=(_STREAMS,))
            check_kind(state, self._space, strategy)
            batches = self._task.search_batches(config, torch.device("cpu")).train
            line = partial(
                check_search_line,
                space=self._space,
                iterations=len(batches),
                metrics=self._task.metrics,
                test_every=config.test_every,
            )
            check_history(state["history"], config, line)
            check_body(state, own, self._weights.optimizer, self.network)
            steps = steering_steps(state["history"], config.warmup_epochs)
            carried = state.get(_STREAMS, dict.fromkeys(self._streams))
            check_keys(carried, self._streams, _STREAMS)
            check_state(carried, _STREAMS)
            strategy.check_state(state["strategy"], steps if strategy.steers else 0)
            load_strategy(strategy, state["strategy"])
        self.history = list(state["history"])
        self.network.load_state_dict(state["network"])
        self._weights.optimizer.load_state_dict(state["weights"])
        set_random_state(state["random"], self._device)
        for part, stream in self._streams.items():
            stream.restore(carried[part], self._device)


class _EpochProbe:
    """What a strategy is told of the network at the end of an epoch."""

    def __init__(self, state: SearchState, batches: SearchData) -> None:
        self._state, self._batches = state, batches

    def attention(self, gates: Gates) -> Tensor:
        return self._state.attention(gates, self._batches)
