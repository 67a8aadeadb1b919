# SPDX-License-Identifier: MIT
"""The state of a retraining between two epochs, and how one epoch changes it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.checks import check
from nasp_ext.config import RetrainConfig
from nasp_ext.engine.accept import check_body, check_head, check_history, naming
from nasp_ext.engine.architectures import is_stored, plain
from nasp_ext.engine.arguments import check_batches, check_part, placed
from nasp_ext.engine.collectives import LOCAL, Collective
from nasp_ext.engine.evaluation import evaluate
from nasp_ext.engine.history import check_retrain_line
from nasp_ext.engine.measures import Means, Totals, fields
from nasp_ext.engine.progress import Progress
from nasp_ext.engine.stream import Stream, check_state
from nasp_ext.engine.training import WeightStep, random_state, rate_of, set_random_state
from nasp_ext.engine.validation import AVERAGE, BEST, Validation
from nasp_ext.states import check_keys
from nasp_ext.tasks.base import WHOLE, DataPart, Shard, Task

_STREAM = "stream"  # of a checkpoint, where a task carries a state from batch to batch


@dataclass(frozen=True)
class RetrainData:
    """The parts of the data of a retraining; validate: None = every epoch is tested, and the last counts."""

    train: DataPart
    validate: DataPart | None
    test: DataPart

    @classmethod
    def of(cls, task: Task, config: RetrainConfig, device: torch.device, shard: Shard = WHOLE) -> RetrainData:
        """Those of a task.

        Raises:  ValueError: a part without a batch, or settings that need another part.
        """
        data = cls(
            task.training_batches(config, device, shard),
            task.validation_batches(config, device, shard),
            task.test_batches(config, device, shard),
        )
        check_part(data.train, "train part")
        check_part(data.test, "test part")
        if data.validate is not None:
            check_part(data.validate, "validation part")
            return data
        for name in ("average_after", "rollbacks"):
            value = getattr(config, name)
            check(value == 0, name, f"0 for {type(task).__name__}, which has no validation_batches", value)
        return data


class RetrainState:
    """The state of a retraining between two epochs, and how one epoch changes it."""

    def __init__(
        self,
        genotype: AnyGenotype,
        task: Task,
        config: RetrainConfig,
        device: torch.device,
        data: RetrainData,
        collective: Collective = LOCAL,
    ) -> None:
        self._genotype, self._task, self._config = genotype, task, config
        self._device, self._data, self._collective = device, data, collective
        self.network = placed(task.derived(genotype, config), device)
        with torch.no_grad():
            collective.broadcast_([*self.network.parameters(), *self.network.buffers()])
        self._weights = WeightStep(self.network.parameters(), config, collective)
        self._stream = Stream(task, self.network)
        self.history: list[dict[str, Any]] = []
        self._validation: Validation | None = None
        if data.validate is not None:
            self._validation = Validation(self.network, self._weights.optimizer, config)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights count so far: the last one where nothing validates."""
        return self.epoch if self._validation is None else self._validation.course.best

    def take_best(self) -> None:
        """Give the network the weights that count."""
        if self._validation is not None:
            self._validation.take_best()

    def run_epoch(self, shown: Progress) -> dict[str, Any]:
        start, number = time.perf_counter(), self.epoch
        lr = self._weights.start_epoch(number)
        if self._validation is None:
            measured = fields("train", self._task.metrics, self._train(shown))
            measured |= self._measured("test", self._data.test)
        else:
            measured = self._validated(self._validation, shown)
        seconds = round(time.perf_counter() - start, 3)
        line = {"epoch": number + 1, "lr": lr, **measured, "seconds": seconds}
        self.history.append(line)
        return line

    def _validated(self, validation: Validation, shown: Progress) -> dict[str, Any]:
        """Train and validate until it gives numbers, as often as may be; test after the last epoch."""
        part, metrics = self._data.validate, self._task.metrics
        assert part is not None
        validation.start_epoch()
        while True:
            try:
                trained = self._train(shown)
                found = validation.end_epoch(partial(self._evaluated, part))
                break
            except FloatingPointError as error:
                if not validation.roll_back():
                    raise
                self._stream = Stream(self._task, self.network)
                back = f"back to epoch {validation.course.best}"
                count = f"{validation.rollbacks} of {self._config.rollbacks}"
                shown.line(f"epoch {self.epoch + 1}: {error}: {back} ({count})")
                self._weights.start_epoch(self.epoch)
        measured = fields("train", metrics, trained) | fields("val", metrics, found)
        if self.epoch + 1 == self._config.epochs:
            with validation.best_weights():
                measured |= self._measured("test", self._data.test)
        return measured | validation.course.line()

    def _train(self, shown: Progress) -> Means:
        """Pass over the training data; the means of it."""
        number, config, validation = self.epoch, self._config, self._validation
        self._task.start_epoch(self.network, config, number)
        totals = Totals(self._task.metrics, self._collective)
        self.network.train()
        done = 0
        # After a rollback the order of the batches is that of an epoch to come, and so for those after it.
        order = number + (0 if validation is None else validation.rollbacks)
        for batch in self._data.train.epoch(config.seed, order):
            done += 1
            outcome = self._stream.run(batch)
            totals.add(outcome)
            loss = outcome.loss
            if outcome.auxiliary is not None:
                loss = loss + config.auxiliary * outcome.auxiliary
            self._weights(loss, rate_of(self._task, batch, self._device, self._collective))
            if validation is not None:
                validation.after_step()
            self._stream.advance()
            shown.advance(totals)
        check_batches(done, self._data.train, "train part")
        return totals.means()

    def _evaluated(self, part: DataPart) -> Means:
        return evaluate(self.network, self._task, part, collective=self._collective)

    def _measured(self, name: str, part: DataPart) -> dict[str, float | None]:
        return fields(name, self._task.metrics, self._evaluated(part))

    def state_dict(self) -> dict[str, Any]:
        carried = self._stream.state_after()
        check_state(carried, _STREAM)
        return {
            "genotype": plain(self._genotype),
            "config": self._config.flat(),
            "history": self.history,
            "network": self.network.state_dict(),
            "weights": self._weights.optimizer.state_dict(),
            "random": random_state(self._device),
            **({} if self._validation is None else self._validation.state_dict()),
            **({} if carried is None else {_STREAM: carried}),
        }

    def load_state_dict(self, state: dict[str, Any], where: Path) -> None:
        """Go on from a checkpoint, all of which is looked at before any of it is taken.

        Raises:  ValueError: it is none that this run could have written; names ``where`` and the entry.
        """
        validation, config = self._validation, self._config
        course = None
        with naming(where):
            own = self.state_dict()
            later = () if validation is None else (BEST, AVERAGE)
            check_head(state, own, config, optional=(_STREAM, *later))
            if not is_stored(state["genotype"], self._genotype, "genotype"):
                raise ValueError(
                    "expected the checkpoint of this genotype, found one of another: "
                    "give the genotype that was trained there, or choose another folder"
                )
            last = None if validation is None else config.epochs
            line = partial(check_retrain_line, metrics=self._task.metrics, last=last)
            check_history(state["history"], config, line)
            check_state(state.get(_STREAM), _STREAM)
            check_body(state, own, self._weights.optimizer, self.network)
            if validation is not None:
                check_keys(state, (*own, BEST), "the checkpoint", optional=state)
                course = validation.check_state(state, state["history"], len(self._data.train))
        self.history = list(state["history"])
        self.network.load_state_dict(state["network"])
        self._weights.optimizer.load_state_dict(state["weights"])
        set_random_state(state["random"], self._device)
        self._stream.restore(state.get(_STREAM), self._device)
        if validation is not None and course is not None:
            validation.load_state_dict(state, course)
