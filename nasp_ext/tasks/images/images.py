# SPDX-License-Identifier: MIT
"""One image classification data set in memory, validated once, so that nothing later has to check it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nasp_ext.tasks.images.batches import Batches


class Part(NamedTuple):
    """What a reader finds of the training or the test part of a data set."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64
    classes: int  # 1 + the largest label of the whole part, whatever a limit left of it


@dataclass(frozen=True, eq=False)
class ImageData:
    """Training and test images with their labels, and how batches of them are normalised and augmented.

    Args:
        name: what reports call the data.
        train_images, test_images: (N, C, H, W) uint8; both parts share C, H and W.
        train_labels, test_labels: (N,) int64, each in [0, len(classes)).
        classes: the names of the classes.
        mean, std: per channel, of pixels scaled to [0, 1].
        crop_padding: pixels of black border for the random crop; 0 = no crop.
        flip: whether a mirrored image still shows the same class.

    Raises:
        ValueError: if a part is empty, shapes, dtypes or counts disagree, or a label is out of range.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            _check_part(self.name, part, *self.part(part), len(self.classes))
        train, test = tuple(self.train_images.shape[1:]), tuple(self.test_images.shape[1:])
        if train != test:
            raise ValueError(f"{self.name}: train images are {train} but test images {test} (C, H, W)")
        for label, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise ValueError(f"{self.name}: expected {self.channels} {label} values, got {len(values)}")
        if min(self.std) <= 0:
            raise ValueError(f"{self.name}: expected std above 0 in every channel, got {self.std}")
        if self.crop_padding < 0:
            raise ValueError(f"{self.name}: expected crop_padding >= 0, got {self.crop_padding}")

    @property
    def channels(self) -> int:
        return self.train_images.shape[1]

    def part(self, part: str) -> tuple[Tensor, Tensor]:
        """The images and labels of "train" or "test"."""
        if part == "train":
            return self.train_images, self.train_labels
        if part == "test":
            return self.test_images, self.test_labels
        raise ValueError(f"expected part 'train' or 'test', got {part!r}")

    def training_batches(
        self,
        batch: int,
        indices: Tensor | None = None,
        *,
        cutout: int = 0,
        device: torch.device | str = "cpu",
    ) -> Batches:
        """Shuffled, augmented, full batches of the training images (of those in ``indices``, if given)."""
        return Batches(
            self.train_images,
            self.train_labels,
            indices,
            batch,
            self.mean,
            self.std,
            self.crop_padding,
            self.flip,
            cutout=cutout,
            device=device,
        )

    def evaluation_batches(
        self,
        batch: int,
        part: str = "test",
        indices: Tensor | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> Batches:
        """Every image of the part once, in file order, not augmented; the last batch may be smaller."""
        images, labels = self.part(part)
        return Batches(
            images,
            labels,
            indices,
            batch,
            self.mean,
            self.std,
            device=device,
            shuffle=False,
            drop_last=False,
        )


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 images (N, C, H, W), scaled to [0, 1].

    Exact: it counts each of the 256 values, so no sum depends on an order. A constant channel gets std 1.

    >>> channel_statistics(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    ((0.5,), (0.5,))
    """
    value = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.reshape(-1), minlength=256).double() / channel.numel()
        centre = float(share @ value)
        mean.append(centre)
        std.append(float((share @ (value - centre) ** 2).sqrt()) or 1.0)
    return tuple(mean), tuple(std)


def _check_part(name: str, part: str, images: Tensor, labels: Tensor, classes: int) -> None:
    where = f"{name}, {part} part"
    if images.dtype != torch.uint8 or images.dim() != 4:
        raise ValueError(
            f"{where}: expected uint8 images (N, C, H, W), got {images.dtype} {tuple(images.shape)}"
        )
    if labels.dtype != torch.int64 or labels.dim() != 1:
        raise ValueError(f"{where}: expected int64 labels (N,), got {labels.dtype} {tuple(labels.shape)}")
    if images.shape[0] != labels.shape[0]:
        raise ValueError(
            f"{where}: expected a label per image, got {images.shape[0]} images, {labels.shape[0]} labels"
        )
    if images.numel() == 0:
        raise ValueError(f"{where}: the data set is empty, its images are {tuple(images.shape)}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(f"{where}: expected labels in [0, {classes}), found {low} to {high}")


def limited(images: Tensor, labels: Tensor, limit: int | None) -> Part:
    """A part with at most ``limit`` of its images."""
    chosen = subset(len(labels), limit)
    return Part(images[chosen], labels[chosen], 1 + int(labels.max()) if len(labels) else 0)


def subset(count: int, limit: int | None) -> Tensor:
    """Which of ``count`` images a limit keeps, int64, ascending: a random choice, the same in every call.

    Not the first ones: files are often sorted by class.

    >>> subset(4, None).tolist(), subset(1000, 5).tolist() == subset(1000, 5).tolist()
    ([0, 1, 2, 3], True)
    """
    if limit is None or limit >= count:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:limit].sort().values
