# SPDX-License-Identifier: MIT
"""What a search is for: the data, the networks that fit it, the loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.config import RetrainConfig, SearchConfig, TrainingConfig
from nasp_ext.families.cells.network import Network
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.tasks.images.batches import Batches
from nasp_ext.tasks.images.images import ImageData


@dataclass(frozen=True)
class SearchBatches:
    """The halves of the training images: one trains the weights, the other steers A and validates."""

    train: Batches
    steer: Batches
    validate: Batches

    def first_images(self, seed: int, epoch: int, count: int) -> Iterator[Tensor]:
        """The images of the first ``count`` batches that train the weights in an epoch, as they saw them."""
        return (x for x, _ in islice(self.train.epoch(seed, epoch), count))


class ClassificationTask:
    """Images to classes with cross-entropy.

    Args:
        data: training and test images.
    """

    def __init__(self, data: ImageData) -> None:
        self.data = data

    def supernet(self, space: SearchSpace, config: SearchConfig) -> Network:
        """A fresh network with every option of ``space``; random weights from PyTorch's generator."""
        net: Network = supernet(
            space,
            channels=config.channels,
            cells=config.cells,
            classes=len(self.data.classes),
            in_channels=self.data.channels,
        )
        return net

    def derived(self, genotype: AnyGenotype, config: RetrainConfig) -> Network:
        """A fresh network of one genotype."""
        net: Network = derived_network(
            genotype,
            channels=config.channels,
            cells=config.cells,
            classes=len(self.data.classes),
            in_channels=self.data.channels,
            auxiliary=config.auxiliary > 0,
            fused=True if config.fused_on_cuda else None,
        )
        return net

    def search_batches(self, config: SearchConfig, device: torch.device) -> SearchBatches:
        """Two random halves of the training images, the same for the same seed."""
        order = torch.randperm(
            len(self.data.train_labels), generator=torch.Generator().manual_seed(config.seed)
        )
        half = len(order) // 2
        if config.batch > half:
            raise ValueError(
                f"expected a batch of at most {half} images, half of the {len(order)} training images of "
                f"{self.data.name}, got {config.batch}: use a smaller batch or more images"
            )
        batches = partial(self.data.training_batches, config.batch, device=device)
        return SearchBatches(
            train=batches(indices=order[:half]),
            steer=batches(indices=order[half : 2 * half]),
            validate=self.data.evaluation_batches(
                config.batch, part="train", indices=order[half:], device=device
            ),
        )

    def training_batches(self, config: RetrainConfig, device: torch.device) -> Batches:
        """All training images, augmented."""
        return self.data.training_batches(config.batch, cutout=config.cutout, device=device)

    def test_batches(self, config: TrainingConfig, device: torch.device) -> Batches:
        """All test images, as they are."""
        return self.data.evaluation_batches(config.batch, device=device)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy of (B, classes) logits."""
        return functional.cross_entropy(logits, target)

    def correct(self, logits: Tensor, target: Tensor) -> Tensor:
        """How many of the batch are classified correctly, () on the device."""
        return (logits.argmax(1) == target).sum()
