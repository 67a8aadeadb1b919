# SPDX-License-Identifier: MIT
"""Categorical variables in expectation parameters (Akimoto et al., ICML 2019, appendices B and D)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nasp_ext.optim.distribution import Distribution, held
from nasp_ext.states import check_tensor


class Categoricals(Distribution):
    """Categorical variables: θ (K, B, n), the probabilities of the options; 0 where a row has fewer options.

    Args:
        categories: the number of options of each variable.
        runs: B.
        theta_min: least probability of an option; None = 1 / (n_c (m - 1)) for the n_c variables that have
            m > 1 options (appendix D). Where fewer than three such variables would leave a row no room
            below 1 (n_c = 1, or two of two options), they count as three.
    Raises:
        ValueError: no option, or a theta_min that leaves no room.
    """

    def __init__(
        self, categories: Sequence[int], runs: int, dtype: torch.dtype, theta_min: float | None = None
    ) -> None:
        sizes = [int(m) for m in categories]
        if any(m < 1 for m in sizes) or sizes != list(categories):
            raise ValueError(f"expected categories to be whole numbers >= 1, got {list(categories)}")
        self.sizes = torch.tensor(sizes, dtype=torch.int64)
        self.variables, self.dimension = len(sizes), sum(sizes) - len(sizes)
        options = torch.arange(max(sizes, default=0))[:, None]
        self.exists = options < self.sizes  # (K, n)
        free = options < self.sizes - 1  # the m - 1 options that are parameters
        self._free = free[:, None].to(dtype)
        self._beyond = torch.where(free[:, None], 0.0, math.inf).to(dtype)[:-1]
        self._missing = (~self.exists)[:, None].to(dtype)
        self._last = 1 - self._free - self._missing
        least = self._least(theta_min)
        if theta_min is not None and not bool(((least > 0) & (least * self.sizes < 1))[self.sizes > 1].all()):
            largest = 1 / max(sizes)
            raise ValueError(f"expected theta_min in (0, 1/m) = (0, {largest:.3g}), got {theta_min}")
        self._floor = (least * self.exists)[:, None].to(dtype)  # (K, 1, n)
        self._room = 1 - self._floor.sum(0)
        start = (self.exists.to(dtype) / self.sizes)[:, None]
        self.state = {"theta": start.repeat(1, runs, 1)}

    def _least(self, theta_min: float | None) -> Tensor:
        """θ_min of each variable, (n,); 0 where there is only one option."""
        several = self.sizes > 1
        if theta_min is not None:
            return several.double() * theta_min
        count, others = several.sum().double(), (self.sizes - 1).clamp_min(1).double()
        counted = count.where(self.sizes < count * others, 3)
        return several / (counted * others)

    @property
    def theta(self) -> Tensor:
        """(K, B, n)."""
        return self.state["theta"]

    def zeros(self) -> Tensor:
        return torch.zeros_like(self.theta)

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        theta = self.theta
        uniform = torch.rand(samples, *theta.shape[1:], dtype=theta.dtype, generator=generator)
        bounds = theta[:-1].cumsum(0).add_(self._beyond)  # never reached from the last option on
        return (uniform >= bounds[:, None]).sum(0)

    def shown(self, raw: Tensor) -> Tensor:
        return raw

    def read(self, values: Tensor) -> Tensor:
        raw = values.to(torch.int64)
        wrong = (raw != values) | (raw < 0) | (raw >= self.sizes)
        if bool(wrong.any()):
            column = int(wrong.nonzero()[0, -1])
            found = values[..., column][wrong[..., column]][0].item()
            options = int(self.sizes[column]) - 1
            raise ValueError(f"expected samples[…, {column}] to be an option in 0..{options}, got {found}")
        return raw

    def gradient(self, raw: Tensor, weights: Tensor) -> Tensor:
        # mean of u (T(c) - θ) = mean of u T(c), for the utilities sum to 0.
        total = self.zeros().scatter_add_(0, raw, weights.expand(raw.shape))
        return total.div_(raw.shape[0])

    def whiten(self, gradient: Tensor) -> Tensor:
        """s_j = G_j / √θ_j + √θ_j ΣG / (θ_m + √θ_m) for j < m, ΣG over j < m (appendix B); 0 elsewhere."""
        root = (self.theta + self._missing).sqrt_()
        free = gradient * self._free
        last_root = (root * self._last).sum(0)
        white = free / root
        return white.addcmul_(root * self._free, free.sum(0) / (last_root * last_root + last_root))

    def move_(self, step: Tensor, still: Tensor) -> None:
        """Clip up to θ_min, then shrink the excess over θ_min so that a row sums to 1 (appendix D)."""
        excess = (self.theta + step - self._floor).clamp_min_(0)
        moved = excess.mul_(self._room / excess.sum(0)).add_(self._floor)
        self.state["theta"] = held(moved, self.theta, still)

    def check_state(self, found: dict[str, Tensor], name: str) -> None:
        theta, room = found["theta"], 1e-5  # of rounding
        sums = bool(((theta.sum(0) - 1).abs() <= room).all())
        if not sums or bool((theta < 0).any()) or bool(theta.movedim(1, -1)[~self.exists].any()):
            raise ValueError(f"expected {name}.theta to hold probabilities that sum to 1, found others")

    def check_draws(self, found: object, samples: int, name: str) -> None:
        like = torch.zeros((), dtype=torch.int64).expand(samples, *self.theta.shape[1:])
        check_tensor(found, like, name, low=0)
        if not bool((torch.as_tensor(found) < self.sizes).all()):
            raise ValueError(f"expected {name} to hold options, found a number beyond them")

    def mode(self) -> Tensor:
        return self.theta.argmax(0)
