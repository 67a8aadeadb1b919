# SPDX-License-Identifier: MIT
"""What a task is to the engine: networks that fit its data, batches, a loss and what else is measured."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.checks import MOST_IMAGES, check_whole
from nasp_ext.config import RetrainConfig, SearchConfig, TrainingConfig

Shard = tuple[int, int]
WHOLE: Shard = (0, 1)  # one process that sees all of the data


@dataclass(frozen=True)
class Metric:
    """Something that is measured beside the loss: a mean over the examples of a part of the data.

    Args:
        name: of the fields of a history, ``train_<name>``, ``val_<name>``, ``test_<name>`` …
        format: how a value is printed, a format specification of Python.
        higher_is_better: whether a larger value is a better one.
        low, high: what a value may be at least and at most; None = any number.
        of_mean: from the mean to the value that is shown, stored and compared, such as ``math.exp`` from a
            mean cross-entropy to the perplexity; None = the mean itself.
    Raises:
        ValueError: the name is no word of lower-case letters, digits and _, the format none of a number, or
            ``low`` is above ``high``. TypeError: ``of_mean`` cannot be called.

    >>> Metric("accuracy", ".1%", low=0, high=1).text(0.915)
    'accuracy 91.5%'
    >>> round(Metric("perplexity", ".2f", higher_is_better=False, low=1, of_mean=math.exp).value(4.0), 2)
    54.6
    """

    name: str
    format: str = ".3f"
    higher_is_better: bool = True
    low: float | None = None
    high: float | None = None
    of_mean: Callable[[float], float] | None = None

    def __post_init__(self) -> None:
        word = isinstance(self.name, str) and self.name.isidentifier() and self.name.islower()
        if not word:
            raise ValueError(f"expected the name of a metric in lower case, got {self.name!r}")
        try:
            self.shown(0.5)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"expected the format of metric {self.name!r} to be one of a number, such as .3f, "
                f"got {self.format!r}"
            ) from error
        if self.low is not None and self.high is not None and not self.low <= self.high:
            raise ValueError(f"expected low <= high of metric {self.name!r}, got {self.low} and {self.high}")
        if self.of_mean is not None and not callable(self.of_mean):
            raise TypeError(
                f"expected of_mean of metric {self.name!r} to be a function, got {self.of_mean!r}"
            )

    def value(self, mean: float) -> float:
        """What histories hold where the mean over the examples is ``mean``.

        Raises:
            FloatingPointError: it is too large for a number. ValueError: ``of_mean`` has none for this mean.
        """
        if self.of_mean is None:
            return mean
        try:
            found = self.of_mean(mean)
        except OverflowError:
            found = math.inf
        except ValueError as error:
            raise ValueError(f"expected of_mean of metric {self.name!r} to take {mean}: {error}") from error
        if found == math.inf:
            raise FloatingPointError(
                f"expected a finite {self.name}, found that of a mean of {mean:g}: the run has diverged, use "
                "a smaller learning rate (--lr)"
            )
        return found

    def shown(self, value: float) -> str:
        """A value as it is printed."""
        return format(value, self.format)

    def text(self, value: float) -> str:
        """A value with its name."""
        return f"{self.name} {self.shown(value)}"


LOSS = Metric("loss", higher_is_better=False)  # what every task has, and histories name first


@dataclass(frozen=True)
class Outcome:
    """What one batch gives.

    Args:
        loss: () mean over the examples of the batch, with a graph where gradients are on: what histories hold
            and architectures are compared by.
        sums: of each metric of the task by its name, () the sum over the examples, on the device.
        count: examples.
        state: what the next batch of the same part of the data continues, such as a hidden state: None, a
            tensor, or lists, tuples and dicts of them. It is detached before it is given back.
        auxiliary: () the loss of a second output of a derived network, of which a retraining adds
            ``config.auxiliary`` times to what the weights go down; None = there is none.
    """

    loss: Tensor
    sums: Mapping[str, Tensor] = field(default_factory=dict)
    count: int = 1
    state: Any = None
    auxiliary: Tensor | None = None

    def __post_init__(self) -> None:
        """Raise TypeError for a part of another type, ValueError for a batch without an example."""
        if not isinstance(self.sums, Mapping):
            raise TypeError(f"expected sums by the names of metrics, got {type(self.sums).__name__}")
        scalars = {"loss": self.loss, **{f"sums[{name!r}]": value for name, value in self.sums.items()}}
        if self.auxiliary is not None:
            scalars["auxiliary"] = self.auxiliary
        for name, value in scalars.items():
            if not isinstance(value, Tensor) or value.dim():
                found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"expected {name} of an outcome to be a tensor (), got {found}")
        check_whole("count of an outcome", self.count, 1, MOST_IMAGES)


@runtime_checkable
class DataPart(Protocol):
    """One part of the data of a task, batch by batch."""

    def __len__(self) -> int:
        """Batches per epoch, one or more."""

    def epoch(self, seed: int = 0, epoch: int = 0) -> Iterator[Any]:
        """The batches of an epoch on the device of the part; (seed, epoch) fixes order and augmentation."""


@dataclass(frozen=True)
class SearchData:
    """The parts of the data of a search.

    Args:
        train: trains the weights; steer: moves the architecture, as many batches as ``train``.
        validate: what the architecture of each epoch is evaluated on.
    """

    train: DataPart
    steer: DataPart
    validate: DataPart

    def first_batches(self, seed: int, epoch: int, count: int) -> Iterator[Any]:
        """The first ``count`` batches that train the weights in an epoch, as these saw them."""
        return islice(self.train.epoch(seed, epoch), count)


class Task(ABC):
    """What is searched for: networks, data, loss, metrics. The engine knows of a task what stands here.

    A shard (rank, ranks) of a part of the data is what one of several processes sees of it: parts that train
    have as many batches in every process, and together the processes see every example that is evaluated.

    Attributes:
        metrics: what ``run`` sums beside the loss, in the order of histories.
        without: names of settings of a ``SearchConfig`` or ``RetrainConfig`` that mean nothing to this task:
            a run that sets one of them to another value than its default is refused.
    """

    metrics: tuple[Metric, ...] = ()
    without: tuple[str, ...] = ()

    @abstractmethod
    def supernet(self, space: SearchSpace, config: SearchConfig) -> nn.Module:
        """A fresh network with every option of ``space``; random weights from PyTorch's generator."""

    @abstractmethod
    def derived(self, genotype: Any, config: RetrainConfig) -> nn.Module:
        """A fresh network of one genotype."""

    @abstractmethod
    def search_batches(self, config: SearchConfig, device: torch.device, shard: Shard = WHOLE) -> SearchData:
        """The parts of a search: the same ones for the same seed."""

    @abstractmethod
    def training_batches(self, config: RetrainConfig, device: torch.device, shard: Shard = WHOLE) -> DataPart:
        """What a derived network trains on."""

    def validation_batches(
        self, config: RetrainConfig, device: torch.device, shard: Shard = WHOLE
    ) -> DataPart | None:
        """What chooses the epoch of a retraining that is tested, each example once; None = the last counts.

        With it a retraining evaluates this part after each epoch, and the test part once, at the end, with
        the weights of the epoch of least validation loss.
        """
        return None

    @abstractmethod
    def test_batches(self, config: TrainingConfig, device: torch.device, shard: Shard = WHOLE) -> DataPart:
        """What a network is tested on, each example once."""

    @abstractmethod
    def run(self, network: nn.Module, batch: Any, gates: Gates | None = None, state: Any = None) -> Outcome:
        """Run a batch through a network of this task.

        Args:
            network: a supernet, or a derived one.
            batch: of a part of the data.
            gates: the architecture, for a supernet; None for a derived network.
            state: what the ``Outcome`` of the batch before held, detached; None at the start.
        """

    def rate(self, batch: Any) -> float:
        """What the learning rate of the weights is multiplied by in the step on a batch, 0 or more.

        Such as its length over the mean length, where sequences of different lengths train.
        """
        return 1.0

    def start_epoch(  # noqa: B027  nothing depends on the epoch unless a task says so
        self, network: nn.Module, config: RetrainConfig, epoch: int
    ) -> None:
        """Called before each epoch, from 0, in which a derived network trains, to set what depends on it."""
