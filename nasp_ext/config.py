# SPDX-License-Identifier: MIT
"""Settings of a run: frozen, checked when made, written beside the results as config.json."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from nasp_ext.checks import (
    LARGEST_ARCH_RATE,
    LARGEST_ETA,
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
    """What a search and a retraining share: the network's size and SGD with a cosine learning rate."""

    cells: int = 8
    """Cells of the network, with the two that reduce, at 1/3 and 2/3 of the depth."""
    channels: int = 16
    """Channels of the first cells."""
    epochs: int = 50
    """Passes over the training images."""
    batch: int = 64
    """Images per step."""
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
        for field in dataclasses.fields(self):
            object.__setattr__(
                self, field.name, typed(field.name, str(field.type), getattr(self, field.name))
            )
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

    def to_json(self) -> str:
        """Text that ``from_json`` reads back to an equal configuration."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls: type[_C], text: str) -> _C:
        """Read a configuration; fields that are missing keep their default.

        Raises:  ValueError: if the text is no JSON object, or names an unknown field.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"expected a configuration as JSON, got text that is none: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"expected a configuration as a JSON object, got {type(values).__name__}")
        known = {field.name: field for field in dataclasses.fields(cls)}
        unknown = [name for name in values if name not in known]
        if unknown:
            raise ValueError(f"expected the fields {', '.join(known)}, got {', '.join(unknown)}")
        return cls(**values)

    @classmethod
    def from_file(cls: type[_C], path: Path) -> _C:
        """``from_json`` of a file; errors name it."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"{path}: expected a readable configuration file: {error.strerror}") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def differences(self, other: dict[str, Any]) -> str:
        """The fields in which ``other`` (as ``dataclasses.asdict``) differs, as text; empty if none.

        Fields that ``other`` lacks, being of an older version, have their default.
        """
        mine, other = dataclasses.asdict(self), {**dataclasses.asdict(type(self)()), **other}
        names = [name for name in {**mine, **other} if name not in mine or not _same(mine[name], other[name])]
        return ", ".join(f"{name} {shown(other[name])} → {shown(mine.get(name))}" for name in names)


def _same(mine: object, other: object) -> bool:
    """Equal, and neither true nor false for a number."""
    plain = other is None or isinstance(other, bool | int | float | str | tuple | list)
    return plain and isinstance(mine, bool) == isinstance(other, bool) and bool(mine == other)


@dataclass(frozen=True)
class SearchConfig(TrainingConfig):
    """A search on half of the training images, validated and steered by the other half."""

    warmup_epochs: int = 0
    """First epochs in which A rests: weights train at random architectures, or at the mixture if one runs."""
    bn_batches: int = 8
    """Training batches, an epoch at most, whose statistics BatchNorm has where another architecture is
    evaluated than was trained last; 0 = the running statistics."""
    cutout: int = 0
    """Side of the square that is blanked in each training image; 0 = none."""
    test_every: int = 0
    """Epochs from one evaluation of the best architecture on the test part to the next; 0 = none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.warmup_epochs < self.epochs, "warmup_epochs", "in [0, epochs)", self.warmup_epochs)
        self._check_ranges(0, bn_batches=MOST_IMAGES, cutout=MOST_PIXELS, test_every=MOST_EPOCHS)


@dataclass(frozen=True)
class SearchRun(SearchConfig):
    """A search with everything it needs to be run again: what ``nasp-ext search`` writes to config.json."""

    data: str = "digits"
    """digits, fashion-mnist, cifar10, or a path: a folder of IDX files or CIFAR-10 batches, an .npz file."""
    data_dir: str | None = None
    """Where to look for a named data set."""
    limit: int | None = None
    """Use at most this many images of each part."""
    space: str = "darts"
    """Search space."""
    partial_channels: int | None = None
    """Options take 1 / this of the channels of an edge; None = the strategy's own, 4 for pc-darts, else 1."""
    reductions: tuple[int, ...] = ()
    """Places of the two cells that reduce, counted from 0, for strategies that give each layer a cell of its
    own (asm); without them 1/3 and 2/3 of the depth. Those of the ASM paper: 4 9 with 15 cells."""
    strategy: str = "nasp"
    """Search strategy: nasp, darts, darts-2nd, pc-darts, pa, pa-lazy, asng, gdas, random, asm."""
    preset: str = "official"
    """NASP as in the authors' code (official) or as printed (paper)."""
    arch_lr: float | None = None
    """Learning rate of A; None = the strategy's own."""
    eta: float = 0.0
    """Weight of the complexity regulariser: larger gives smaller networks."""
    edges_per_node: int | str = "preset"
    """Edges kept per node: a number, all, or what the preset says."""
    strategy_options: tuple[str, ...] = ()
    """Further options of the strategy, each as name=value; nasp-ext info lists them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_ranges(0, arch_lr=LARGEST_ARCH_RATE, eta=LARGEST_ETA)
        self._check_ranges(1, partial_channels=MOST_CHANNELS)
        edges = self.edges_per_node
        known = 1 <= edges <= MOST_CHANNELS if isinstance(edges, int) else edges in ("preset", "all")
        check(known, "edges_per_node", "a number >= 1, 'all' or 'preset'", edges)


@dataclass(frozen=True)
class RetrainConfig(TrainingConfig):
    """Training of a derived network on all training images; the defaults are the usual ones for CIFAR-10."""

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

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_ranges(0, auxiliary=LARGEST_RATE, cutout=MOST_PIXELS)
        check(0 <= self.drop_path < 1, "drop_path", "in [0, 1)", self.drop_path)


@dataclass(frozen=True)
class RetrainRun(RetrainConfig):
    """A retraining with everything it needs to be run again: what ``nasp-ext retrain`` writes."""

    genotype: str = "runs/search"
    """A file (JSON, Python code, a log; FILE:NAME and FILE:LINE choose one of several), the folder of a run,
    a published name, or the text of a genotype: Genotype(normal=[…], …) or |op~0|+|op~0|op~1|…"""
    data: str = "digits"
    """digits, fashion-mnist, cifar10, or a path, as for search."""
    data_dir: str | None = None
    """Where to look for a named data set."""
    limit: int | None = None
    """Use at most this many images of each part."""


# What the commands start from on the 8×8 digits: a search and a retraining in about a minute on two cores.
# One thread: the operators on such images are too small for two.
DIGITS_SEARCH: dict[str, Any] = {
    "cells": 3,
    "channels": 8,
    "epochs": 20,
    "batch": 64,
    "lr": 0.1,
    "arch_lr": 3e-3,
    "threads": 1,
}
DIGITS_RETRAIN: dict[str, Any] = {
    "cells": 4,
    "channels": 16,
    "epochs": 30,
    "batch": 32,
    "lr": 0.1,
    "weight_decay": 2e-3,
    "auxiliary": 0.0,
    "drop_path": 0.1,
    "cutout": 2,
    "threads": 1,
}
