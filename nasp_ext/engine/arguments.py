# SPDX-License-Identifier: MIT
"""What the functions of this package are given, before any work."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import nn

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.checks import shown
from nasp_ext.config import RetrainConfig, SearchConfig, TrainingConfig, training_fields
from nasp_ext.tasks.base import DataPart, SearchData, Task


def check_arguments(**given: tuple[object, Any]) -> None:
    """Raise TypeError for the first argument that is of another type than it should be.

    Args:    given: (value, type or union of types) by name.

    >>> check_arguments(out=(None, str | None), epochs=(3, int))
    """
    for name, (value, kind) in given.items():
        if not isinstance(value, kind):
            kinds = get_args(kind) or (kind,)
            words = ["None" if one is type(None) else one.__name__ for one in kinds]
            raise TypeError(
                f"expected {name} to be {_article(words)}, got {type(value).__name__}: {value!r:.80}"
            )


def check_gates(space: SearchSpace, gates: Gates) -> None:
    """Raise ValueError unless a network of ``space`` could run these gates, TypeError if they are none."""
    check_arguments(gates=(gates, Gates))
    expected = (space.rows, space.options)
    if gates.weight.shape != expected:
        raise ValueError(
            f"expected gates of space {space.name!r}, {expected}, got {tuple(gates.weight.shape)}"
        )
    if not bool(gates.weight.isfinite().all()):
        raise ValueError("expected gates of finite weights, got NaN or infinity")


def placed(network: Any, device: torch.device) -> nn.Module:
    """The network of a task, on the device.

    Raises:  TypeError: it is none.
    """
    check_arguments(network=(network, nn.Module))
    moved: nn.Module = network.to(device)
    return moved


def check_search_data(data: Any) -> None:
    """Raise ValueError unless the parts of a search can be run, TypeError if they are none."""
    check_arguments(search_batches=(data, SearchData))
    for name in ("train", "steer", "validate"):
        check_part(getattr(data, name), f"{name} part")
    check_batches(len(data.steer), data.train, "steer part")


def check_without(task: Task, config: TrainingConfig) -> None:
    """Raise ValueError if the configuration sets what means nothing to the task, or that names no setting."""
    name = type(task).__name__
    known = {*training_fields(SearchConfig), *training_fields(RetrainConfig)}
    listed = isinstance(task.without, tuple | list)
    unknown = [one for one in task.without if one not in known] if listed else [task.without]
    if unknown:
        raise ValueError(
            f"expected {name}.without to be a tuple of names of settings, got {shown(unknown[0])}"
        )
    config.check_unset(task.without, name)


def check_part(part: Any, name: str) -> None:
    """Raise ValueError unless a part of the data has a batch, TypeError if it is none."""
    if not isinstance(part, DataPart):
        raise TypeError(f"expected the {name} of the data to be a DataPart, got {type(part).__name__}")
    if len(part) < 1:
        raise ValueError(f"expected one batch or more in the {name} of the data, got {len(part)}")


def check_batches(found: int, train: DataPart, name: str) -> None:
    """Raise ValueError unless there were as many batches as ``train`` says."""
    if found != len(train):
        raise ValueError(
            f"expected {len(train)} batches, the length of the train part, in the {name}, got {found}"
        )


def _article(words: list[str]) -> str:
    text = " or ".join(words)
    return text if text == "None" else f"{'an' if text[0] in 'AEIOaeio' else 'a'} {text}"
