# SPDX-License-Identifier: MIT
"""The BatchNorms of a recurrent cell where native calls run in their place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_OWN_CODE = (nn.BatchNorm1d.forward, nn.Module.__call__, F.batch_norm)


def why_norms_plain(norms: Sequence[nn.Module], states: int, size: int) -> str | None:
    """Why the norms of a cell are left to PyTorch; None if native calls can stand for them.

    Args:    norms: none, or one for each of so many states; size: E.
    """
    if not norms:
        return None
    if len(norms) != states or len(set(norms)) < len(norms):
        return f"{len(set(norms))} norms: expected one for each of {states} states"
    for norm in norms:
        reason = _why_plain(norm, size)
        if reason is not None:
            return f"{type(norm).__name__}: {reason}"
    settings = ("eps", "momentum", "training")
    if len({(norm.running_mean is None, *(getattr(norm, name) for name in settings)) for norm in norms}) > 1:
        return "the norms of the states differ in their settings"
    return None


def _why_plain(norm: nn.Module, size: int) -> str | None:
    if type(norm) is not nn.BatchNorm1d or norm.weight is not None or norm.bias is not None:
        return "expected BatchNorm1d(affine=False) as the norm of a state"
    if "forward" in vars(norm) or (nn.BatchNorm1d.forward, nn.Module.__call__, F.batch_norm) != _OWN_CODE:
        return "it runs other code than PyTorch's own"
    if norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks or norm._backward_pre_hooks:
        return "a hook watches it"
    if not _is_ordinary(norm, size):
        return f"expected its settings and statistics as BatchNorm1d({size}) makes them"
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


def of_batch(norms: Sequence[nn.BatchNorm1d]) -> bool:
    """Whether they take the statistics of the batch."""
    return len(norms) > 0 and (norms[0].training or norms[0].running_mean is None)


def running_statistics(norms: Sequence[nn.BatchNorm1d]) -> tuple[Tensor | None, Tensor | None]:
    """Those (N + 1, E) that stand for those of the batch, if they do, in memory of their own."""
    if not norms or of_batch(norms):
        return None, None
    means, variances = ([getattr(norm, f"running_{part}") for norm in norms] for part in ("mean", "var"))
    return torch.stack(means), torch.stack(variances)


@torch.no_grad()
def move_statistics_(norms: Sequence[nn.BatchNorm1d], found: Tensor, batch: int) -> None:
    """The running statistics after all time steps, in their order.

    Args:    found: (T, N + 1, 2, E), mean and biased variance of each state.
    """
    steps, momentum = len(found), norms[0].momentum
    for number, norm in enumerate(norms):
        mean, var, counted = norm.running_mean, norm.running_var, norm.num_batches_tracked
        if mean is None or var is None or not norm.track_running_stats:
            continue
        keep: Tensor | float
        if counted is not None:
            counted += steps
        if momentum is None:  # the mean over all calls so far
            assert counted is not None
            keep = (counted - steps).double() / counted
            moved = found[:, number].mean(0) * (1 - keep).to(found)
        else:
            keep = (1 - momentum) ** steps
            if number == 0:
                ages = torch.arange(steps - 1, -1, -1, dtype=torch.float64, device=found.device)
                shares = (momentum * (1 - momentum) ** ages).to(found)
                sums = torch.einsum("t,tnse->nse", shares, found)
            moved = sums[number]
        mean.mul_(keep).add_(moved[0])
        var.mul_(keep).add_(moved[1], alpha=batch / (batch - 1))
