# SPDX-License-Identifier: MIT
"""Algorithm 1 of Akimoto et al. (2019) for categories, slow and literal: explicit Fisher matrices."""

import math

import torch
from torch import Tensor


def fisher(theta: Tensor) -> Tensor:
    """diag(θ)⁻¹ + 11ᵀ/θ_m of one row in its m - 1 parameters (appendix B)."""
    free = theta[:-1]
    return torch.diag(1 / free) + torch.ones(len(free), len(free), dtype=theta.dtype) / theta[-1]


def project(theta: Tensor, variables: int) -> Tensor:
    """One row, as appendix D prints it."""
    least = 1 / (variables * (len(theta) - 1))
    theta = theta.clamp_min(least)
    return theta + (1 - theta.sum()) / (theta - least).sum() * (theta - least)


class Reference:
    """One run over categories of two options or more, in float64."""

    def __init__(self, categories: list[int], alpha: float = 1.5, delta0: float = 1.0) -> None:
        self.rows = [torch.full((m,), 1 / m, dtype=torch.float64) for m in categories]
        self.alpha, self.delta0, self.shrink, self.gamma = alpha, delta0, 1.0, 0.0
        self.dimension = sum(categories) - len(categories)
        self.s = torch.zeros(self.dimension, dtype=torch.float64)

    def utilities(self, losses: list[float]) -> list[float]:
        """Each rank's utility, then the mean over equal losses."""
        best = math.ceil(len(losses) / 4)
        ranks = [1 / best] * best + [0.0] * (len(losses) - 2 * best) + [-1 / best] * best
        order = sorted(losses)
        return [
            sum(u for u, other in zip(ranks, order, strict=True) if other == loss) / order.count(loss)
            for loss in losses
        ]

    def tell(self, samples: list[list[int]], losses: list[float]) -> None:
        weights = self.utilities(losses)
        if not any(weights):
            return
        delta = self.delta0 / self.shrink
        beta = delta / math.sqrt(self.dimension)
        gradients, whitened, square = [], [], 0.0
        for i, theta in enumerate(self.rows):
            one_hot = torch.eye(len(theta), dtype=torch.float64)
            total = sum(w * (one_hot[c[i]] - theta) for w, c in zip(weights, samples, strict=True))
            gradient = total / len(samples)
            free, last = theta[:-1], theta[-1]
            root = torch.diag(free**-0.5) + free.sqrt()[:, None].T / (last.sqrt() + last)  # A of appendix B
            torch.testing.assert_close(root @ root.T, fisher(theta))
            gradients.append(gradient)
            whitened.append(root.T @ gradient[:-1])
            square += gradient[:-1] @ fisher(theta) @ gradient[:-1]
        norm = math.sqrt(square)
        self.rows = [
            project(theta + delta * g / norm, len(self.rows))
            for theta, g in zip(self.rows, gradients, strict=True)
        ]
        self.s = (1 - beta) * self.s + math.sqrt(beta * (2 - beta)) * torch.cat(whitened) / norm
        self.gamma = (1 - beta) ** 2 * self.gamma + beta * (2 - beta)
        self.shrink *= math.exp(beta * (self.gamma - float(self.s @ self.s) / self.alpha))
