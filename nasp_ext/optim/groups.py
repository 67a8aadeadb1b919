# SPDX-License-Identifier: MIT
"""Options of one NASP parameter group: presets, and checks of what a caller, a file or a scheduler gave."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from nasp_ext.optim.nodes import as_nodes, node_offsets

# What each preset says where the caller is silent; "adam" is not an option of its own.
PRESETS: dict[str, dict[str, Any]] = {
    "official": {"adam": True, "weight_decay": 1e-3, "edges_per_node": 2, "keep_value": False},
    "paper": {"adam": False, "weight_decay": 0.0, "edges_per_node": None, "keep_value": True},
}
FROM_PRESET = "preset"
NONE = "none"  # the primitive that is no operation
_DTYPES = (torch.float32, torch.float64)


def complete_group(group: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The group with every option filled in from its preset and checked against its parameters.

    Args:
        group: a parameter group as the caller gave it; ``params`` and any option. ``options``, the names of
            the columns, becomes a mask without `none`, unless there is one.
        defaults: the options given to the optimizer itself.
    Raises:
        ValueError, TypeError: an option that cannot be used, saying what was expected.
    """
    full = {**defaults, **group}
    full["params"] = _as_params(full.get("params"))
    preset = full["preset"]
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ValueError(f"expected preset to be one of {sorted(PRESETS)}, got {preset!r}")
    for name, value in PRESETS[preset].items():
        given = full.get(name, FROM_PRESET)
        if isinstance(given, str) and given == FROM_PRESET:
            full[name] = value
    full["nodes"] = as_nodes(full["nodes"])
    names = _as_names(full.pop("options"))
    if names is not None and full["mask"] is None and NONE in names:
        full["mask"] = torch.tensor([name != NONE for name in names])
    check_options(full)
    for p in full["params"]:
        matrix = p[1] if isinstance(p, tuple) else p
        if names is not None and isinstance(matrix, Tensor) and matrix.shape[1:] != (len(names),):
            raise ValueError(
                f"expected options to name the columns of the matrix {tuple(matrix.shape)}, got "
                f"{len(names)} names"
            )
        check_parameter(matrix, full)
        check_tables(matrix, full)
    return full


def _as_params(params: object) -> list[Any]:
    if isinstance(params, Tensor):
        return [params]
    if isinstance(params, (set, frozenset)) or not isinstance(params, Iterable):
        raise TypeError(
            "expected params of a group to be a matrix or a list of them, whose order a state counts on, got "
            f"{type(params).__name__}"
        )
    return list(params)


def _as_names(names: object) -> tuple[str, ...] | None:
    if names is None:
        return None
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"expected options to be a list of the names of the K options, got {names!r}")
    return tuple(names)


def check_options(group: dict[str, Any]) -> None:
    """Raise ValueError or TypeError for an option that is none, whatever the parameters are."""
    for name in ("lr", "eps", "weight_decay"):
        _check_number(name, group[name])
    betas = group["betas"]
    if not (
        isinstance(betas, (tuple, list))
        and len(betas) == 2
        and all(isinstance(b, Real) and not isinstance(b, bool) and 0 <= float(b) < 1 for b in betas)
    ):
        raise ValueError(f"expected betas to be two numbers in [0, 1), got {betas!r}")
    as_nodes(group["nodes"])
    if group["edges_per_node"] is not None:
        _check_edges(group["edges_per_node"])
    if not isinstance(group["keep_value"], bool):
        raise TypeError(f"expected keep_value to be True, False or None, got {group['keep_value']!r}")
    _check_table("mask", group["mask"])
    check_regulariser(group["eta"], group["cost"])


def check_regulariser(eta: Any, cost: Any) -> None:
    """Raise ValueError or TypeError for a weight or costs that none can be made of, whatever their shape."""
    _check_number("eta", eta)
    _check_table("cost", cost)
    if eta and cost is None:
        raise ValueError(f"eta = {eta} needs cost=, the parameters (or time) of each option, (K,) or (R, K)")


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, Tensor) and name == "lr" and value.numel() == 1:
        value = float(value)  # PyTorch's optimizers take a rate in a tensor
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"expected {name} to be a finite number >= 0, got {value!r}")
    if not 0 <= float(value) < math.inf:
        raise ValueError(f"expected {name} to be a finite number >= 0, got {value}")


def _check_edges(keep: Any) -> None:
    wrong = f"expected edges_per_node to be None (all edges) or a whole number >= 1, got {keep!r}"
    try:
        number = operator.index(keep)
    except TypeError as error:
        raise TypeError(wrong) from error
    if isinstance(keep, bool):
        raise TypeError(wrong)
    if number < 1:
        raise ValueError(wrong)


def _check_table(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Tensor):
        raise TypeError(f"expected {name} to be a tensor of shape (K,) or (R, K), got {value!r}")
    if value.is_meta or value.layout is not torch.strided:
        raise TypeError(
            f"expected {name} to be a dense tensor that holds numbers, got one of layout {value.layout} on "
            f"{value.device}"
        )
    if name == "mask" and value.dtype != torch.bool:
        raise TypeError(f"expected mask to be bool (True = the option exists), got {value.dtype}")
    if name == "cost" and (value.is_complex() or value.dtype == torch.bool):
        raise TypeError(f"expected cost to hold numbers, got {value.dtype}")


def check_parameter(p: Any, group: dict[str, Any]) -> None:
    """Raise ValueError or TypeError if ``p`` is no architecture matrix or the options do not fit it."""
    if not isinstance(p, Tensor):
        raise TypeError(f"expected architecture parameters to be tensors, got {type(p).__name__}")
    if p.layout is not torch.strided:
        raise TypeError(f"expected a dense architecture matrix, got one of layout {p.layout}")
    if p.ndim != 2 or p.shape[1] == 0:
        raise ValueError(f"expected an architecture matrix (R, K) with K >= 1, got shape {tuple(p.shape)}")
    if p.dtype not in _DTYPES:
        raise TypeError(f"expected an architecture matrix of float32 or float64, got {p.dtype}")
    if group["edges_per_node"] is not None:
        node_offsets(group["nodes"], p.shape[0], group["edges_per_node"])
    for name in ("cost", "mask"):
        value = group[name]
        if value is not None and not _broadcasts(value.shape, p.shape):
            raise ValueError(
                f"expected {name} to fit the matrix {tuple(p.shape)} as (K,) or (R, K), "
                f"got {tuple(value.shape)}"
            )


def check_tables(p: Tensor, group: dict[str, Any]) -> None:
    """Raise ValueError for entries of cost or mask that cannot be; on a GPU this waits for the device."""
    mask, cost = group["mask"], group["cost"]
    if mask is not None and p.shape[0]:
        empty = ~mask.expand(p.shape).any(-1)
        if bool(empty.any()):
            raise ValueError(
                f"expected mask to leave every row an option, found none in row {int(empty.nonzero()[0])} of "
                f"the matrix {tuple(p.shape)}: leave such a row out of the matrix"
            )
    if cost is not None and not bool(((cost >= 0) & cost.isfinite()).all()):
        raise ValueError("expected cost to hold finite numbers >= 0, found a negative one, infinity or a NaN")


def _broadcasts(shape: Sequence[int], target: Sequence[int]) -> bool:
    return len(shape) in (1, 2) and all(
        s in (1, t) for s, t in zip(reversed(shape), reversed(target), strict=False)
    )
