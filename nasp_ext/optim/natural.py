# SPDX-License-Identifier: MIT
"""Stochastic natural gradient on a distribution over categories and numbers (Akimoto et al., ICML 2019)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nasp_ext.optim.categorical import Categoricals
from nasp_ext.optim.distribution import Distribution
from nasp_ext.optim.gaussian import Ranges, gaussians
from nasp_ext.optim.natural_arguments import as_losses, as_samples, check_count, check_options, is_number
from nasp_ext.optim.natural_state import check_natural
from nasp_ext.optim.ranking import utilities

Blocks = list[Tensor]  # a vector over all parameters: a (P, B, n) tensor for each family


class NaturalGradient(ABC):
    """Minimise a black box over categories and numbers: ``ask`` for samples, ``tell`` their losses.

    Keeps a product distribution and moves it along the natural gradient of the expected utility, which it
    estimates from λ samples (eq. 12-14); a subclass says how far (``_advance``). Only the order of the losses
    counts. All of it is a few numbers and stays on the CPU.

    Args:
        categories: the number of options of each categorical variable.
        integers: (low, high) of each whole-number variable, both included.
        lam: samples per step, λ >= 2.
        delta0: (initial) step δ⁰; with ``runs`` also one per run.
        generator: CPU generator of the samples; None = a new one, seeded by PyTorch's global generator.
        reals: (low, high) of each real variable.
        theta_min: least probability of an option; None = the paper's 1 / (n_c (m - 1)), see ``Categoricals``.
        real_sigma_min: least σ of a real variable, as a fraction of high - low; that of a whole one is 1/4.
        runs: None, or the number B of independent runs that advance together; then samples are (B, λ, n),
            losses (B, λ), and so on.
        dtype: float64 or float32.
    Raises:
        ValueError, TypeError: nothing to decide, or an option that cannot be used.
    """

    def __init__(
        self,
        categories: Sequence[int],
        integers: Ranges | None = None,
        lam: int = 2,
        delta0: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
        *,
        reals: Ranges | None = None,
        theta_min: float | None = None,
        real_sigma_min: float = 1e-3,
        runs: int | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        check_options(categories, lam, generator, runs, dtype, {"integers": integers, "reals": reals})
        self.lam = lam
        self._batched, count = runs is not None, 1 if runs is None else runs
        self._delta0 = _steps(delta0, count, dtype)
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**63 - 1, ())))
        self._generator = generator
        self._categoricals = Categoricals(categories, count, dtype, theta_min)
        self._gaussians = gaussians(integers or (), reals or (), real_sigma_min, count, dtype)
        families: list[Distribution] = [self._categoricals, self._gaussians]
        self._families = [family for family in families if family.variables]
        self.dimension = sum(family.dimension for family in families)
        if self.dimension == 0:
            raise ValueError(
                f"expected a variable with two values or more, got the categories {list(categories)} alone"
            )
        self._dtype = dtype
        self._shown_dtype = dtype if reals else torch.int64
        self._asked: list[Tensor] | None = None  # the draws of each family behind the last samples
        self._state: dict[str, Tensor] = {
            "tells": torch.zeros(count, dtype=torch.int64),
            "skipped": torch.zeros(count, dtype=torch.int64),
        }

    @abstractmethod
    def _advance(self, unit: Blocks, white: Blocks, moves: Tensor) -> Blocks:
        """The step to add to the parameters; may update ``self._state`` of the runs that move.

        Args:
            unit: natural gradient of Fisher norm 1; white: the same, whitened: of Euclidean norm 1. Both are
                anything finite in runs that do not move.
            moves: (B,) 1 where a run moves, else 0; in the dtype of the parameters.
        """

    @abstractmethod
    def _blocks(self) -> dict[str, Blocks]:
        """What ``_advance`` keeps of the size of the parameters, by name; changed in place."""

    def _zeros(self) -> Blocks:
        return [family.zeros() for family in self._families]

    def ask(self) -> Tensor:
        """Draw samples to evaluate.

        Returns:
            (λ, n): the numbers of the options, then whole numbers within their ranges, then real ones;
            int64 without real variables.
        """
        self._asked = [family.draw(self.lam, self._generator) for family in self._families]
        return self.asked()

    def draw(self, samples: int) -> Tensor:
        """Further samples, (samples, n), that no ``tell`` is about: those of the last ``ask`` stay."""
        check_count("samples to be", samples, 1)
        return self._shown([family.draw(samples, self._generator) for family in self._families])

    def asked(self) -> Tensor:
        """The samples of the last ``ask`` again, also after their ``tell`` or in another process.

        Raises:  RuntimeError: ``ask`` was not called.
        """
        if self._asked is None:
            raise RuntimeError("expected ask() before asked(), got no samples yet")
        return self._shown(self._asked)

    def tell(self, samples: Tensor, losses: Tensor | Sequence[float]) -> None:
        """Learn from the losses of samples. If all are equal, or all samples are, nothing moves.

        Args:
            samples: what ``ask`` gave: then the draws behind clipped and rounded numbers are used. Or any
                others, λ' >= 2 of them: then their numbers stand for themselves.
            losses: (λ,), lower is better. NaN counts as +inf; infinities keep their rank.
        Raises:
            ValueError, TypeError: other shapes, an option that does not exist, no numbers.
        """
        found = as_samples(samples)
        raw, values = self._read(found), as_losses(losses, tuple(found.shape[:-1]))
        weights = utilities(values if self._batched else values[None], self._dtype).T[..., None]
        gradients = [
            family.gradient(draws, weights) for family, draws in zip(self._families, raw, strict=True)
        ]
        white = [f.whiten(gradient) for f, gradient in zip(self._families, gradients, strict=True)]
        norm = squared_norm(white).sqrt()
        # Utilities that should cancel may leave rounding; the least other gradient is far above it.
        moves = (norm > 64 * torch.finfo(self._dtype).eps).to(self._dtype)
        scale = norm.clamp_min(torch.finfo(self._dtype).tiny).reciprocal_()[:, None]
        for block in (*gradients, *white):
            block.mul_(scale)
        steps = self._advance(gradients, white, moves)
        still = (moves == 0).nonzero()[:, 0]
        for family, step in zip(self._families, steps, strict=True):
            family.move_(step, still)
        self._state["tells"] += 1
        self._state["skipped"] += (moves == 0).long()

    def _read(self, samples: Tensor) -> list[Tensor]:
        """The draws behind samples, (λ, B, n) for each family."""
        variables = sum(family.variables for family in self._families)
        runs = (len(self._delta0),) if self._batched else ()
        if samples.dim() != 2 + self._batched or samples.shape[-1] != variables or samples.shape[:-2] != runs:
            expected = ", ".join(map(str, (*runs, "λ", variables)))
            raise ValueError(f"expected samples of shape ({expected}), got {tuple(samples.shape)}")
        if samples.shape[-2] < 2:
            raise ValueError("expected two samples or more, got one: a single loss has no rank")
        values = samples
        if self._asked is not None and _same(values, self.asked()):
            return self._asked
        values = values.movedim(-2, 0) if self._batched else values[:, None]
        parts = torch.split(values, [family.variables for family in self._families], -1)
        return [family.read(part) for family, part in zip(self._families, parts, strict=True)]

    def _shown(self, draws: Sequence[Tensor]) -> Tensor:
        return self._join([f.shown(raw) for f, raw in zip(self._families, draws, strict=True)])

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        """(λ, B, n) of each family as the samples that the caller sees."""
        parts = [part.to(self._shown_dtype) for part in parts]
        if self._batched:
            return torch.cat([part.movedim(0, -2) for part in parts], -1)
        return torch.cat([part.squeeze(-2) for part in parts], -1)

    @property
    def theta(self) -> Tensor:
        """Probabilities of the options, (n_c, K), 0 where a variable has fewer."""
        return self._public(self._categoricals.theta.permute(1, 2, 0).contiguous())

    @property
    def mean(self) -> Tensor:
        """Means of the whole, then of the real variables, (n_g,)."""
        return self._public(self._gaussians.mean.clone())

    @property
    def sigma(self) -> Tensor:
        """Standard deviations of the whole, then of the real variables, (n_g,)."""
        return self._public(self._gaussians.variance.sqrt())

    @property
    def delta(self) -> Tensor:
        """The present step δ."""
        return self._public(self._delta0.clone())

    @property
    def convergence(self) -> Tensor:
        """Mean over the categorical variables of the largest probability; 1 without such variables."""
        if not self._categoricals.variables:
            return self._public(torch.ones_like(self._delta0))
        return self._public(self._categoricals.theta.amax(0).mean(-1))

    def mle(self) -> Tensor:
        """The most likely sample, (n,); of equal probabilities the lowest option."""
        return self._join([family.mode()[None] for family in self._families]).squeeze(-2)

    def report(self) -> dict[str, Tensor]:
        """Numbers to log: the step, how far the distribution has converged, steps that moved nothing."""
        state = {name: self._public(self._state[name].clone()) for name in ("tells", "skipped")}
        return {"delta": self.delta, "convergence": self.convergence, **state}

    def keep(self, runs: Tensor) -> None:
        """Go on with some of the runs only.

        Args:  runs: (B,) bool, or the numbers of the runs.
        """
        if not self._batched:
            raise ValueError("expected an optimizer of several runs, got one of a single run")
        count = len(self._delta0)
        if not isinstance(runs, Tensor) or runs.dim() != 1 or runs.dtype not in (torch.bool, torch.int64):
            raise TypeError(f"expected runs to be a tensor, (B,) bool or the numbers of runs, got {runs!r}")
        if runs.dtype == torch.bool and len(runs) != count:
            raise ValueError(f"expected runs of shape ({count},), got {tuple(runs.shape)}")
        index = runs.nonzero()[:, 0] if runs.dtype == torch.bool else runs
        if bool(((index < 0) | (index >= count)).any()):
            raise ValueError(f"expected runs in 0..{count - 1}, got {index.tolist()}")
        if not len(index):
            raise ValueError("expected to keep one run or more, got none")
        self._asked = None
        self._delta0 = self._delta0[index]
        self._state = {name: value[index] for name, value in self._state.items()}
        for family in self._families:
            family.state = {name: value.index_select(-2, index) for name, value in family.state.items()}
        for blocks in self._blocks().values():
            blocks[:] = [block.index_select(-2, index) for block in blocks]

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that changes, apart from the generator and the samples that were asked for last."""
        named = {"delta0": self._delta0, **self._state}
        for family in self._families:
            named.update(family.state)
        for name, blocks in self._blocks().items():
            named.update({f"{name}.{i}": block for i, block in enumerate(blocks)})
        return named

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs, also between ``ask`` and ``tell``; loads with weights_only=True."""
        asked = None if self._asked is None else [raw.clone() for raw in self._asked]
        return {
            "kind": type(self).__name__,
            "tensors": {name: value.clone() for name, value in self._tensors().items()},
            "asked": asked,
            "generator": self._generator.get_state(),
        }

    def check_state(self, state: dict[str, Any], name: str = "the state") -> None:
        """Raise ValueError, with the entry, if no optimizer like this one could have saved ``state``."""
        check_natural(state, self.state_dict(), self._families, self.lam, self._signed(), name)

    def _signed(self) -> set[str]:
        """The tensors of ``_blocks`` that hold numbers of either sign."""
        return {f"{name}.{i}" for name, blocks in self._blocks().items() for i in range(len(blocks))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue bit for bit as the optimizer that gave ``state``.

        Raises:  ValueError: the state is damaged, of another method, or of other variables or runs.
        """
        self.check_state(state)
        for name, value in self._tensors().items():
            value.copy_(state["tensors"][name])
        asked = state["asked"]
        self._asked = None if asked is None else [raw.clone() for raw in asked]
        self._generator.set_state(state["generator"])

    def _public(self, value: Tensor) -> Tensor:
        return value if self._batched else value[0]


def squared_norm(blocks: Blocks) -> Tensor:
    """Squared Euclidean norm of each run, (B,)."""
    return torch.stack([block.square().sum((0, 2)) for block in blocks]).sum(0)


def _steps(delta0: float | Tensor, runs: int, dtype: torch.dtype) -> Tensor:
    if not isinstance(delta0, Tensor) and not is_number(delta0):
        raise TypeError(f"expected delta0 to be a number > 0, or a tensor of one per run, got {delta0!r}")
    steps = torch.as_tensor(delta0, dtype=dtype)
    if steps.shape not in ((), (runs,)) or not bool((steps > 0).all() & steps.isfinite().all()):
        raise ValueError(f"expected delta0 to be a number > 0, or one for each of {runs} runs, got {delta0}")
    return steps.repeat(runs) if steps.dim() == 0 else steps.clone()


def _same(values: Tensor, shown: Tensor) -> bool:
    return values.shape == shown.shape and bool((values == shown).all())
