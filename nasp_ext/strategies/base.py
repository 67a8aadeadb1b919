# SPDX-License-Identifier: MIT
"""What a search strategy is, and the table of the known ones."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.registry import space as space_named
from nasp_ext.arch.search_space import SearchSpace, check_space
from nasp_ext.states import check_like

LossFn = Callable[[Gates], Tensor]
AttentionFn = Callable[[Gates], Tensor]


@runtime_checkable
class SteeringLoss(Protocol):
    """What a search hands to ``Strategy.step``: the mean loss on a batch, and its gradients.

    A plain function of gates does as well for every strategy but ``darts-2nd``: autograd differentiates it.
    """

    def __call__(self, gates: Gates) -> Tensor:
        """Mean loss of the gates on a batch of the steering half, () with a graph."""

    def gradient(self, gates: Gates) -> tuple[Tensor, Tensor]:
        """Loss, detached, and its gradient (R, K); means over the processes of the run."""

    def unrolled_gradient(self, gates: Gates) -> tuple[Tensor, Tensor]:
        """Loss, detached, and its gradient (R, K) after a virtual step of the weights (DARTS, eq. 6)."""


class Probe(Protocol):
    """What a strategy may ask of the network when an epoch has ended; it rests in evaluation mode."""

    def attention(self, gates: Gates) -> Tensor:
        """The mean attention (R, K), over the validation part, of the rows that are mixed; else zero."""


@dataclass(frozen=True)
class StrategyContext:
    """What a run gives a strategy besides its options; a strategy gets what its parameters name.

    Args:
        seed: of draws and of ties.
        device: where gates have to be.
        dtype: of the gates; None = the strategy's own, float32.
        costs: (R, K) numbers >= 0, what each option costs, for a regulariser; None = no such numbers.
        steps: how often ``step`` will be called, for a schedule; None = unknown.
    """

    seed: int | None = None
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None
    costs: Tensor | None = None
    steps: int | None = None

    def options(self, name: str) -> dict[str, Any]:
        """What of it strategy ``name`` takes, by name; what is None it is left to choose."""
        values = {option: getattr(self, option) for option in context_options(name)}
        return {option: value for option, value in values.items() if value is not None}


class Strategy(ABC):
    """Owns the distribution over architectures; sees a task only as ``loss_fn(Gates) -> loss``.

    One iteration of a search is ``step(loss_fn)`` on validation data, then a weight step that lowers the mean
    loss of ``proposals()``. Gates may be dense (``active=None``), apart from those of ``best()``.

    Attributes:
        needs_gradient: ``step`` differentiates the loss by the gates, which some spaces do not allow.
        space: the one it was made for; None if it does not tell, and then a network may have another.
        steers: a search calls ``step`` with batches of the steering half; else only ``end_epoch``.
        needs_attention: of the network, whose edges then are mixed by it.
        partial_channels: what ``nasp-ext search`` divides the channels of mixed edges by, if not told.
    """

    needs_gradient: ClassVar[bool] = False
    steers: ClassVar[bool] = True
    needs_attention: ClassVar[bool] = False
    partial_channels: ClassVar[int] = 1
    space: SearchSpace | None = None

    @abstractmethod
    def propose(self) -> Gates:
        """The architecture to train next; the same until ``step`` is called."""

    def proposals(self) -> tuple[Gates, ...]:
        """The architectures whose mean loss the next weight step minimises, on one batch; one by default."""
        return (self.propose(),)

    @abstractmethod
    def step(self, loss_fn: LossFn) -> Tensor:
        """Learn from the loss at one or more architectures; returns the detached loss at the proposed one.

        If that was not among them, it is the mean of their losses. The ``loss_fn`` of a search is a
        ``SteeringLoss``.
        """

    def end_epoch(self, probe: Probe) -> None:  # noqa: B027  most have nothing to do
        """Learn from the network at the end of an epoch in which A did not rest."""

    @abstractmethod
    def best(self) -> Gates:
        """The architecture to derive if the search ended now; discrete (``active`` is given)."""

    def report(self) -> dict[str, Any]:
        """What the history of a search notes of this strategy after each epoch, e.g. a step size.

        Finite numbers, strings, booleans, None, and lists or dicts of them, as JSON has them.
        """
        return {}

    @abstractmethod
    def scores(self) -> Tensor:
        """How much each option is preferred, (R, K), numbers >= 0, 0 where the option does not exist."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that changes during a search; tensors and plain numbers only, loads with weights_only=True."""

    def check_state(self, state: dict[str, Any], steps: int | None = None) -> None:
        """Refuse a state that this strategy could not have come to; changes nothing.

        A search asks before it loads anything of a checkpoint. Unless a strategy says more, ``state`` has to
        have the keys, types, dtypes and shapes of ``state_dict()``, and finite numbers; what is None or empty
        there may be anything. Override it for a state that grows.

        Args:    steps: how often ``step`` was called until then, None = unknown.
        Raises:  ValueError: names the entry.
        """
        check_like(state, self.state_dict(), "the state")

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue bit for bit as the strategy that gave ``state``."""


class AttentionStrategy(Strategy):
    """A strategy of spaces with attention, which looks at the network instead of steering it.

    A search gives it no ``step``: all that is left to do on the other half of the data is ``select``, after
    each epoch.
    """

    steers = False
    needs_attention = True

    def end_epoch(self, probe: Probe) -> None:
        self.select(probe.attention)

    @abstractmethod
    def select(self, attention: AttentionFn) -> None:
        """Choose what ``best()`` is.

        Args:
            attention: gates to the (R, K) mean attention, over the validation images, of their mixed rows;
                zero in other rows. The network rests in evaluation mode.
        """


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


def looks(name: str) -> bool:
    """Whether strategy ``name`` needs a space with attention."""
    return bool(getattr(_FACTORIES.get(name), "needs_attention", False))


def partial_channels(name: str) -> int:
    """The ``partial_channels`` of strategy ``name``; 1 for factories that have none."""
    return int(getattr(_FACTORIES.get(name), "partial_channels", 1))


def factory(name: str) -> Factory:
    """What makes strategy ``name``.

    Raises:  ValueError: no such strategy; the message lists the known ones.
    """
    if not isinstance(name, str) or name not in _FACTORIES:
        raise ValueError(f"expected a strategy, one of {', '.join(names())}, got {name!r}")
    return _FACTORIES[name]


def option_types(name: str) -> dict[str, Any]:
    """The options that strategy ``name`` takes besides the space, with the types they are annotated with.

    Raises:  ValueError: no such strategy; the message lists the known ones.
    """
    parameters = inspect.signature(factory(name), eval_str=True).parameters
    return {option: parameter.annotation for option, parameter in list(parameters.items())[1:]}


def context_options(name: str) -> tuple[str, ...]:
    """The fields of a ``StrategyContext`` that strategy ``name`` takes, each a keyword option of it.

    >>> from nasp_ext import strategies
    >>> strategies.context_options("gdas")
    ('seed', 'device', 'dtype', 'steps')
    """
    known = option_types(name)
    return tuple(field.name for field in fields(StrategyContext) if field.name in known)


def strategy(
    name: str, space: SearchSpace | str, *, context: StrategyContext | None = None, **options: Any
) -> Strategy:
    """Build a registered strategy.

    Args:
        name: "nasp", "random" or one added by ``register_strategy``.
        space: the search space it proposes architectures of, or the name of a registered one.
        context: what the run gives it, as far as the strategy takes it; options come on top.
        options: keyword options of that strategy, e.g. ``preset="paper"``, ``seed=1``.
    Raises:
        ValueError: unknown name, space or option; the message lists the known ones. Or the strategy needs a
            gradient and the space has none.
        TypeError: ``space`` is none.

    >>> strategy("random", "darts", seed=1).scores().shape
    torch.Size([28, 8])
    """
    if isinstance(space, str):
        space = space_named(space)
    if not isinstance(space, SearchSpace):
        raise TypeError(f"expected a search space or the name of one, such as 'darts', got {space!r}")
    check_space(space)
    known = option_types(name)
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"strategy {name!r} takes the options {', '.join(known)}, got {', '.join(unknown)}")
    if not space.has_gradient and getattr(_FACTORIES[name], "needs_gradient", False):
        raise ValueError(
            f"expected a strategy that learns from losses alone (such as asng or random) for space "
            f"{space.name!r}, whose gates have no gradient, got {name!r}"
        )
    given = {} if context is None else context.options(name)
    made = _FACTORIES[name](space, **{**given, **options})
    if made.space is None:
        made.space = space
    return made
