# SPDX-License-Identifier: MIT
"""Batches of images: the same (seed, epoch) gives the same bits, on every device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad


class Batches:
    """Walks through images in batches, normalised and, if asked, shuffled and augmented.

    The defaults are those of training: shuffled, without a smaller last batch. The images stay uint8 on
    ``device``; crop and flip are one gather per batch, cutout one mask, drawn from a CPU generator, so that
    every device agrees.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
        indices: which images to use, (M,) int64; None = all.
        batch: images per batch.
        mean, std: per channel, of pixels scaled to [0, 1].
        crop_padding: a random H × W window of the image with this much black border; 0 = off.
        flip: mirror each image with probability 1/2.
        cutout: side of a square set to the mean colour around a random pixel, cut at the border; 0 = off.
        device: where batches live.
        shuffle: a new order each epoch; else the order of ``indices``.
        drop_last: leave out a last batch that is smaller than ``batch``.

    Raises:
        ValueError: if no image is left, an index is out of range, ``batch`` is not in [1, images] (with
            ``drop_last=False`` it may be larger: evaluation then has one smaller batch), or ``crop_padding``
            or ``cutout`` is larger than an image.

    >>> images, labels = torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.arange(5)
    >>> batches = Batches(images, labels, None, 2, (0.0,), (1.0,), shuffle=False, drop_last=False)
    >>> [y.tolist() for x, y in batches.epoch(seed=0, epoch=0)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        indices: Tensor | None,
        batch: int,
        mean: Sequence[float],
        std: Sequence[float],
        crop_padding: int = 0,
        flip: bool = False,
        cutout: int = 0,
        device: torch.device | str = "cpu",
        *,
        shuffle: bool = True,
        drop_last: bool = True,
    ) -> None:
        count = images.shape[0]
        if indices is None:
            indices = torch.arange(count)
        if indices.numel() == 0:
            raise ValueError("expected at least one image to make batches of, got none")
        if int(indices.min()) < 0 or int(indices.max()) >= count:
            raise ValueError(
                f"expected indices in [0, {count}), got {int(indices.min())} to {int(indices.max())}"
            )
        if batch < 1 or (drop_last and batch > indices.numel()):
            raise ValueError(
                f"expected a batch size in [1, {indices.numel()}], the number of images, got {batch}: "
                "use a smaller batch or more images"
            )
        if crop_padding < 0 or cutout < 0:
            raise ValueError(f"expected crop_padding and cutout >= 0, got {crop_padding} and {cutout}")
        side = max(images.shape[2:])
        if cutout > side or crop_padding > side:  # nothing would be left of most images
            name, value = ("cutout", cutout) if cutout > side else ("crop_padding", crop_padding)
            raise ValueError(f"expected {name} <= {side}, the side of the images, got {value}")
        self.images = images.to(device)
        self.labels = labels.to(device)
        self.indices = indices.cpu()
        self.batch = batch
        shape = (1, images.shape[1], 1, 1)
        centre, spread = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        # (pixel / 255 - mean) / std as one multiplication and one addition.
        self.scale = (1 / (255 * spread)).float().reshape(shape).to(device)
        self.shift = (-centre / spread).float().reshape(shape).to(device)
        self.crop_padding = crop_padding
        self.flip = flip
        self.cutout = cutout
        self.shuffle = shuffle
        self.drop_last = drop_last

    def __len__(self) -> int:
        """Batches per epoch."""
        full, rest = divmod(self.indices.numel(), self.batch)
        return full if self.drop_last or rest == 0 else full + 1

    def epoch(self, seed: int = 0, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield x (B, C, H, W) float32 and y (B,) int64; (seed, epoch) fixes order and augmentation."""
        if seed < 0 or epoch < 0:
            raise ValueError(f"expected seed and epoch >= 0, got {seed} and {epoch}")
        return self._walk(_generator(seed, epoch))

    def _walk(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.indices
        if self.shuffle:
            order = order[torch.randperm(order.numel(), generator=generator)]
        for start in range(0, len(self) * self.batch, self.batch):
            chosen = order[start : start + self.batch].to(self.images.device)
            pixels = self.images[chosen]
            if self.crop_padding or self.flip:
                pixels = _crop_and_flip(pixels, self.crop_padding, self.flip, generator)
            x = pixels * self.scale + self.shift
            if self.cutout:
                x = x.masked_fill(_cutout_mask(x, self.cutout, generator), 0.0)
            yield x, self.labels[chosen]


def _generator(seed: int, epoch: int) -> torch.Generator:
    """A generator of its own for every (seed, epoch); (0, 1) and (1, 0) are unrelated."""
    mixed = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint32)
    return torch.Generator().manual_seed(int(mixed[0]))


def _crop_and_flip(pixels: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Random window of each padded image (B, C, H, W), mirrored or not, by one gather of flat positions."""
    batch, channels, height, width = pixels.shape
    shift = torch.randint(0, 2 * padding + 1, (2, batch, 1), generator=generator)
    rows = shift[0] + torch.arange(height)
    columns = shift[1] + torch.arange(width)
    if flip:
        mirrored = torch.rand(batch, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    position = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    position = position.reshape(batch, 1, height * width).expand(batch, channels, -1).to(pixels.device)
    padded = pad(pixels, (padding, padding, padding, padding)).flatten(2)
    return padded.gather(2, position).reshape(batch, channels, height, width)


def _cutout_mask(x: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """(B, 1, H, W) bool, True inside a side × side square around a random pixel of each image."""
    batch, _, height, width = x.shape
    inside = []
    for size in (height, width):
        first = torch.randint(0, size, (batch, 1), generator=generator) - side // 2
        position = torch.arange(size)
        inside.append((position >= first) & (position < first + side))
    return (inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(x.device)
