# SPDX-License-Identifier: MIT
"""Several strategies that are compared, with options that each takes as far as it has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nasp_ext.checks import check_different, shown
from nasp_ext.engine.former import read_words
from nasp_ext.engine.options import Option, own_options
from nasp_ext.engine.settings import StrategySettings


@dataclass(frozen=True)
class StrategyList:
    """Strategies to compare.

    Args:
        names: of the strategies, all different.
        texts: values of options by their flags, for each strategy that has the option.
        words: options of one strategy, each as ``strategy:name=value``; they come on top.

    >>> listed = StrategyList(("nasp", "asng"), {"arch_lr": "0.1"}, ("asng:lam=4",))
    >>> listed.settings("nasp").options["lr"], listed.settings("asng").options["lam"]
    (0.1, 4)
    """

    names: tuple[str, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_different("strategies", self.names)
        for word in self.words:
            if word.partition(":")[0] not in self.names:
                raise ValueError(
                    f"expected strategy:name=value, the strategy one of {', '.join(self.names)}, "
                    f"got {shown(word)}"
                )
        for name in self.names:
            self.settings(name)

    def settings(self, name: str) -> StrategySettings:
        """Of one of the strategies."""
        known = {option.flag: option for option in own_options(name).values()}
        options = {
            known[flag].name: known[flag].read(text) for flag, text in self.texts.items() if flag in known
        }
        words = [word.partition(":") for word in self.words]
        own = tuple(option for of, _, option in words if of == name)
        return StrategySettings(name, options | read_words(name, own))

    def options(self) -> dict[str, list[Option]]:
        """By flag: the option of each strategy that has it."""
        found: dict[str, list[Option]] = {}
        for name in self.names:
            for option in own_options(name).values():
                found.setdefault(option.flag, []).append(option)
        return found
