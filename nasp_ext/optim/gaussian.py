# SPDX-License-Identifier: MIT
"""Whole and real variables from Gaussians (Akimoto et al., ICML 2019, appendices C and D)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nasp_ext.optim.distribution import Distribution, held
from nasp_ext.states import check_tensor

Ranges = Sequence[tuple[float, float]]


class Gaussians(Distribution):
    """Whole or real variables from Gaussians: mean and variance (B, n), the parameters being (μ, μ² + σ²).

    Steps are taken in (μ, μ² + σ²) but written around the present mean: with d = c - μ the gradient is
    (G₁, H) = (mean u d, mean u (d² - σ²)), H = G₂ - 2μG₁. Then nothing cancels at a large mean, and adding
    ε (G₁, G₂) makes μ + ε G₁ and σ² + ε H - (ε G₁)².

    Args:
        ranges: (low, high) of each variable.
        whole: whether its values are whole numbers.
        runs: B.
        sigma_min: the least σ of each variable; the largest is (high - low) / 2.
    """

    def __init__(
        self,
        ranges: Sequence[tuple[float, float]],
        whole: Sequence[bool],
        runs: int,
        dtype: torch.dtype,
        sigma_min: Sequence[float],
    ) -> None:
        self.variables, self.dimension = len(ranges), 2 * len(ranges)
        low, high = torch.tensor(ranges, dtype=dtype).reshape(-1, 2).unbind(1)
        self._low, self._high, self._whole = low, high, torch.tensor(whole, dtype=torch.bool)
        self._least = torch.tensor(sigma_min, dtype=dtype) ** 2
        self._most = ((high - low) / 2) ** 2
        self.state = {
            "mean": ((low + high) / 2).repeat(runs, 1),
            "variance": self._most.repeat(runs, 1),
        }

    @property
    def mean(self) -> Tensor:
        """(B, n)."""
        return self.state["mean"]

    @property
    def variance(self) -> Tensor:
        """(B, n)."""
        return self.state["variance"]

    def zeros(self) -> Tensor:
        return self.mean.new_zeros(2, *self.mean.shape)

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Antithetic pairs μ ± σz; of an odd number of samples one has no partner."""
        mean, pairs = self.mean, (samples + 1) // 2
        z = torch.randn(pairs, *mean.shape, dtype=mean.dtype, generator=generator)
        return mean + self.variance.sqrt() * torch.cat([z, -z[: samples - pairs]])

    def shown(self, raw: Tensor) -> Tensor:
        values = raw.clamp(self._low, self._high)
        return torch.where(self._whole, values.round(), values)

    def read(self, values: Tensor) -> Tensor:
        if not bool(values.isfinite().all()):
            raise ValueError("expected samples to hold finite numbers, got NaN or infinite ones")
        return values.to(self.mean.dtype)

    def gradient(self, raw: Tensor, weights: Tensor) -> Tensor:
        away = raw - self.mean
        square = away.square().sub_(self.variance)
        return torch.stack([(weights * away).mean(0), (weights * square).mean(0)])

    def whiten(self, gradient: Tensor) -> Tensor:
        """(G₁ / σ, (G₂ - 2μG₁) / (√2 σ²)): with A = [1/σ, -√2μ/σ²; 0, 1/(√2σ²)], A A^T = F."""
        first, second = gradient
        return torch.stack([first / self.variance.sqrt(), second / (math.sqrt(2) * self.variance)])

    def move_(self, step: Tensor, still: Tensor) -> None:
        """Clip the mean to its range and σ to [σ_min, (high - low) / 2] (appendix D)."""
        first, second = step
        mean = (self.mean + first).clamp(self._low, self._high)
        variance = (self.variance + second - first * first).clamp(self._least, self._most)
        self.state["mean"] = held(mean, self.mean, still)
        self.state["variance"] = held(variance, self.variance, still)

    def check_state(self, found: dict[str, Tensor], name: str) -> None:
        ranges = {"mean": (self._low, self._high), "variance": (self._least, self._most)}
        for key, (low, high) in ranges.items():
            if not bool(((found[key] >= low) & (found[key] <= high)).all()):
                raise ValueError(f"expected {name}.{key} within the ranges of the variables, found others")

    def check_draws(self, found: object, samples: int, name: str) -> None:
        check_tensor(found, self.mean[:1, :1].new_zeros(()).expand(samples, *self.mean.shape), name)

    def mode(self) -> Tensor:
        return self.shown(self.mean)


def gaussians(
    integers: Ranges, reals: Ranges, real_sigma_min: float, runs: int, dtype: torch.dtype
) -> Gaussians:
    """Whole variables first, σ in [1/4, (high - low) / 2]; then real ones.

    Raises:  ValueError: a range that is none, or a sigma_min outside (0, 1/2].
    """
    for low, high in integers:
        if not (float(low).is_integer() and float(high).is_integer() and low < high):
            raise ValueError(f"expected integers as (low, high), whole and low < high, got {(low, high)}")
    for low, high in reals:
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"expected reals as (low, high), finite and low < high, got {(low, high)}")
    if not 0 < real_sigma_min <= 0.5:
        raise ValueError(f"expected real_sigma_min in (0, 0.5], got {real_sigma_min}")
    least = [0.25] * len(integers) + [real_sigma_min * (high - low) for low, high in reals]
    kinds = [True] * len(integers) + [False] * len(reals)
    return Gaussians([*integers, *reals], kinds, runs, dtype, least)
