# SPDX-License-Identifier: MIT
"""Settings of the parts of a run that are chosen by a name: task, space and strategy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.checks import MOST_CHANNELS, check_range, shown, typed
from nasp_ext.engine.options import own_options
from nasp_ext.tasks import task_kind


@dataclass(frozen=True)
class TaskSettings:
    """Which task, and its own settings.

    Args:    name: of a registered task; options: an instance of its settings, None = with their defaults.
    """

    name: str = "images"
    options: Any = None

    def __post_init__(self) -> None:
        kind = task_kind(self.name).settings
        if self.options is None:
            object.__setattr__(self, "options", kind())
        if not isinstance(self.options, kind):
            raise ValueError(
                f"expected the settings of task {self.name!r} to be a {kind.__name__}, "
                f"got {shown(self.options)}"
            )

    @classmethod
    def of(cls, name: Any, values: Mapping[str, Any]) -> TaskSettings:
        """Of a task by name, with these values of its settings.

        Raises:  ValueError: no such task, or a setting that it has not got.
        """
        kind = task_kind(name).settings
        check_known(f"task {name!r}", [one.name for one in dataclasses.fields(kind)], values)
        return cls(name, kind(**values))

    def values(self) -> dict[str, Any]:
        """Its settings by name."""
        return {one.name: getattr(self.options, one.name) for one in dataclasses.fields(self.options)}

    def flat(self) -> dict[str, Any]:
        return {"task": self.name, **self.values()}

    def suggested(self, kind: str) -> dict[str, Any]:
        """What a command for this kind of run starts from, by its flags; as ``suggested`` of the settings."""
        own = getattr(self.options, "suggested", None)
        return {} if own is None else dict(own(kind))

    @property
    def without(self) -> tuple[str, ...]:
        """Settings of a run that mean nothing to the task: what its settings say, as ``Task.without``."""
        return tuple(getattr(self.options, "without", ()))

    def genotype(self, seed: int) -> AnyGenotype | None:
        """What a retraining with this seed trains, where the settings say it; None = they don't.

        Raises:  TypeError: they say something else.
        """
        own = getattr(self.options, "genotype", None)
        found = None if own is None else own(seed)
        if found is not None and not isinstance(found, AnyGenotype):
            kind = type(self.options).__name__
            raise TypeError(f"expected {kind}.genotype to give a genotype or None, got {found!r:.80}")
        return found


@dataclass(frozen=True)
class SpaceSettings:
    """Which search space."""

    name: str = "darts"
    """Search space."""
    partial_channels: int | None = None
    """Options take 1 / this of the channels of an edge; None = the strategy's own, 4 for pc-darts, else 1."""
    reductions: tuple[int, ...] = ()
    """Places of the two cells that reduce, counted from 0, for strategies that give each layer a cell of its
    own (asm); without them 1/3 and 2/3 of the depth. Those of the ASM paper: 4 9 with 15 cells."""

    def __post_init__(self) -> None:
        typed("space", "str", self.name)
        object.__setattr__(self, "reductions", typed("reductions", "tuple[int, ...]", self.reductions))
        typed("partial_channels", "int | None", self.partial_channels)
        if self.partial_channels is not None:
            check_range("partial_channels", self.partial_channels, 1, MOST_CHANNELS, " or None")

    def flat(self) -> dict[str, Any]:
        return {
            "space": self.name,
            "partial_channels": self.partial_channels,
            "reductions": self.reductions,
        }


@dataclass(frozen=True)
class StrategySettings:
    """Which strategy, and its options.

    Args:    name: of a registered strategy; options: by their names there. Those left out get their default.

    >>> StrategySettings("asng", {"lam": 4}).options["delta0"]
    1.0
    """

    name: str = "nasp"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = own_options(self.name)
        for name, value in self.options.items():
            if name not in known:
                raise ValueError(f"strategy {self.name!r} has no option {name}, got {name}={shown(value)}")
        options = {
            name: option.checked(self.options[name]) if name in self.options else option.default
            for name, option in known.items()
        }
        object.__setattr__(self, "options", options)

    @classmethod
    def of_flags(cls, name: Any, values: Mapping[str, Any]) -> StrategySettings:
        """The options by the names of their flags.

        Raises:  ValueError: an option that the strategy has not got.
        """
        names = {option.flag: option.name for option in own_options(name).values()}
        return cls(name, {names.get(flag, flag): value for flag, value in values.items()})

    def flat(self) -> dict[str, Any]:
        known = own_options(self.name)
        return {"strategy": self.name, **{known[name].flag: value for name, value in self.options.items()}}


def check_known(what: str, known: Sequence[str], values: Mapping[str, Any]) -> None:
    """Raise ValueError if a value is of none of the known settings of ``what``."""
    unknown = [name for name in values if name not in known]
    if unknown:
        raise ValueError(f"expected the fields {', '.join(known)} of {what}, got {', '.join(unknown)}")
