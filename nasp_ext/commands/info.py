# SPDX-License-Identifier: MIT
"""``nasp-ext info``: what this installation can do, and what it can search."""

from __future__ import annotations

from dataclasses import dataclass

from nasp_ext import strategies
from nasp_ext._info import info_lines
from nasp_ext.arch.registry import names, space
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.commands.command import Command
from nasp_ext.engine.options import own_options


@dataclass(frozen=True)
class Info:
    """Print versions, instruction sets, devices, why a part was not built, the strategies and spaces."""


def _work(_: Info) -> None:
    """Print the report, a fact a line."""
    print("\n".join(info_lines()))
    for name in strategies.names():
        print(f"Strategy {name}: {', '.join(own_options(name)) or 'no further options'}")
    for name in names():
        print(f"Space {name}: {_described(space(name))}")


def _described(found: SearchSpace) -> str:
    kept = "all" if found.edges_per_node is None else found.edges_per_node
    count = found.architectures
    facts = [
        f"{found.rows} rows",
        f"{found.options} options",
        f"{len(found.node_offsets) - 1} nodes",
        f"{kept} edges per node",
        f"{count:,} architectures" if count < 10**6 else f"{count:.1e} architectures",
    ]
    if not found.has_gradient:
        facts.append("no gradient of the choices")
    return ", ".join(facts)


COMMAND = Command("info", Info, _work)
