# SPDX-License-Identifier: MIT
"""From losses to utilities: all that an evolutionary step keeps of a loss is its rank."""

import math

import torch
from torch import Tensor


def utilities(losses: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Weights of the samples in a natural gradient step (Akimoto et al. 2019, sec. 2.4).

    The best μ = ⌈λ/4⌉ samples get 1/μ, the worst μ get -1/μ, the others 0; equal losses share the mean of
    what their ranks would get, so that they sum to 0 and are all 0 where every loss is equal. Only the order
    counts: any increasing function of the losses gives the same. NaN ranks with +inf, last.

    Args:
        losses: (..., λ) with λ >= 2, lower is better, any sign.
        dtype: of the result.
    Returns:
        (..., λ).

    >>> utilities(torch.tensor([-3.0, 0.5, -3.0, 7.0, float("nan")]))
    tensor([ 0.5000,  0.0000,  0.5000, -0.5000, -0.5000], dtype=torch.float64)
    """
    samples = losses.shape[-1]
    best = math.ceil(samples / 4)
    sums = torch.zeros(samples + 1, dtype=dtype, device=losses.device)  # sums[r]: of the first r ranks
    sums[1 : best + 1] = 1
    sums[samples - best + 1 :] = -1
    sums = sums.cumsum(0)
    losses = losses.where(~losses.isnan(), math.inf) if losses.is_floating_point() else losses
    losses = losses.contiguous()
    ordered = losses.sort(-1).values
    below = torch.searchsorted(ordered, losses)
    up_to = torch.searchsorted(ordered, losses, right=True)
    return (sums[up_to] - sums[below]) / (best * (up_to - below))
