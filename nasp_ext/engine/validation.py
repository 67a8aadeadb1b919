# SPDX-License-Identifier: MIT
"""What the validation of a retraining decides: its best epoch, when to average, where a rollback leads."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nasp_ext.config import RetrainConfig
from nasp_ext.engine.accept import check_network, check_weights
from nasp_ext.engine.averaging import WeightAverage, check_averages
from nasp_ext.engine.history import VALIDATED
from nasp_ext.engine.measures import Means
from nasp_ext.engine.training import restored
from nasp_ext.states import check_keys, check_number, check_same, place
from nasp_ext.tasks.base import LOSS

BEST, AVERAGE = "best", "average"  # of a checkpoint


@dataclass
class Course:
    """What the epochs of a validated retraining say of the next one.

    Args:    average_after: as in ``RetrainConfig``.
    """

    average_after: int
    epochs: int = 0
    best: int = 0  # the epoch of least validation loss, the first of equals; 0 = there is none yet
    least: float = math.inf
    averaged: int = 0  # steps in the mean that the last epoch was evaluated with, 0 = plain SGD
    best_averaged: int = 0
    rollbacks: int = 0
    _waiting: int = 0  # the epoch since which a better one is waited for, if that was not the best

    def add(self, loss: float, averaged: int, rollbacks: int) -> None:
        """An epoch ended with this validation loss."""
        if rollbacks > self.rollbacks:
            self._waiting = self.epochs
        self.epochs += 1
        self.averaged, self.rollbacks = averaged, rollbacks
        if loss < self.least:
            self.least, self.best, self.best_averaged = loss, self.epochs, averaged

    def begins(self) -> bool:
        """Whether the next epoch is the first one that averages."""
        waited = self.epochs - max(self.best, self._waiting)
        return not self.averaged and 0 < self.average_after <= waited

    def starts(self, *, rolled_back: bool) -> int | None:
        """Of how many steps the mean is with which the next epoch starts; None = it does not average."""
        if rolled_back:
            return self.best_averaged or None
        return self.averaged if self.averaged or self.begins() else None

    def line(self) -> dict[str, int]:
        """What the history holds of the last epoch beside what was measured."""
        return dict(zip(VALIDATED, (self.best, self.averaged, self.rollbacks), strict=True))


def course_of(history: Sequence[Mapping[str, Any]], config: RetrainConfig, steps: int, name: str) -> Course:
    """The course of a history that was read from a checkpoint.

    Args:    steps: of the weights in an epoch; name: of the history in messages.
    Raises:  ValueError: no run could have come this way; names the line and the field.
    """
    course = Course(config.average_after)
    for number, line in enumerate(history):
        at = place(name, number)
        most = config.rollbacks if number else 0  # there is nothing to go back to before
        check_number(line["rollbacks"], place(at, "rollbacks"), course.rollbacks, most, whole=True)
        start = course.starts(rolled_back=line["rollbacks"] > course.rollbacks)
        averaged = 0 if start is None else start + steps
        course.add(line["val_loss"], averaged, line["rollbacks"])
        for field, value in course.line().items():
            check_same(line[field], value, place(at, field))
    return course


class Validation:
    """The best weights so far, the mean of the weights, and the way back to the best epoch.

    Args:
        network, optimizer: that the retraining moves.
        config: of the retraining.
    Raises:  ValueError: the weights of the network cannot be averaged.
    """

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, config: RetrainConfig) -> None:
        if config.average_after:
            check_averages(network)
        self._network, self._optimizer, self._config = network, optimizer, config
        self._average = WeightAverage(network.parameters())
        self._best: dict[str, Any] | None = None
        self.course = Course(config.average_after)
        self.rollbacks = 0

    def start_epoch(self) -> None:
        """Let averaging begin, if it is time."""
        if self.course.begins():
            self._average.begin()

    def after_step(self) -> None:
        """Count the weights of a step in their mean."""
        self._average.add()

    def end_epoch(self, measure: Callable[[], Means]) -> Means:
        """Measure with the weights that count, and keep them if they are the best."""
        with self._average.evaluated():
            found = measure()
            better = found[LOSS.name] < self.course.least
            evaluated = _copied(self._network.state_dict()) if better else {}
        if better:
            back = self._now(evaluated) if self._config.rollbacks else None
            self._best = {"network": evaluated, "back": back}
        self.course.add(found[LOSS.name], self._average.steps, self.rollbacks)
        return found

    def _now(self, evaluated: dict[str, Any]) -> dict[str, Any]:
        """All that an epoch changes but the random numbers; shares the network that was evaluated."""
        average = self._average.state_dict()
        return {
            "network": evaluated if average is None else _copied(self._network.state_dict()),
            "weights": copy.deepcopy(self._optimizer.state_dict()),
            "average": average,
        }

    def roll_back(self) -> bool:
        """Go back to the best epoch; False if there is none, or that was done as often as it may be."""
        if self._best is None or self.rollbacks >= self._config.rollbacks:
            return False
        back = self._best["back"]
        self._network.load_state_dict(back["network"])
        self._optimizer.load_state_dict(copy.deepcopy(back["weights"]))  # or its steps would change these
        self._average.load_state_dict(back["average"])
        self.rollbacks += 1
        return True

    def take_best(self) -> None:
        """Give the network the weights of the best epoch, as they were evaluated."""
        assert self._best is not None
        self._network.load_state_dict(self._best["network"])

    @contextmanager
    def best_weights(self) -> Iterator[None]:
        """Inside, the network has the weights of the best epoch."""
        with restored([*self._network.parameters(), *self._network.buffers()]):
            self.take_best()
            yield

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it; nothing before the first epoch ended."""
        if self._best is None:
            return {}
        average = self._average.state_dict()
        return {BEST: self._best, **({} if average is None else {AVERAGE: average})}

    def check_state(
        self, state: Mapping[str, Any], history: Sequence[Mapping[str, Any]], steps: int
    ) -> Course:
        """The course of a checkpoint whose lines have been looked at, one by one.

        Raises:  ValueError: it is none that this run could have written.
        """
        course = course_of(history, self._config, steps, "history")
        self._average.check_state(state.get(AVERAGE), course.averaged, AVERAGE)
        best, own = state[BEST], self._network.state_dict()
        check_keys(best, ("network", "back"), BEST)
        check_network(best["network"], own, "best.network")
        back, rate = best["back"], history[course.best - 1]["lr"]
        if not self._config.rollbacks:
            check_same(back, None, "best.back")
            return course
        check_keys(back, ("network", "weights", "average"), "best.back")
        check_network(back["network"], own, "best.back.network")
        check_weights(back["weights"], self._optimizer, self._network, rate, "best.back.weights")
        self._average.check_state(back["average"], course.best_averaged, "best.back.average")
        return course

    def load_state_dict(self, state: Mapping[str, Any], course: Course) -> None:
        """Go on from a checkpoint, whose course ``check_state`` gave."""
        self._best, self.course, self.rollbacks = state[BEST], course, course.rollbacks
        self._average.load_state_dict(state.get(AVERAGE))


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in state.items()}
