# SPDX-License-Identifier: MIT
"""What a line of a history holds, to look at one that was read from a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from nasp_ext.arch.gates import PRUNED, Gates
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.families.derivation import genotype_of
from nasp_ext.families.genotypes import genotype_from_json
from nasp_ext.states import check_keys, check_number, check_same, place, shown

_SHARE: dict[str, Any] = {"low": 0, "high": 1}
_COUNT: dict[str, Any] = {"low": 0, "whole": True}
# The numbers of a line, with the bounds that check_number takes; a loss of one's own may be negative.
_RETRAIN: dict[str, dict[str, Any]] = {
    "epoch": _COUNT,
    "lr": {"low": 0},
    "train_loss": {},
    "train_accuracy": _SHARE,
    "test_loss": {},
    "test_accuracy": _SHARE,
    "seconds": {"low": 0},
}
_SEARCH: dict[str, dict[str, Any]] = {
    "epoch": _COUNT,
    "iterations": _COUNT,
    "lr": {"low": 0},
    "train_loss": {},
    "train_accuracy": _SHARE,
    "steer_loss": {"none": True},
    "steer_accuracy": {**_SHARE, "none": True},
    "val_loss": {},
    "val_accuracy": _SHARE,
    "mixture_accuracy": {**_SHARE, "none": True},
    "entropy": {"low": 0},
    "skip_connections": _COUNT,
    "search_seconds": {"low": 0},
    "seconds": {"low": 0},
    "start_memory": _COUNT,
    "peak_memory": _COUNT,
}
_LATER = {"bn_batches": _COUNT}  # histories of older versions lack it
_OTHERS = ("genotype", "strategy", "active", "scores")


def check_retrain_line(line: Any, name: str) -> None:
    """Raise ValueError unless ``line`` is one of the history of a retraining."""
    check_keys(line, _RETRAIN, name)
    _check_numbers(line, _RETRAIN, name)


def check_search_line(line: Any, name: str, space: SearchSpace, iterations: int) -> None:
    """Raise ValueError unless ``line`` is one of a search in ``space``, with as many iterations per epoch."""
    check_keys(line, [*_SEARCH, *_OTHERS], name, optional=_LATER)
    _check_numbers(line, {**_SEARCH, **{key: _LATER[key] for key in _LATER if key in line}}, name)
    check_same(line["iterations"], line["epoch"] * iterations, place(name, "iterations"))
    _check_list(line["active"], space.rows, place(name, "active"))
    for row, option in enumerate(line["active"]):
        at = place(place(name, "active"), row)
        check_number(option, at, PRUNED, len(space.choices(row)) - 1, whole=True)
    gates = Gates(torch.zeros(space.rows, space.options), tuple(line["active"]))
    if read_stored(line["genotype"], place(name, "genotype")) != genotype_of(space, gates):
        raise ValueError(f"expected {name}.genotype to be that of {name}.active, found another")
    _check_list(line["scores"], space.rows, place(name, "scores"))
    for row, scores in enumerate(line["scores"]):
        at = place(place(name, "scores"), row)
        _check_list(scores, space.options, at)
        for option, score in enumerate(scores):
            check_number(score, place(at, option), 0)
    try:
        plain = json.loads(json.dumps(line["strategy"], allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        plain = None
    if not isinstance(plain, dict):
        raise ValueError(f"expected {name}.strategy to be a dict of JSON, found {shown(line['strategy'])}")


def read_stored(found: Any, name: str) -> AnyGenotype:
    """The genotype that a checkpoint holds as the dict of its JSON.

    Raises:  ValueError: it is none.
    """
    try:
        if not isinstance(found, Mapping):
            raise TypeError(f"found {shown(found)}")
        return genotype_from_json(found)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"expected {name} to be a genotype: {error}") from error


def _check_numbers(line: Mapping[str, Any], bounds: Mapping[str, dict[str, Any]], name: str) -> None:
    for key, one in bounds.items():
        check_number(line[key], place(name, key), **one)


def _check_list(found: Any, length: int, name: str) -> None:
    if not isinstance(found, list) or len(found) != length:
        raise ValueError(f"expected {name} to be a list of {length} entries, found {shown(found)}")
