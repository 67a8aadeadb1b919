# SPDX-License-Identifier: MIT
"""The selective squared error function (Akimoto et al., ICML 2019, sec. 3.1), many runs at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nasp_ext.optim.natural import NaturalGradient

_MOMENTUM = 0.9
_EVERY = 20  # iterations between two removals of the runs that are done
_SAY = 10_000


class SelectiveError:
    """f(x, c) = E_z Σ_i (x_{i,c_i} - z_i)² + c_i / K, z ~ N(0, K⁻² I): categories c switch between weights x.

    The optimum has c = 0 everywhere and x_{i,0} = 0. A weight that is not chosen does not learn, as in a
    supernet.

    Args:
        runs: B independent x, drawn from N(0, I).
        variables: D; options: K.
        generator: of x and z.
    """

    def __init__(self, runs: int, variables: int, options: int, generator: torch.Generator) -> None:
        self._options, self._generator = options, generator
        self._x = torch.randn(runs, options, variables, generator=generator)
        self._momentum = torch.zeros_like(self._x)

    @property
    def target(self) -> float:
        """A success is a sample of true value below this, which only c = 0 can reach."""
        variables = self._x.shape[-1]
        return 1 / self._options + variables / self._options**2

    def losses(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """The loss at one z per run, and the true value; (B, λ) each, of samples (B, λ, D)."""
        x = self._x.gather(1, samples)
        penalty = samples.sum(-1) / self._options
        true = x.square().sum(-1) + penalty + x.shape[-1] / self._options**2
        return (x - self._noise()).square_().sum(-1).add_(penalty), true

    def train(self, samples: Tensor, lr: Tensor) -> None:
        """A step of SGD with momentum, ``lr`` (B,) long, on the mean loss of samples (B, λ, D) at one z."""
        gradient = (self._x.gather(1, samples) - self._noise()).mul_(2 / samples.shape[1])
        self._momentum.mul_(_MOMENTUM).scatter_add_(1, samples, gradient)
        self._x.addcmul_(self._momentum, -lr[:, None, None])

    def keep(self, runs: Tensor) -> None:
        """Go on with the runs where ``runs`` (B,) is True."""
        self._x, self._momentum = self._x[runs], self._momentum[runs]

    def _noise(self) -> Tensor:
        runs, _, variables = self._x.shape
        return torch.randn(runs, 1, variables, generator=self._generator).div_(self._options)


@torch.no_grad()
def iterations_to_target(
    problem: SelectiveError,
    search: NaturalGradient,
    epsilon: Tensor,
    iterations: int,
    say: Callable[[str], None] = lambda _: None,
) -> Tensor:
    """For each run, the iteration in which a success was sampled, (B,); inf where none was.

    In an iteration x learns from λ samples, then θ from λ others (Alg. 1). The step of x falls from
    ``epsilon`` to 0 as a cosine over all ``iterations``.

    Args:
        problem, search: of the same B runs, D categories of K options; both are used up.
        epsilon: first step of x, (B,).
        say: is told now and then how many runs go on.
    """
    runs = len(epsilon)
    found, numbers = torch.full((runs,), math.inf), torch.arange(runs)
    going = torch.ones(runs, dtype=torch.bool)
    for t in range(iterations):
        problem.train(search.ask(), epsilon * ((1 + math.cos(math.pi * t / iterations)) / 2))
        samples = search.ask()
        losses, true = problem.losses(samples)
        search.tell(samples, losses)
        success = (true.amin(1) < problem.target) & going
        found[numbers[success]] = t + 1.0
        going &= ~success
        if t % _EVERY == 0 and not bool(going.all()):
            if not bool(going.any()):
                break
            problem.keep(going)
            search.keep(going)
            epsilon, numbers, going = epsilon[going], numbers[going], going[going]
        if (t + 1) % _SAY == 0:
            say(f"iteration {t + 1:,}: {int(going.sum()):,} of {runs:,} runs go on")
    return found
