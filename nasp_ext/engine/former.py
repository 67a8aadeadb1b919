# SPDX-License-Identifier: MIT
"""Configurations of version 0.1.0 before tasks had names: the options of a strategy in five fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasp_ext.checks import shown, typed
from nasp_ext.engine.options import own_options

# Fields that every search had, with what they held where a strategy had no such option.
_SHARED = {"preset": "official", "arch_lr": None, "eta": 0.0, "edges_per_node": "preset"}


def upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a search by the names of today, of those of any version.

    Raises:  ValueError: no such strategy, or it has not got an option.

    >>> upgraded({"strategy": "random", "eta": 0.0, "strategy_options": ["batches=3"]})
    {'strategy': 'random', 'batches': 3}
    """
    found = dict(values)
    if "task" in found:
        return found
    name = found.get("strategy", "nasp")
    options = own_options(name)
    flags = {option.flag: option for option in options.values()}
    for field, unused in _SHARED.items():
        if field not in found:
            continue
        value, same = found[field], type(found[field]) is type(unused) and found[field] == unused
        if value is None or (field not in flags and (same or field == "arch_lr")):
            del found[field]
        elif field == "edges_per_node" and value == "all":
            found[field] = None
    words = typed("strategy_options", "tuple[str, ...]", found.pop("strategy_options", ()))
    return found | {options[option].flag: value for option, value in read_words(name, words).items()}


def read_words(name: str, words: tuple[str, ...]) -> dict[str, Any]:
    """Options of a strategy, each as ``name=value``, by their names.

    Raises:  ValueError: a word that is none, or an option or value that the strategy has not got.

    >>> read_words("darts", ("betas=[0.9, 0.99]",))
    {'betas': (0.9, 0.99)}
    """
    known, options = own_options(name), dict[str, Any]()
    for word in words:
        option, equals, text = word.partition("=")
        if not equals or option not in known:
            raise ValueError(
                f"strategy {name!r} takes the options {', '.join(known) or 'none'} as name=value, "
                f"got {shown(word)}"
            )
        options[option] = known[option].read(text)
    return options
