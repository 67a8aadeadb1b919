# SPDX-License-Identifier: MIT
"""What a search strategy is, and the table of the known ones."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor

from nasp_ext.gates import Gates
from nasp_ext.space import SearchSpace

LossFn = Callable[[Gates], Tensor]


class Strategy(ABC):
    """Owns the distribution over architectures; sees a task only as ``loss_fn(Gates) -> loss``.

    One iteration of a search is ``step(loss_fn)`` on validation data, then a weight step at ``propose()``.
    """

    @abstractmethod
    def propose(self) -> Gates:
        """The architecture to train next; the same until ``step`` is called."""

    @abstractmethod
    def step(self, loss_fn: LossFn) -> Tensor:
        """Learn from the loss at one or more architectures; returns the detached loss at the proposed one."""

    @abstractmethod
    def best(self) -> Gates:
        """The architecture to derive if the search ended now."""

    @abstractmethod
    def scores(self) -> Tensor:
        """How much each option is preferred, (R, K), numbers >= 0, 0 where the option does not exist."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that changes during a search; tensors and plain numbers only, loads with weights_only=True."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue bit for bit as the strategy that gave ``state``."""


Factory = Callable[..., Strategy]
_FACTORIES: dict[str, Factory] = {}


def register_strategy(name: str, factory: Factory) -> None:
    """Make ``strategy(name, space, **options)`` call ``factory(space, **options)``."""
    if name in _FACTORIES:
        raise ValueError(f"expected a new strategy name, got {name!r}, which is taken")
    _FACTORIES[name] = factory


def names() -> tuple[str, ...]:
    """The registered strategies."""
    return tuple(sorted(_FACTORIES))


def strategy_options(name: str) -> tuple[str, ...]:
    """The options that strategy ``name`` takes besides the space."""
    if name not in _FACTORIES:
        raise ValueError(f"expected a strategy, one of {', '.join(names())}, got {name!r}")
    return tuple(inspect.signature(_FACTORIES[name]).parameters)[1:]


def strategy(name: str, space: SearchSpace, **options: Any) -> Strategy:
    """Build a registered strategy.

    Args:
        name: "nasp", "random" or one added by ``register_strategy``.
        space: the search space it proposes architectures of.
        options: keyword options of that strategy, e.g. ``preset="paper"``, ``seed=1``.
    Raises:
        ValueError: unknown name or option; the message lists the known ones.

    >>> from nasp_ext.space import space
    >>> strategy("random", space("darts"), seed=1).scores().shape
    torch.Size([28, 8])
    """
    known = strategy_options(name)
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"strategy {name!r} takes the options {', '.join(known)}, got {', '.join(unknown)}")
    return _FACTORIES[name](space, **options)
