# SPDX-License-Identifier: MIT
"""What a line of a history holds, to look at one that was read from a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nasp_ext.arch.gates import PRUNED, Gates
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.engine.architectures import counts, is_stored
from nasp_ext.engine.measures import headline
from nasp_ext.states import check_keys, check_number, check_same, place, shown
from nasp_ext.tasks.base import LOSS, Metric

Bounds = dict[str, Any]  # what check_number takes
_COUNT: Bounds = {"low": 0, "whole": True}
_POSITIVE: Bounds = {"low": 0}
# The numbers of a line beside those of the parts of the data.
_RETRAIN: dict[str, Bounds] = {"epoch": _COUNT, "lr": _POSITIVE, "seconds": _POSITIVE}
_SEARCH: dict[str, Bounds] = {
    "epoch": _COUNT,
    "iterations": _COUNT,
    "lr": _POSITIVE,
    "entropy": _POSITIVE,
    "search_seconds": _POSITIVE,
    "seconds": _POSITIVE,
    "start_memory": _COUNT,
    "peak_memory": _COUNT,
}
VALIDATED = ("best_epoch", "averaged", "rollbacks")  # of a line of a retraining with validation data
_LATER = {"bn_batches": _COUNT}  # histories of older versions lack it
_OTHERS = ("genotype", "strategy", "active", "scores")


def _part(part: str, metrics: Sequence[Metric], *, none: bool = False) -> dict[str, Bounds]:
    """The numbers of a part of the data, None where it may be missing; a loss may be negative."""
    bounds: dict[str, Bounds] = {}
    for metric in metrics:
        known = {"low": metric.low, "high": metric.high, "none": none or None}
        bounds[f"{part}_{metric.name}"] = {key: value for key, value in known.items() if value is not None}
    return bounds


def check_retrain_line(line: Any, name: str, metrics: Sequence[Metric], last: int | None = None) -> None:
    """Raise ValueError unless ``line`` is one of the history of a retraining for a task of these metrics.

    Args:    last: of a task with validation data the last epoch, which alone is tested; None = every one is.
    """
    measured = (LOSS, *metrics)
    numbers, tested = _RETRAIN | _part("train", measured), _part("test", measured)
    if last is None:
        numbers, tested = numbers | tested, {}
    else:
        numbers |= _part("val", measured) | dict.fromkeys(VALIDATED, _COUNT)
    check_keys(line, numbers, name, optional=tested)
    _check_numbers(line, numbers, name)
    if [key in line for key in tested] != [line["epoch"] == last] * len(tested):
        raise ValueError(f"expected {name} to hold test_loss in epoch {last} alone, found another epoch")
    _check_numbers(line, {key: one for key, one in tested.items() if key in line}, name)


def _search_numbers(metrics: Sequence[Metric]) -> dict[str, Bounds]:
    """The numbers of a line of a search, but for what is counted in its genotype."""
    measured = (LOSS, *metrics)
    numbers = _SEARCH | _part("train", measured) | _part("steer", measured, none=True)
    return numbers | _part("val", measured) | _part("mixture", headline(metrics), none=True)


def check_counts(counted: Mapping[str, Any], metrics: Sequence[Metric]) -> None:
    """Raise ValueError unless a line can hold what is counted in a genotype: whole numbers by new names."""
    taken = {*_search_numbers(metrics), *_part("test", (LOSS, *metrics)), *_LATER, *_OTHERS}
    for name, number in counted.items():
        if not isinstance(name, str) or name in taken:
            raise ValueError(
                f"expected counts() of a genotype by names that no history has yet, got {shown(name)}"
            )
        check_number(number, f"{name} of the counts() of a genotype", **_COUNT)


def check_search_line(
    line: Any, name: str, space: SearchSpace, iterations: int, metrics: Sequence[Metric], test_every: int
) -> None:
    """Raise ValueError unless ``line`` is one of a search in ``space``.

    Args:    iterations: per epoch; metrics: of the task; test_every: as in ``SearchConfig``.
    """
    numbers = _search_numbers(metrics)
    tested = _part("test", (LOSS, *metrics)) if test_every else {}
    chosen = _chosen(line, name, space)
    counted = counts(space.genotype(chosen))
    numbers |= dict.fromkeys(counted, _COUNT)
    check_keys(line, [*numbers, *_OTHERS], name, optional=[*_LATER, *tested])
    _check_numbers(line, numbers, name)
    _check_numbers(line, {key: one for key, one in (_LATER | tested).items() if key in line}, name)
    check_same(line["iterations"], line["epoch"] * iterations, place(name, "iterations"))
    if tested and (line["epoch"] % test_every == 0) != all(key in line for key in tested):
        raise ValueError(f"expected {name} to hold test_loss every {test_every} epochs, found another epoch")
    if not is_stored(line["genotype"], space.genotype(chosen), place(name, "genotype")):
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


def _chosen(line: Any, name: str, space: SearchSpace) -> Gates:
    """The architecture of a line."""
    found: Any = line.get("active") if isinstance(line, Mapping) else None
    _check_list(found, space.rows, place(name, "active"))
    for row, option in enumerate(found):
        at = place(place(name, "active"), row)
        check_number(option, at, PRUNED, len(space.choices(row)) - 1, whole=True)
    return Gates(torch.zeros(space.rows, space.options), tuple(found))


def _check_numbers(line: Mapping[str, Any], bounds: Mapping[str, dict[str, Any]], name: str) -> None:
    for key, one in bounds.items():
        check_number(line[key], place(name, key), **one)


def _check_list(found: Any, length: int, name: str) -> None:
    if not isinstance(found, list) or len(found) != length:
        raise ValueError(f"expected {name} to be a list of {length} entries, found {shown(found)}")
