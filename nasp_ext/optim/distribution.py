# SPDX-License-Identifier: MIT
"""What a distribution over architectures is made of: exponential families in expectation parameters.

Tensors are laid out (…, B, n): B independent runs of n variables. What is summed over, options or samples,
comes first, so that sums run along contiguous memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Distribution(ABC):
    """A product of n independent variables; its parameters live in ``state``, one (…, B, n) tensor each."""

    state: dict[str, Tensor]
    variables: int
    dimension: int  # n_θ, the number of free parameters

    @abstractmethod
    def zeros(self) -> Tensor:
        """A gradient of zeros, (P, B, n)."""

    @abstractmethod
    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Independent draws for every run, (λ, B, n)."""

    @abstractmethod
    def shown(self, raw: Tensor) -> Tensor:
        """The draws as they are evaluated."""

    @abstractmethod
    def read(self, values: Tensor) -> Tensor:
        """Values that were evaluated, (λ, B, n), as draws.

        Raises:  ValueError: a value that no draw shows.
        """

    @abstractmethod
    def gradient(self, raw: Tensor, weights: Tensor) -> Tensor:
        """Natural gradient, mean over the samples of u·(T(c) - θ) (eq. 12).

        Args:
            raw: draws, (λ, B, n).
            weights: their utilities u, (λ, B, 1), which sum to 0 over the samples.
        Returns:  (P, B, n).
        """

    @abstractmethod
    def whiten(self, gradient: Tensor) -> Tensor:
        """A^T G with A A^T = F, the Fisher matrix at the present parameters; its norm is ‖G‖_F. (P, B, n)."""

    @abstractmethod
    def move_(self, step: Tensor, still: Tensor) -> None:
        """Add a step (P, B, n) and project; the runs numbered in ``still`` keep their bits."""

    @abstractmethod
    def check_state(self, found: dict[str, Tensor], name: str) -> None:
        """Raise ValueError unless tensors like those of ``state`` hold parameters that may be."""

    @abstractmethod
    def check_draws(self, found: object, samples: int, name: str) -> None:
        """Raise ValueError unless ``found`` is what ``draw`` could give."""

    @abstractmethod
    def mode(self) -> Tensor:
        """The most likely values, (B, n)."""


def held(new: Tensor, old: Tensor, still: Tensor) -> Tensor:
    """``new``, with the runs numbered in ``still`` as in ``old``; (…, B, n)."""
    return new.index_copy_(-2, still, old.index_select(-2, still)) if len(still) else new
