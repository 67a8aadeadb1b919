# SPDX-License-Identifier: MIT
"""Settings of a whole run: of the training, and in a group of its own of the task, space and strategy."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from nasp_ext.checks import shown
from nasp_ext.config import RetrainConfig, SearchConfig, differences, group, training_fields
from nasp_ext.engine.former import upgraded
from nasp_ext.engine.options import every_flag
from nasp_ext.engine.parts import SpaceSettings, StrategySettings, TaskSettings, check_known

__all__ = [
    "USUAL_GENOTYPE",
    "RetrainRun",
    "SearchRun",
    "SpaceSettings",
    "StrategySettings",
    "TaskSettings",
    "hiding",
]

USUAL_GENOTYPE = "runs/search"  # where a search writes to unless it is told


def hiding(*flags: str, groups: Collection[str] = ()) -> dict[str, Any]:
    """The ``metadata`` of a field whose settings are flags of a command, but for those that it sets itself.

    Args:    flags: left out; groups: fields in it of which every flag is left out.
    """
    return {"hidden": flags, "groups": groups}


@dataclass(frozen=True)
class SearchRun(SearchConfig):
    """A search with everything it needs to be run again: what ``nasp-ext search`` writes to config.json."""

    groups: ClassVar[tuple[str, ...]] = ("task", "space", "strategy")

    task: TaskSettings = field(default_factory=TaskSettings)
    space: SpaceSettings = field(default_factory=SpaceSettings)
    strategy: StrategySettings = field(default_factory=StrategySettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_unset(self.task.without, f"task {self.task.name!r}")
        found = self.task.genotype(self.seed)
        if found is not None:
            raise ValueError(
                f"expected settings of task {self.task.name!r} that leave open what a search is to find, got "
                f"those of a retraining of {found.to_json():.200}"
            )

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
        check_known("the space", known, space)
        training = group(values, "training")
        check_known("the training", training_fields(cls), training)
        return cls(
            **training,
            task=_task_of(values),
            space=SpaceSettings(**space),
            strategy=StrategySettings(strategy.pop("name", "nasp"), strategy),
        )

    def differences(self, other: Mapping[str, Any]) -> str:
        """The settings in which ``other``, as ``flat`` of this or an older version, differs, as text."""
        try:
            return _differences(self, upgraded(other), ("task", "strategy"))
        except (ValueError, TypeError):  # of a task or strategy that is not there
            return super().differences(other)


@dataclass(frozen=True)
class RetrainRun(RetrainConfig):
    """A retraining with everything it needs to be run again: what ``nasp-ext retrain`` writes."""

    groups: ClassVar[tuple[str, ...]] = ("task",)

    genotype: str | None = None
    """A file (JSON, Python code, a log; FILE:NAME and FILE:LINE choose one of several), the folder of a run,
    a published name, or the text of a genotype: Genotype(normal=[…], …) or |op~0|+|op~0|op~1|…; None = that
    of the settings of the task, or else that in runs/search."""
    task: TaskSettings = field(default_factory=TaskSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_unset(self.task.without, f"task {self.task.name!r}")
        own = self.task.genotype(self.seed)
        if own is None and self.genotype is None:
            object.__setattr__(self, "genotype", USUAL_GENOTYPE)
        if own is not None and self.genotype is not None:
            raise ValueError(
                f"expected no genotype beside the settings of task {self.task.name!r}, which say what is "
                f"trained, got {shown(self.genotype)}: leave out the one or the other"
            )

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
        check_known("the training", training_fields(cls), training)
        genotype = {"genotype": values["genotype"]} if "genotype" in values else {}
        return cls(**{**training, **genotype}, task=_task_of(values))

    def differences(self, other: Mapping[str, Any]) -> str:
        """The settings in which ``other``, as ``flat`` of this or an older version, differs, as text."""
        try:
            return _differences(self, other, ("task",))
        except (ValueError, TypeError):  # of a task that is not there
            return super().differences(other)


def _differences(mine: SearchRun | RetrainRun, other: Mapping[str, Any], parts: Sequence[str]) -> str:
    """The settings that differ; of two tasks or strategies, whose settings are two lists, just the names.

    Raises:  ValueError: there is no such task or strategy.
    """
    complete = mine.from_flat({part: other[part] for part in parts if part in other})
    own, found = mine.flat(), {**complete.flat(), **other}
    for part in parts:
        if found[part] != own[part]:
            for name in {**getattr(mine, part).flat(), **getattr(complete, part).flat()}.keys() - {part}:
                found.pop(name, None)
                own.pop(name, None)
    return differences(own, found)


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


def _take(values: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """What these names have in ``values``, which lose it."""
    return {name: values.pop(name) for name in names if name in values}


def _take_task(values: dict[str, Any]) -> TaskSettings:
    name = values.pop("task", "images")
    return TaskSettings.of(name, _take(values, TaskSettings(name).values()))


def _task_of(values: Mapping[str, Any]) -> TaskSettings:
    task = dict(group(values, "task"))
    return TaskSettings.of(task.pop("name", "images"), task)
