# SPDX-License-Identifier: MIT
"""Settings of a run: frozen, checked when made, written beside the results as config.json."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch

from nasp_ext.checks import (
    LARGEST_RATE,
    MOST_CELLS,
    MOST_CHANNELS,
    MOST_EPOCHS,
    MOST_IMAGES,
    MOST_PIXELS,
    MOST_SEED,
    MOST_THREADS,
    check,
    check_range,
    shown,
    typed,
)

_C = TypeVar("_C", bound="TrainingConfig")


@dataclass(frozen=True)
class TrainingConfig:
    """What a search and a retraining share: the network's size and SGD with a cosine learning rate.

    Attributes:
        kind: of run, "search" or "retrain".
        groups: fields that are settings of a part of the run, with fields of their own.
    """

    kind: ClassVar[str] = "training"
    groups: ClassVar[tuple[str, ...]] = ()

    cells: int = 8
    """Cells of the network, with the two that reduce, at 1/3 and 2/3 of the depth."""
    channels: int = 16
    """Channels of the first cells."""
    epochs: int = 50
    """Passes over the training data."""
    batch: int = 64
    """Images, or columns of text, per step."""
    seed: int = 0
    """Decides initial weights, split, order, augmentation and ties."""
    lr: float = 0.025
    """First learning rate of the weights."""
    lr_min: float = 0.001
    """Learning rate after the last epoch (cosine)."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 3e-4
    """Weight decay of the weights."""
    clip: float = 5.0
    """Largest norm of the gradient of all weights."""
    device: str = "auto"
    """cpu, cuda, cuda:1 …; auto takes a GPU if there is one."""
    threads: int | None = None
    """CPU threads; None leaves PyTorch's choice. Another number gives other last bits."""
    fused: bool = True
    """Run cells with the fused operators where they can; else always as plain PyTorch modules."""

    def __post_init__(self) -> None:
        own = training_fields(type(self))
        for field in dataclasses.fields(self):
            if field.name in own:
                value = typed(field.name, str(field.type), getattr(self, field.name))
                object.__setattr__(self, field.name, value)
        self._check_ranges(1, cells=MOST_CELLS, channels=MOST_CHANNELS, epochs=MOST_EPOCHS)
        self._check_ranges(1, batch=MOST_IMAGES, threads=MOST_THREADS)
        check(0 <= self.seed <= MOST_SEED, "seed", "in [0, 2**63)", self.seed)
        self._check_ranges(0, lr=LARGEST_RATE, lr_min=LARGEST_RATE, weight_decay=LARGEST_RATE)
        check(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        check(self.clip > 0, "clip", "> 0", self.clip)
        self._check_ranges(0, clip=LARGEST_RATE)
        self.torch_device()

    def _check_ranges(self, low: int, **highest: float) -> None:
        """Raise ValueError unless each of these fields is in [low, highest], or None where it may be."""
        optional = {field.name for field in dataclasses.fields(self) if "None" in str(field.type)}
        for name, high in highest.items():
            value = getattr(self, name)
            if value is not None:
                check_range(name, value, low, high, " or None" if name in optional else "")

    def torch_device(self) -> torch.device:
        """The device to run on.

        Raises:  ValueError: if it is no device, or a GPU that PyTorch does not see.
        """
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", self.device) is None:
            raise ValueError(f"expected device to be auto, cpu, cuda or cuda:<n>, got {shown(self.device)}")
        device = torch.device(self.device)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ValueError(
                f"expected device to be one of the {torch.cuda.device_count()} GPUs that PyTorch sees, "
                f"got {self.device!r}"
            )
        return device

    def check_unset(self, names: Sequence[str], of: str) -> None:
        """Raise ValueError if a setting of these names, which means nothing to a task, has been set.

        Args:    names: those that another kind of run has are passed over; of: the task, for the message.
        """
        values = {
            field.name: (getattr(self, field.name), field.default) for field in dataclasses.fields(self)
        }
        for name in names:
            value, default = values.get(name, (None, None))
            if value != default:
                raise ValueError(
                    f"expected {name} to be {default}, its default, for {of}, to which it means nothing, got "
                    f"{shown(value)}"
                )

    def flat(self) -> dict[str, Any]:
        """Every setting by the name it has on a command line: what a checkpoint holds, to compare."""
        return {name: getattr(self, name) for name in training_fields(type(self))}

    def nested(self) -> dict[str, Any]:
        """What config.json holds: the kind of run, and the settings in a group for each part."""
        return {
            "kind": self.kind,
            "training": {name: getattr(self, name) for name in training_fields(type(self))},
        }

    def to_json(self) -> str:
        """Text that ``from_json`` reads back to an equal configuration."""
        return json.dumps(self.nested(), indent=2) + "\n"

    @classmethod
    def from_flat(cls: type[_C], values: Mapping[str, Any]) -> _C:
        """From the names of ``flat``, as older versions wrote config.json; what is missing keeps its default.

        Raises:  ValueError: an unknown name, or a value that cannot be.
        """
        known = training_fields(cls)
        unknown = [name for name in values if name not in known]
        if unknown:
            raise ValueError(f"expected the fields {', '.join(known)}, got {', '.join(unknown)}")
        return cls(**values)

    @classmethod
    def from_nested(cls: type[_C], values: Mapping[str, Any]) -> _C:
        """From what ``nested`` gives; what is missing keeps its default.

        Raises:  ValueError: of another kind of run, an unknown name, or a value that cannot be.
        """
        return cls.from_flat(group(values, "training"))

    @classmethod
    def from_json(cls: type[_C], text: str) -> _C:
        """Read a configuration, also one that an older version wrote; what is missing keeps its default.

        Raises:  ValueError: if the text is no JSON object, is of another kind of run, or names an unknown
            field.
        """
        values = json_object(text)
        if "training" not in values and "kind" not in values:
            return cls.from_flat(values)
        if values.get("kind", cls.kind) != cls.kind:
            raise ValueError(
                f"expected the configuration of a {cls.kind}, found that of a {shown(values['kind'])}"
            )
        groups = tuple(cls().nested())
        unknown = [name for name in values if name not in groups]
        if unknown:
            raise ValueError(f"expected the groups {', '.join(groups)}, got {', '.join(unknown)}")
        return cls.from_nested(values)

    @classmethod
    def from_file(cls: type[_C], path: Path) -> _C:
        """``from_json`` of a file; errors name it."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"{path}: expected a readable configuration file: {error.strerror}") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def differences(self, other: Mapping[str, Any]) -> str:
        """The settings in which ``other`` (as ``flat``) differs, as text; empty if none.

        What ``other`` lacks, being of an older version, has its default.
        """
        return differences(self.flat(), {**type(self)().flat(), **other})


def differences(mine: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The settings in which two differ, as text; empty if none.

    >>> differences({"lr": 0.1, "seed": 1}, {"lr": 0.2, "seed": 1})
    'lr 0.2 → 0.1'
    """
    names = [name for name in {**mine, **other} if name not in mine or not _same(mine[name], other.get(name))]
    return ", ".join(f"{name} {shown(other.get(name))} → {shown(mine.get(name))}" for name in names)


def training_fields(kind: type[TrainingConfig]) -> tuple[str, ...]:
    """The settings of a configuration that are numbers and words: all but its groups."""
    return tuple(field.name for field in dataclasses.fields(kind) if field.name not in kind.groups)


def json_object(text: str) -> dict[str, Any]:
    """The JSON object that a text is.

    Raises:  ValueError: it is none.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected a configuration as JSON, got text that is none: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"expected a configuration as a JSON object, got {type(values).__name__}")
    return values


def group(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A group of a nested configuration, empty if it is missing.

    Raises:  ValueError: it is no JSON object.
    """
    found = values.get(name, {})
    if not isinstance(found, dict):
        raise ValueError(f"expected {name} to be a JSON object, got {shown(found)}")
    return found


def _same(mine: object, other: object) -> bool:
    """Equal, and neither true nor false for a number."""
    plain = other is None or isinstance(other, bool | int | float | str | tuple | list)
    return plain and isinstance(mine, bool) == isinstance(other, bool) and bool(mine == other)


@dataclass(frozen=True)
class SearchConfig(TrainingConfig):
    """A search on half of the training images, validated and steered by the other half."""

    kind: ClassVar[str] = "search"

    warmup_epochs: int = 0
    """First epochs in which A rests: weights train at random architectures, or at the mixture if one runs."""
    bn_batches: int = 8
    """Training batches, an epoch at most, whose statistics BatchNorm has where another architecture is
    evaluated than was trained last, or a layer runs in every time step; 0 = the running statistics."""
    cutout: int = 0
    """Side of the square that is blanked in each training image; 0 = none."""
    test_every: int = 0
    """Epochs from one evaluation of the best architecture on the test part to the next; 0 = none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.warmup_epochs < self.epochs, "warmup_epochs", "in [0, epochs)", self.warmup_epochs)
        self._check_ranges(0, bn_batches=MOST_IMAGES, cutout=MOST_PIXELS, test_every=MOST_EPOCHS)


@dataclass(frozen=True)
class RetrainConfig(TrainingConfig):
    """Training of a derived network on all training images; the defaults are the usual ones for CIFAR-10."""

    kind: ClassVar[str] = "retrain"

    cells: int = 20
    channels: int = 36
    epochs: int = 600
    batch: int = 96
    lr_min: float = 0.0
    auxiliary: float = 0.4
    """Weight of the loss of the auxiliary head; 0 = no such head."""
    drop_path: float = 0.2
    """Probability of dropping a path in the last epoch, growing linearly from 0."""
    cutout: int = 16
    """Side of the square that is blanked in each training image; 0 = none."""
    fused_on_cuda: bool = False
    """Run the fused operators on CUDA too, where PyTorch's own kernels are faster for a derived network."""
    average_after: int = 0
    """Epochs without a smaller validation loss after which the weights that are evaluated are the mean of all
    from there on (averaged SGD); 0 = never. For tasks with validation data."""
    rollbacks: int = 0
    """How often a loss that is no number takes the run back to its best epoch; then, or if 0, it is an error.
    For tasks with validation data."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_ranges(0, auxiliary=LARGEST_RATE, cutout=MOST_PIXELS)
        self._check_ranges(0, average_after=MOST_EPOCHS, rollbacks=MOST_EPOCHS)
        check(0 <= self.drop_path < 1, "drop_path", "in [0, 1)", self.drop_path)
