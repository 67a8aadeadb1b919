# SPDX-License-Identifier: MIT
"""The flags of a command: one for each of its settings, also of those in groups, however deep they stand."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar, cast

from nasp_ext.engine.former import read_words
from nasp_ext.engine.options import own_options
from nasp_ext.engine.settings import SpaceSettings, StrategySettings, TaskSettings
from nasp_ext.engine.strategy_list import StrategyList
from nasp_ext.strategies import names
from nasp_ext.tasks import task_kinds

_T = TypeVar("_T")
_WORDS = "strategy_options"
_OWN = "own"  # an option of several strategies that each has at its own default


@dataclass(frozen=True)
class Flag:
    """An option of a command line.

    Args:
        name: as of its setting, with underscores; type, default: of the value; help: for --help.
        split: whether commas part its values as spaces do.
    """

    name: str
    type: Any
    default: Any
    help: str = ""
    split: bool = False


def flags_of(value: Any, without: Collection[str] = ()) -> list[Flag]:
    """The flags of a dataclass of settings, whose values are their defaults.

    A field that is a dataclass gives the flags of its own fields, but those that its ``metadata`` hides.

    Args:    without: fields to leave out.

    >>> [flag.name for flag in flags_of(SpaceSettings())]
    ['space', 'partial_channels', 'reductions']
    """
    if isinstance(value, TaskSettings):
        known = f"Task: {', '.join(task_kinds())}."
        return [Flag("task", str, value.name, known), *flags_of(value.options)]
    if isinstance(value, StrategySettings):
        return _strategy_flags(value)
    if isinstance(value, StrategyList):
        return _list_flags(value)
    types, texts = typing.get_type_hints(type(value)), field_texts(cast(Hashable, type(value)))
    found: list[Flag] = []
    for field, own in _fields(value, without):
        if dataclasses.is_dataclass(own):
            hidden, groups = _left_out(field)
            found += [flag for flag in flags_of(own, groups) if flag.name not in hidden]
            continue
        kind = types[field.name]
        numbers = typing.get_origin(kind) is tuple and str not in typing.get_args(kind)
        found.append(Flag(_flag_name(value, field.name), kind, own, texts.get(field.name, ""), numbers))
    return found


def with_values(value: _T, given: Mapping[str, Any], without: Collection[str] = ()) -> _T:
    """The settings with the values of these flags; what no flag gives stays as it is.

    Args:    without: fields that stay.
    Raises:  ValueError: a value that cannot be.

    >>> with_values(SpaceSettings(), {"space": "nasp"})
    SpaceSettings(name='nasp', partial_channels=None, reductions=())
    """
    return cast(_T, _with_values(value, given, without))


def _with_values(value: Any, given: Mapping[str, Any], without: Collection[str]) -> Any:
    if isinstance(value, TaskSettings):
        name = given.get("task", value.name)
        own = value if name == value.name else TaskSettings(name)
        return TaskSettings(name, with_values(own.options, given))
    if isinstance(value, StrategySettings):
        return _strategy_with(value, given)
    if isinstance(value, StrategyList):
        return _list_with(value, given)
    new: dict[str, Any] = {}
    for field, own in _fields(value, without):
        if dataclasses.is_dataclass(own):
            hidden, groups = _left_out(field)
            told = {name: told for name, told in given.items() if name not in hidden}
            new[field.name] = with_values(own, told, groups)
        elif _flag_name(value, field.name) in given:
            new[field.name] = given[_flag_name(value, field.name)]
    return dataclasses.replace(value, **new)


def tasks_of(value: Any) -> tuple[TaskSettings, ...]:
    """The tasks that settings name."""
    if isinstance(value, TaskSettings):
        return (value,)
    groups = [own for _, own in _fields(value, ()) if dataclasses.is_dataclass(own)]
    return tuple(task for own in groups for task in tasks_of(own))


def strategies_of(value: Any, without: Collection[str] = ()) -> tuple[str, ...]:
    """The strategies that settings name and whose options are flags, () if there are none."""
    if isinstance(value, StrategySettings):
        return (value.name,)
    if isinstance(value, StrategyList):
        return value.names
    found: list[str] = []
    for field, own in _fields(value, without):
        if dataclasses.is_dataclass(own):
            found += strategies_of(own, _left_out(field)[1])
    return tuple(found)


def _fields(value: Any, without: Collection[str]) -> list[tuple[dataclasses.Field[Any], Any]]:
    """The fields of a dataclass, each with its value, but those that mean nothing to its task."""
    found = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
    left_out = {
        *without,
        *(name for _, own in found if isinstance(own, TaskSettings) for name in own.without),
    }
    return [(field, own) for field, own in found if field.name not in left_out]


def _left_out(field: dataclasses.Field[Any]) -> tuple[Collection[str], Collection[str]]:
    """The flags and the groups that ``hiding`` leaves out."""
    return field.metadata.get("hidden", ()), field.metadata.get("groups", ())


def _flag_name(value: Any, field: str) -> str:
    """A space is chosen by --space, not by --name."""
    return "space" if isinstance(value, SpaceSettings) and field == "name" else field


def _strategy_flags(value: StrategySettings) -> list[Flag]:
    flags = [Flag("strategy", str, value.name, f"Search strategy: {', '.join(names())}.")]
    for option in own_options(value.name).values():
        now, text = value.options[option.name], f"{option.help} (Option of {value.name}.)".strip()
        if option.annotation is bool:
            flags.append(Flag(option.flag, bool, now, text))
        else:
            flags.append(Flag(option.flag, str, option.text(now), text))
    help_ = "Options of the strategy, each as name=value with the names that nasp-ext info lists."
    return [*flags, Flag(_WORDS, tuple[str, ...], (), help_)]


def _strategy_with(value: StrategySettings, given: Mapping[str, Any]) -> StrategySettings:
    name = given.get("strategy", value.name)
    options = dict(value.options) if name == value.name else {}
    told = {}
    for option in own_options(name).values():
        new = given.get(option.flag)
        if new is None:
            continue
        if option.annotation is not bool and new != option.text(options.get(option.name, option.default)):
            new = told[option.name] = option.read(new)
            options[option.name] = new
        elif option.annotation is bool:
            options[option.name] = new
    words = read_words(name, given.get(_WORDS, ()))
    for twice in [option for option in words if option in told and told[option] != words[option]]:
        flag = own_options(name)[twice].flag
        raise ValueError(f"expected {flag} once, got it as a flag and as the option {twice}={words[twice]}")
    return StrategySettings(name, options | words)


def _list_flags(value: StrategyList) -> list[Flag]:
    flags = [Flag("strategies", tuple[str, ...], value.names, f"Of {', '.join(names())}.", split=True)]
    for name, options in value.options().items():
        having = ", ".join(option.strategy for option in options)
        now = value.texts.get(name, _OWN)
        flags.append(Flag(name, str, now, f"{options[0].help} (Option of {having}.)".strip()))
    help_ = "Options of one strategy, each as strategy:name=value."
    return [*flags, Flag(_WORDS, tuple[str, ...], value.words, help_)]


def _list_with(value: StrategyList, given: Mapping[str, Any]) -> StrategyList:
    chosen = given.get("strategies", value.names)
    texts = {**value.texts, **{flag: given[flag] for flag in _all_options(chosen) if flag in given}}
    set_ = {flag: text for flag, text in texts.items() if text != _OWN}
    return StrategyList(chosen, set_, given.get(_WORDS, value.words))


def _all_options(chosen: tuple[str, ...]) -> set[str]:
    return {option.flag for name in chosen for option in own_options(name).values()}


@cache
def field_texts(kind: Hashable) -> dict[str, str]:
    """The strings that stand under the fields of a dataclass, and of those it comes from."""
    found: dict[str, str] = {}
    for base in reversed(cast(type, kind).__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):  # made without a file
            continue
        body = ast.parse(source).body[0].body  # type: ignore[attr-defined]  # of a class
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                name, words = getattr(field.target, "id", ""), getattr(text.value, "value", None)
                if isinstance(words, str):
                    found[name] = " ".join(words.split())
    return found
