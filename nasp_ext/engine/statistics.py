# SPDX-License-Identifier: MIT
"""Statistics of BatchNorm for the one architecture that is evaluated (as in SPOS, Guo et al., ECCV 2020).

The running statistics of a supernet are those of what was trained: a mixture, or many architectures in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasp_ext.engine.training import random_state, restored, set_random_state

Forward = Callable[[Tensor], object]


@torch.no_grad()
def reestimate_(network: nn.Module, forward: Forward, images: Iterable[Tensor]) -> None:
    """Set the running statistics to their mean over batches that run in training mode.

    Layers that ``forward`` does not run keep theirs. Modes, momenta and the state of PyTorch's generators
    are put back, also if something raises.

    Args:
        network: its BatchNorms get the statistics; forward: runs a batch through it.
        images: batches, (B, C, H, W) each; none leave everything as it is.

    >>> net = nn.BatchNorm2d(1)
    >>> reestimate_(net, net, [torch.full((2, 1, 1, 1), 2.0), torch.full((2, 1, 1, 1), 4.0)])
    >>> net.running_mean
    tensor([3.])
    """
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    modes = [(part, part.training) for part in network.modules()]
    momenta = [norm.momentum for norm in norms]
    device = next(network.buffers(), torch.empty(0)).device
    random = random_state(device)
    network.train()
    try:
        for number, x in enumerate(images, 1):
            for norm in norms:  # a mean of all so far; momentum=None would be one, but no cell is fused then
                norm.momentum = 1 / number
            forward(x)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for part, training in modes:
            part.training = training
        set_random_state(random, device)


@contextmanager
def own_statistics(network: nn.Module, forward: Forward, images: Iterable[Tensor]) -> Iterator[None]:
    """Inside, BatchNorms have the statistics that ``reestimate_`` gives; all buffers are put back after.

    Args:    as for ``reestimate_``.
    """
    with restored(list(network.buffers())):
        reestimate_(network, forward, images)
        yield
