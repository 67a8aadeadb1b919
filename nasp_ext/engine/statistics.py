# SPDX-License-Identifier: MIT
"""Statistics of BatchNorm for the one architecture that is evaluated (as in SPOS, Guo et al., ECCV 2020).

The running statistics of a supernet are those of what was trained: a mixture, or many architectures in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasp_ext.arch.gates import Gates
from nasp_ext.engine.stream import Stream
from nasp_ext.engine.training import random_state, restored, set_random_state
from nasp_ext.tasks.base import Task

Forward = Callable[[Any], object]


@torch.no_grad()
def reestimate_(network: nn.Module, forward: Forward, batches: Iterable[Any]) -> None:
    """Set the running statistics to their mean over batches that run in training mode.

    Of a layer that runs more than once in a batch, as in each time step of a recurrent cell, it is the mean
    over all of its calls; the first batch runs twice then. Layers that ``forward`` does not run keep theirs.
    Modes, momenta and the state of PyTorch's generators are put back, also if something raises.

    Args:
        network: its BatchNorms get the statistics; forward: runs a batch through it.
        batches: what ``forward`` takes, one after the other; none leave everything as it is.

    >>> net = nn.BatchNorm2d(1)
    >>> reestimate_(net, net, [torch.full((2, 1, 1, 1), 2.0), torch.full((2, 1, 1, 1), 4.0)])
    >>> net.running_mean
    tensor([3.])
    """
    norms = _norms(network)
    if not norms:
        return
    modes = [(part, part.training) for part in network.modules()]
    momenta = [norm.momentum for norm in norms]
    device = next(network.buffers(), torch.empty(0)).device
    random = random_state(device)
    network.train()
    try:
        calls, repeated = norm_calls(network), list[_BatchNorm]()
        for number, batch in enumerate(batches, 1):
            for norm in norms:  # a mean of all so far; momentum=None would be one, but no cell is fused then
                norm.momentum = None if norm in repeated else 1 / number
            forward(batch)
            if number == 1:
                repeated = repeated_norms(network, calls)
                for norm in repeated:  # which have the statistics of their last call by now
                    norm.reset_running_stats()
                    norm.momentum = None
                if repeated:
                    forward(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for part, training in modes:
            part.training = training
        set_random_state(random, device)


def has_running_statistics(network: nn.Module) -> bool:
    """Whether a BatchNorm has any to be set; others take those of each batch."""
    return bool(_norms(network))


def norm_calls(network: nn.Module) -> list[int]:
    """How often each BatchNorm with running statistics has run in training mode; one host copy."""
    counts = [norm.num_batches_tracked for norm in _norms(network)]
    known = [count for count in counts if count is not None]
    found: list[int] = torch.stack(known).tolist() if known else []
    return found


def repeated_norms(network: nn.Module, before: Sequence[int]) -> list[_BatchNorm]:
    """Those that have run more than once since ``norm_calls`` was ``before``."""
    counting = [norm for norm in _norms(network) if norm.num_batches_tracked is not None]
    calls = zip(counting, before, norm_calls(network), strict=True)
    return [norm for norm, then, now in calls if now > then + 1]


def _norms(network: nn.Module) -> list[_BatchNorm]:
    """The layers with running statistics; others have those of each batch."""
    found = (part for part in network.modules() if isinstance(part, _BatchNorm))
    return [norm for norm in found if norm.running_mean is not None]


@contextmanager
def own_statistics(network: nn.Module, forward: Forward, batches: Iterable[Any]) -> Iterator[None]:
    """Inside, BatchNorms have the statistics that ``reestimate_`` gives; all buffers are put back after.

    Args:    as for ``reestimate_``.
    """
    with restored(list(network.buffers())):
        reestimate_(network, forward, batches)
        yield


def task_statistics(
    task: Task, network: nn.Module, gates: Gates, batches: Iterable[Any]
) -> AbstractContextManager[None]:
    """``own_statistics`` of batches of a task at these gates."""
    return own_statistics(network, _running(task, network, gates), batches)


def reestimate_derived_(task: Task, network: nn.Module, batches: Iterable[Any]) -> None:
    """``reestimate_`` of batches of a task through a derived network."""
    reestimate_(network, _running(task, network, None), batches)


def _running(task: Task, network: nn.Module, gates: Gates | None) -> Forward:
    stream = Stream(task, network)

    def forward(batch: Any) -> None:
        stream.run(batch, gates)
        stream.advance()

    return forward
