# SPDX-License-Identifier: MIT
"""A saved state of NASP against the optimizer that is to go on from it; checked before anything changes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nasp_ext.optim.groups import PRESETS, check_options, check_parameter, check_tables
from nasp_ext.optim.moments import MOMENTS, check_count, check_moment
from nasp_ext.optim.ties import TieBreaks

_FIELDS = ("state", "param_groups", "generator")
_FOREIGN = {  # what the schedulers of PyTorch and names of parameters leave in a group
    *("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr", "param_names"),
}


def check_saved(saved: Any, groups: list[dict[str, Any]], ties: TieBreaks) -> None:
    """Raise ValueError or TypeError if ``saved`` is not what an optimizer of these groups would have saved.

    Args:
        saved: what is to be loaded.
        groups: the parameter groups that the optimizer has.
        ties: what breaks its ties.
    """
    _check_keys("the state of NASP", saved, _FIELDS)
    ties.check_state(saved["generator"])
    saved_groups = saved["param_groups"]
    if not isinstance(saved_groups, list) or len(saved_groups) != len(groups):
        found = len(saved_groups) if isinstance(saved_groups, list) else type(saved_groups).__name__
        raise ValueError(f"expected {len(groups)} parameter groups, as this NASP has, found {found}")
    members: dict[int, tuple[Tensor, dict[str, Any]]] = {}
    for number, (group, own) in enumerate(zip(saved_groups, groups, strict=True)):
        name = f"parameter group {number}"
        _check_keys(name, group, tuple(own.keys() - _FOREIGN), may=_FOREIGN)
        indices = group["params"]
        counted = isinstance(indices, list) and all(type(i) is int for i in indices)
        if not counted or len(indices) != len(own["params"]):
            raise ValueError(f"expected {len(own['params'])} parameters in {name}, found {indices!r}")
        _check_group(name, group, own["params"])
        members.update({i: (p, group) for i, p in zip(indices, own["params"], strict=True)})
    _check_keys("the states of the parameters", saved["state"], (), may=members)
    for index, state in saved["state"].items():
        _check_state(index, state, *members[index], ties)


def _check_keys(what: str, found: Any, must: Any, may: Any = ()) -> None:
    if not isinstance(found, dict):
        raise TypeError(f"expected {what} to be a dict, found {type(found).__name__}")
    missing = [key for key in must if key not in found]
    foreign = [key for key in found if key not in must and key not in may]
    if missing or foreign:
        raise ValueError(
            f"expected {what} as NASP saves it, found "
            + " and ".join(
                f"{word} {', '.join(map(repr, keys))}"
                for word, keys in (("no", missing), ("also", foreign))
                if keys
            )
        )


def _check_group(name: str, group: dict[str, Any], params: list[Tensor]) -> None:
    preset = group["preset"]
    if not isinstance(preset, str) or preset not in PRESETS or group["adam"] is not PRESETS[preset]["adam"]:
        raise ValueError(f"expected {name} of a preset, one of {sorted(PRESETS)}, found {preset!r}")
    try:
        check_options(group)
        for p in params:
            check_parameter(p, group)
            check_tables(p, group)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} of the state: {error}") from error


def _check_state(index: Any, state: Any, p: Tensor, group: dict[str, Any], ties: TieBreaks) -> None:
    name = f"parameter {index}"
    if isinstance(state, dict) and not state:
        return
    adam = group["adam"]
    _check_keys(f"the state of {name}", state, ("step", "tie_seed"), may=MOMENTS if adam else ())
    check_count(state)
    ties.check_seed(state["tie_seed"])
    if not adam or (state["step"] == 0 and not any(moment in state for moment in MOMENTS)):
        return
    for moment in MOMENTS:
        value = state.get(moment)
        check_moment(moment, value, p, name)
        cast = value.to(p.dtype)
        low = 0.0 if moment == "exp_avg_sq" else -torch.inf
        if not bool((cast.isfinite() & (cast >= low)).all()):
            kind = "finite numbers" if moment == "exp_avg" else "finite numbers >= 0"
            raise ValueError(f"expected {moment} of {name} to hold {kind}, found others")
