# SPDX-License-Identifier: MIT
"""What the processes of one run tell each other; one process alone tells nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Collective(Protocol):
    """The processes that share a run: each sees a shard (rank, size) of every part of the data.

    Attributes:    rank: of this process, 0 … size - 1; size: how many there are.
    """

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes; all call it in the same order."""

    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of rank 0."""


class LocalCollective:
    """One process: means and copies are what is there."""

    rank, size = 0, 1

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to do."""

    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to do."""


LOCAL = LocalCollective()
