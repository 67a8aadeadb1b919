# SPDX-License-Identifier: MIT
"""From the configuration of a search to its strategy."""

from __future__ import annotations

import json
import math
import types
import typing
from typing import Any

import torch

from nasp_ext.arch.registry import space
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.checks import shown
from nasp_ext.config import DIGITS_SEARCH, SearchRun
from nasp_ext.nn.partial import part_of
from nasp_ext.strategies import Strategy, strategy
from nasp_ext.strategies.base import looks, option_types, partial_channels
from nasp_ext.tasks.images.task import ClassificationTask

# Options that have a field of their own in the configuration, and those that follow from the run.
_FIELDS = {"preset": "preset", "lr": "arch_lr", "eta": "eta", "edges_per_node": "edges_per_node"}
_FOLLOWING = ("seed", "device", "dtype", "costs", "steps")
_BEYOND = 10**300  # the least whole number that is not made a float
_NONE_FITS = object()
_PLAIN = (bool, int, float, str, type(None))


def search_space(run: SearchRun) -> SearchSpace:
    """The space that a configuration asks for: for strategies that look, one of layers with attention.

    Its nodes keep all their edges, as Alg. 1 of ASM-NAS does. With the partial channels of the configuration,
    or those that the strategy is made for.

    Raises:  ValueError: an unknown space or strategy, or what does not go together.
    """
    option_types(run.strategy)
    found = space(run.space)
    divisor = partial_channels(run.strategy) if run.partial_channels is None else run.partial_channels
    if divisor > 1:
        found = found.with_partial_channels(divisor)
        part_of(run.channels, divisor)  # told before the data are read
    if not looks(run.strategy):
        return found
    return found.with_edges_per_node(None).in_layers(run.cells, attention=True)


def build_strategy(run: SearchRun, found: SearchSpace, task: ClassificationTask) -> Strategy:
    """The strategy that a configuration asks for.

    Raises:  ValueError: an option that the strategy does not have, or a value that it cannot be.
    """
    known = option_types(run.strategy)
    options: dict[str, Any] = {"seed": run.seed, "device": run.torch_device()}
    options = {name: value for name, value in options.items() if name in known}
    default = SearchRun()
    for name, field in _FIELDS.items():
        value = getattr(run, field)
        if name in known:
            if value is not None:
                options[name] = None if value == "all" else value
        elif value not in (getattr(default, field), DIGITS_SEARCH.get(field)):
            raise ValueError(f"strategy {run.strategy!r} has no option {field}, got {field}={value!r}")
    options |= _own_options(run)
    if "steps" in known:
        batches = len(task.search_batches(run, torch.device("cpu")).steer)
        options["steps"] = batches * (run.epochs - run.warmup_epochs)
    if run.eta and "costs" in known:
        with torch.device("meta"):  # counting parameters needs no memory
            network = task.supernet(found, run)
        options["costs"] = network.option_costs()
    return strategy(run.strategy, found, **options)


def own_options(name: str) -> tuple[str, ...]:
    """The options of a strategy that ``strategy_options`` of a configuration may set."""
    return tuple(
        option
        for option, kind in option_types(name).items()
        if option not in (*_FIELDS, *_FOLLOWING) and _kinds(kind)
    )


def _own_options(run: SearchRun) -> dict[str, Any]:
    """``name=value`` words, each value read as JSON if it is some, as text otherwise."""
    known, options = own_options(run.strategy), dict[str, Any]()
    for word in run.strategy_options:
        name, equals, text = word.partition("=")
        if name in _FIELDS:
            raise ValueError(f"expected {_FIELDS[name]} to be set by its own field, got the option {word!r}")
        if not equals or name not in known:
            raise ValueError(
                f"strategy {run.strategy!r} takes the options {', '.join(known) or 'none'} as name=value, "
                f"got {shown(word)}"
            )
        annotation = option_types(run.strategy)[name]
        value = _fitting(annotation, _value(text))
        if value is _NONE_FITS:
            kinds = " or ".join(
                "None" if kind is type(None) else kind.__name__ for kind in _kinds(annotation)
            )
            parts = [kind.__name__ for kind in typing.get_args(annotation) if kind in _PLAIN]
            listed = f" [{', '.join(parts)}]" if kinds == "tuple" else ""
            raise ValueError(
                f"expected the option {name} of strategy {run.strategy!r} to be {kinds}{listed}"
                f"{', finite' * ('float' in kinds + listed)}, got {shown(text)}"
            )
        options[name] = value
    return options


def _fitting(annotation: Any, value: Any) -> Any:
    """The value as an option of this annotation takes it, or ``_NONE_FITS``; floats are finite."""
    kinds = _kinds(annotation)
    if type(value) is int and int not in kinds and float in kinds and abs(value) < _BEYOND:
        value = float(value)
    if type(value) not in kinds or (isinstance(value, float) and not math.isfinite(value)):
        return _NONE_FITS
    if not isinstance(value, tuple):
        return value
    parts = typing.get_args(annotation)
    if parts[-1] is ...:
        parts = parts[:1] * len(value)
    if len(parts) != len(value):
        return _NONE_FITS
    fitting = tuple(map(_fitting, parts, value))
    return _NONE_FITS if _NONE_FITS in fitting else fitting


def _value(text: str) -> Any:
    if text in ("None", "True", "False"):
        return {"None": None, "True": True, "False": False}[text]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return tuple(value) if isinstance(value, list) else value


def _kinds(annotation: Any) -> tuple[type, ...]:
    """The types of the values that text can give to an option; none if it takes no plain value."""
    if annotation in _PLAIN:
        return (annotation,)
    if annotation is None:
        return (type(None),)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return tuple(dict.fromkeys(type(value) for value in arguments))
    if origin is tuple and all(argument in (*_PLAIN, ...) for argument in arguments):
        return (tuple,)
    if origin in (typing.Union, types.UnionType):
        return tuple(dict.fromkeys(kind for argument in arguments for kind in _kinds(argument)))
    return ()
