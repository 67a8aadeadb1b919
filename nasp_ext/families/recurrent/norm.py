# SPDX-License-Identifier: MIT
"""The BatchNorm of a recurrent cell where native calls run in its place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_OWN_CODE = (nn.BatchNorm1d.forward, nn.Module.__call__, F.batch_norm)


def why_norm_plain(norm: nn.Module | None, size: int) -> str | None:
    """Why the norm of a cell is left to PyTorch; None if native calls can stand for it.

    Args:    size: E.
    """
    if norm is None:
        return None
    name = type(norm).__name__
    if type(norm) is not nn.BatchNorm1d or norm.weight is not None or norm.bias is not None:
        return f"{name}: expected BatchNorm1d(affine=False) as the norm of a recurrent cell"
    if "forward" in vars(norm) or (nn.BatchNorm1d.forward, nn.Module.__call__, F.batch_norm) != _OWN_CODE:
        return f"{name}: runs other code than PyTorch's own"
    if norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks or norm._backward_pre_hooks:
        return f"{name}: a hook watches it"
    if not _is_ordinary(norm, size):
        return f"{name}: expected its settings and statistics as BatchNorm1d({size}) makes them"
    return None


def _is_ordinary(norm: nn.BatchNorm1d, size: int) -> bool:
    """Others have errors or rules of their own."""
    mean, var = norm.running_mean, norm.running_var
    if not norm.eps > 0 or not isinstance(norm.momentum, float | int | None):
        return False
    if mean is None or var is None:
        return mean is var
    counts = norm.momentum is not None or norm.num_batches_tracked is not None
    return counts and mean.shape == var.shape == (size,)


def of_batch(norm: nn.BatchNorm1d) -> bool:
    """Whether it takes the statistics of the batch."""
    return norm.training or norm.running_mean is None


@torch.no_grad()
def move_statistics_(norm: nn.BatchNorm1d, norms: Tensor, batch: int) -> None:
    """The running statistics after all states of all time steps, in this order.

    Args:    norms: (T, N + 1, 2, E), mean and biased variance of each.
    """
    mean, var, counted = norm.running_mean, norm.running_var, norm.num_batches_tracked
    if mean is None or var is None:
        return
    found = norms.flatten(0, 1)
    calls = len(found)
    keep: Tensor | float
    if counted is not None:
        counted += calls
    if norm.momentum is None:  # the mean over all calls so far
        assert counted is not None
        keep = (counted - calls).double() / counted
        shares = (1 / counted.double()).to(norms).expand(calls)
    else:
        keep = (1 - norm.momentum) ** calls
        ages = torch.arange(calls - 1, -1, -1, dtype=torch.float64, device=norms.device)
        shares = (norm.momentum * (1 - norm.momentum) ** ages).to(norms)
    moved = torch.einsum("n,nse->se", shares, found)
    mean.mul_(keep).add_(moved[0])
    var.mul_(keep).add_(moved[1], alpha=batch / (batch - 1))
