# SPDX-License-Identifier: MIT
"""What the search and the retraining share: SGD with a cosine rate, fixed randomness."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from nasp_ext.config import TrainingConfig
from nasp_ext.engine.collectives import LOCAL, Collective
from nasp_ext.nn import plain_modules
from nasp_ext.tasks.base import Task


def cosine(epoch: int, epochs: int, first: float, last: float) -> float:
    """Learning rate of an epoch: from ``first`` down to (one step before) ``last`` along half a cosine.

    >>> [round(cosine(e, 4, 1.0, 0.0), 3) for e in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    return last + (first - last) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def rate_of(task: Task, batch: Any, device: torch.device, collective: Collective = LOCAL) -> float:
    """``task.rate`` of a batch, its mean over the processes, whose steps have to be one and the same.

    Raises:  TypeError: it is no number; ValueError: it is negative or not finite.
    """
    rate = task.rate(batch)
    name = f"{type(task).__name__}.rate"
    if not isinstance(rate, int | float) or isinstance(rate, bool):
        raise TypeError(f"expected {name} to give a number, got {type(rate).__name__}")
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"expected {name} to give a finite number >= 0, got {rate}")
    if collective.size == 1:
        return rate
    shared = torch.tensor(rate, device=device)
    collective.mean_([shared])
    return float(shared)


class WeightStep:
    """SGD on the weights of a network with clipped gradients, the same in all processes."""

    def __init__(
        self, parameters: Iterable[Tensor], config: TrainingConfig, collective: Collective = LOCAL
    ) -> None:
        self._config, self._collective = config, collective
        self._parameters = list(parameters)
        self.optimizer = torch.optim.SGD(
            self._parameters,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            foreach=True,  # not the default on a CPU, where it is faster as well
        )

    def start_epoch(self, epoch: int) -> float:
        """Set and return the learning rate of this epoch."""
        lr = cosine(epoch, self._config.epochs, self._config.lr, self._config.lr_min)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def __call__(self, loss: Tensor, rate: float = 1.0) -> None:
        """One step down ``loss``; weights that took no part in it stay as they are.

        Args:    rate: what the learning rate of the epoch is multiplied by for this step.
        """
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._collective.mean_([p.grad for p in self._parameters if p.grad is not None])
        torch.nn.utils.clip_grad_norm_(self._parameters, self._config.clip)
        with scaled_rate(self.optimizer, rate):
            self.optimizer.step()


@contextmanager
def scaled_rate(optimizer: torch.optim.Optimizer, rate: float) -> Iterator[None]:
    """Inside, the learning rates of an optimizer are multiplied by ``rate``."""
    rates = [group["lr"] for group in optimizer.param_groups]
    try:
        for group, lr in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * lr
        yield
    finally:
        for group, lr in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = lr


@contextmanager
def fixed_randomness(config: TrainingConfig, device: torch.device) -> Iterator[None]:
    """Seed PyTorch, set its threads and whether cells are fused inside; all is as before outside."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        try:
            if config.threads is not None:
                torch.set_num_threads(config.threads)
            with plain_modules(not config.fused):
                yield
        finally:
            torch.set_num_threads(threads)


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of PyTorch's generators, for a checkpoint."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Go on with the random numbers that ``random_state`` was taken before."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def restored(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Copies of the tensors, which hold these values again afterwards, in whatever way the block ends."""
    saved = [tensor.detach().clone() for tensor in tensors]
    try:
        yield saved
    finally:
        copy_(tensors, saved)


@torch.no_grad()
def copy_(tensors: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    """Write each value into its tensor; values beyond the last tensor are left out, and the reverse."""
    for tensor, value in zip(tensors, values, strict=False):
        tensor.copy_(value)
