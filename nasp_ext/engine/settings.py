# SPDX-License-Identifier: MIT
"""Settings of a whole run: of the training, and in a group of its own of the task, space and strategy."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from nasp_ext.checks import MOST_CHANNELS, check_range, shown, typed
from nasp_ext.config import RetrainConfig, SearchConfig, differences, group, training_fields
from nasp_ext.engine.former import upgraded
from nasp_ext.engine.options import every_flag, own_options
from nasp_ext.tasks import task_kind


def hiding(*flags: str, groups: Collection[str] = ()) -> dict[str, Any]:
    """The ``metadata`` of a field whose settings are flags of a command, but for those that it sets itself.

    Args:    flags: left out; groups: fields in it of which every flag is left out.
    """
    return {"hidden": flags, "groups": groups}


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
        _check_known(f"task {name!r}", [one.name for one in dataclasses.fields(kind)], values)
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


@dataclass(frozen=True)
class SearchRun(SearchConfig):
    """A search with everything it needs to be run again: what ``nasp-ext search`` writes to config.json."""

    groups: ClassVar[tuple[str, ...]] = ("task", "space", "strategy")

    task: TaskSettings = field(default_factory=TaskSettings)
    space: SpaceSettings = field(default_factory=SpaceSettings)
    strategy: StrategySettings = field(default_factory=StrategySettings)

    def flat(self) -> dict[str, Any]:
        return _united(super().flat(), self.task.flat(), self.space.flat(), self.strategy.flat())

    def nested(self) -> dict[str, Any]:
        own = super().nested()
        return {
            "kind": self.kind,
            "task": {"name": self.task.name, **self.task.values()},
            "space": dataclasses.asdict(self.space),
            "strategy": {"name": self.strategy.name, **self.strategy.options},
            "training": own["training"],
        }

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> SearchRun:
        """From the names of ``flat``, or those of older versions; what is missing keeps its default.

        Raises:  ValueError: an unknown name, or a value that cannot be.

        >>> SearchRun.from_flat({"strategy": "darts", "arch_lr": 0.1}).strategy.options["lr"]
        0.1
        """
        rest = upgraded(values)
        training, task = _take(rest, training_fields(cls)), _take_task(rest)
        space = SpaceSettings(
            rest.pop("space", "darts"), rest.pop("partial_channels", None), rest.pop("reductions", ())
        )
        name = rest.pop("strategy", "nasp")
        flags = every_flag()
        unknown = [setting for setting in rest if setting not in flags]
        if unknown:
            known = cls(task=task, strategy=StrategySettings(name)).flat()
            raise ValueError(f"expected the fields {', '.join(known)}, got {', '.join(unknown)}")
        return cls(**training, task=task, space=space, strategy=StrategySettings.of_flags(name, rest))

    @classmethod
    def from_nested(cls, values: Mapping[str, Any]) -> SearchRun:
        space, strategy = group(values, "space"), dict(group(values, "strategy"))
        known = [one.name for one in dataclasses.fields(SpaceSettings)]
        _check_known("the space", known, space)
        training = group(values, "training")
        _check_known("the training", training_fields(cls), training)
        return cls(
            **training,
            task=_task_of(values),
            space=SpaceSettings(**space),
            strategy=StrategySettings(strategy.pop("name", "nasp"), strategy),
        )

    def differences(self, other: Mapping[str, Any]) -> str:
        """The settings in which ``other``, as ``flat`` of this or an older version, differs, as text."""
        mine = self.flat()
        try:
            other = upgraded(other)
            complete = self.from_flat({name: other[name] for name in ("task", "strategy") if name in other})
        except (ValueError, TypeError):  # of a task or strategy that is not there
            return super().differences(other)
        found = {**complete.flat(), **other}
        for part in ("task", "strategy"):  # settings of two tasks are two lists
            if found[part] != mine[part]:
                for name in {**getattr(self, part).flat(), **getattr(complete, part).flat()}.keys() - {part}:
                    found.pop(name, None)
                    mine.pop(name, None)
        return differences(mine, found)


@dataclass(frozen=True)
class RetrainRun(RetrainConfig):
    """A retraining with everything it needs to be run again: what ``nasp-ext retrain`` writes."""

    groups: ClassVar[tuple[str, ...]] = ("task",)

    genotype: str = "runs/search"
    """A file (JSON, Python code, a log; FILE:NAME and FILE:LINE choose one of several), the folder of a run,
    a published name, or the text of a genotype: Genotype(normal=[…], …) or |op~0|+|op~0|op~1|…"""
    task: TaskSettings = field(default_factory=TaskSettings)

    def flat(self) -> dict[str, Any]:
        return _united(super().flat(), self.task.flat())

    def nested(self) -> dict[str, Any]:
        training = super().nested()["training"]
        genotype = training.pop("genotype")
        task = {"name": self.task.name, **self.task.values()}
        return {"kind": self.kind, "task": task, "genotype": genotype, "training": training}

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> RetrainRun:
        rest = dict(values)
        training, task = _take(rest, training_fields(cls)), _take_task(rest)
        if rest:
            known = cls(task=task).flat()
            raise ValueError(f"expected the fields {', '.join(known)}, got {', '.join(rest)}")
        return cls(**training, task=task)

    @classmethod
    def from_nested(cls, values: Mapping[str, Any]) -> RetrainRun:
        training = group(values, "training")
        _check_known("the training", training_fields(cls), training)
        genotype = {"genotype": values["genotype"]} if "genotype" in values else {}
        return cls(**{**training, **genotype}, task=_task_of(values))


def _united(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """One mapping of all.

    Raises:  ValueError: two of them name the same setting.
    """
    found: dict[str, Any] = {}
    for part in parts:
        both = [name for name in part if name in found]
        if both:
            raise ValueError(f"expected settings of different names, got two of the name {both[0]}")
        found |= part
    return found


def _check_known(what: str, known: Sequence[str], values: Mapping[str, Any]) -> None:
    unknown = [name for name in values if name not in known]
    if unknown:
        raise ValueError(f"expected the fields {', '.join(known)} of {what}, got {', '.join(unknown)}")


def _take(values: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """What these names have in ``values``, which lose it."""
    return {name: values.pop(name) for name in names if name in values}


def _take_task(values: dict[str, Any]) -> TaskSettings:
    name = values.pop("task", "images")
    return TaskSettings.of(name, _take(values, TaskSettings(name).values()))


def _task_of(values: Mapping[str, Any]) -> TaskSettings:
    task = dict(group(values, "task"))
    return TaskSettings.of(task.pop("name", "images"), task)
