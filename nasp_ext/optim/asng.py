# SPDX-License-Identifier: MIT
"""ASNG, and the step rules it is compared with (Akimoto et al., ICML 2019, Alg. 1 and sec. 3.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nasp_ext.optim.gaussian import Ranges
from nasp_ext.optim.natural import Blocks, NaturalGradient, squared_norm
from nasp_ext.optim.natural_arguments import check_number


class ASNG(NaturalGradient):
    """Adaptive stochastic natural gradient: the step δ follows the signal-to-noise ratio of the gradient.

    s and γ accumulate the normalised whitened gradient and its squared norm; δ = δ⁰ / Δ shrinks while
    ‖s‖² / γ < α and grows while it is larger (Alg. 1, lines 2, 6-8), at the rate β = δ / √n_θ, at most 1.

    Args:
        alpha: α > 1.
        delta_max: the largest Δ, i.e. δ never falls below δ⁰ / delta_max.
        categories, integers, lam, delta0, generator and the keywords: see ``NaturalGradient``.

    >>> search = ASNG([3, 5, 2], generator=torch.Generator().manual_seed(0))
    >>> for _ in range(300):
    ...     samples = search.ask()
    ...     search.tell(samples, (samples - torch.tensor([2, 4, 0])).abs().sum(-1))
    >>> search.mle()
    tensor([2, 4, 0])
    """

    def __init__(
        self,
        categories: Sequence[int],
        integers: Ranges | None = None,
        lam: int = 2,
        alpha: float = 1.5,
        delta0: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
        *,
        delta_max: float = math.inf,
        reals: Ranges | None = None,
        theta_min: float | None = None,
        real_sigma_min: float = 1e-3,
        runs: int | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        check_number("alpha", alpha, 1)
        if not delta_max >= 1:
            raise ValueError(f"expected delta_max >= 1, the start of Δ, got {delta_max}")
        super().__init__(
            categories,
            integers,
            lam,
            delta0,
            generator,
            reals=reals,
            theta_min=theta_min,
            real_sigma_min=real_sigma_min,
            runs=runs,
            dtype=dtype,
        )
        self._alpha, self._delta_max = alpha, delta_max
        self._state["Delta"] = torch.ones_like(self._delta0)
        self._state["gamma"] = torch.zeros_like(self._delta0)
        self._s = self._zeros()

    def _blocks(self) -> dict[str, Blocks]:
        return {"s": self._s}

    def _advance(self, unit: Blocks, white: Blocks, moves: Tensor) -> Blocks:
        shrink, gamma = self._state["Delta"], self._state["gamma"]
        delta = self._delta0 / shrink
        beta = (delta / math.sqrt(self.dimension)).clamp_max(1) * moves  # 0 leaves s, γ and Δ as they are
        fresh = (beta * (2 - beta)).sqrt()
        for s, w in zip(self._s, white, strict=True):
            s.mul_((1 - beta)[:, None]).addcmul_(w, fresh[:, None])
        gamma.mul_((1 - beta) ** 2).add_(beta * (2 - beta))
        shrink.mul_((beta * (gamma - squared_norm(self._s) / self._alpha)).exp()).clamp_max_(self._delta_max)
        return [g.mul_(delta[:, None]) for g in unit]

    @property
    def delta(self) -> Tensor:
        return self._public(self._delta0 / self._state["Delta"])

    def report(self) -> dict[str, Tensor]:
        """The numbers of ``NaturalGradient.report``, and Δ, γ and ‖s‖²."""
        state = {name: self._public(self._state[name].clone()) for name in ("Delta", "gamma")}
        return {**super().report(), **state, "s_squared": self._public(squared_norm(self._s))}


class SNG(NaturalGradient):
    """Stochastic natural gradient with the constant step ``delta0``.

    Args:  see ``NaturalGradient``.

    >>> SNG([4], delta0=0.1, generator=torch.Generator().manual_seed(0)).theta
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]], dtype=torch.float64)
    """

    def _blocks(self) -> dict[str, Blocks]:
        return {}

    def _advance(self, unit: Blocks, white: Blocks, moves: Tensor) -> Blocks:
        return [g.mul_(self._delta0[:, None]) for g in unit]


class AdamSNG(NaturalGradient):
    """Adam of learning rate ``delta0`` on the natural gradient of Fisher norm 1, as the paper runs Adam.

    Its moments are taken entry by entry, over all options of a row.

    Args:
        betas, eps: Adam's.
        categories, integers, lam, delta0, generator and the keywords: see ``NaturalGradient``.

    >>> AdamSNG([4], delta0=0.1, generator=torch.Generator().manual_seed(0)).mle()
    tensor([0])
    """

    def __init__(
        self,
        categories: Sequence[int],
        integers: Ranges | None = None,
        lam: int = 2,
        delta0: float | Tensor = 1e-3,
        generator: torch.Generator | None = None,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        reals: Ranges | None = None,
        theta_min: float | None = None,
        real_sigma_min: float = 1e-3,
        runs: int | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        if not all(0 <= beta < 1 for beta in betas) or not eps > 0:
            raise ValueError(f"expected betas in [0, 1) and eps > 0, got {betas} and {eps}")
        super().__init__(
            categories,
            integers,
            lam,
            delta0,
            generator,
            reals=reals,
            theta_min=theta_min,
            real_sigma_min=real_sigma_min,
            runs=runs,
            dtype=dtype,
        )
        self._betas, self._eps = betas, eps
        self._first, self._second = self._zeros(), self._zeros()

    def _blocks(self) -> dict[str, Blocks]:
        return {"first": self._first, "second": self._second}

    def _signed(self) -> set[str]:
        return {name for name in super()._signed() if name.startswith("first.")}

    def _advance(self, unit: Blocks, white: Blocks, moves: Tensor) -> Blocks:
        count = (self._state["tells"] - self._state["skipped"] + 1).double()
        # A run that does not move keeps its moments: rate 0. Its step is ignored.
        (rate1, debias1), (rate2, debias2) = (
            (((1 - beta) * moves)[:, None], (1 - beta**count).to(moves)[:, None]) for beta in self._betas
        )
        steps = []
        for first, second, g in zip(self._first, self._second, unit, strict=True):
            first.addcmul_(g - first, rate1)
            second.addcmul_(g * g - second, rate2)
            root = (second / debias2).sqrt_().add_(self._eps)
            steps.append((first * (self._delta0[:, None] / debias1)).div_(root))
        return steps
