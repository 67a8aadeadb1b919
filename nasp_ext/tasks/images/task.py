# SPDX-License-Identifier: MIT
"""What a search is for: the data, the networks that fit it, the loss."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.config import RetrainConfig, SearchConfig, TrainingConfig
from nasp_ext.families.cells.network import Network
from nasp_ext.families.networks import derived_network, of_images, supernet
from nasp_ext.tasks.base import WHOLE, Metric, Outcome, SearchData, Shard, Task
from nasp_ext.tasks.images.batches import Batches
from nasp_ext.tasks.images.images import ImageData


class ClassificationTask(Task):
    """Images to classes with cross-entropy.

    Args:
        data: training and test images.
    """

    metrics = (Metric("accuracy", ".1%", low=0, high=1),)

    def __init__(self, data: ImageData) -> None:
        self.data = data

    def supernet(self, space: SearchSpace, config: SearchConfig) -> Network:
        if not of_images(space):
            raise ValueError(
                f"expected a space of networks of images, got {space.name!r}: choose another space or task"
            )
        net: Network = supernet(
            space,
            channels=config.channels,
            cells=config.cells,
            classes=len(self.data.classes),
            in_channels=self.data.channels,
        )
        return net

    def derived(self, genotype: AnyGenotype, config: RetrainConfig) -> Network:
        if not of_images(genotype):
            raise ValueError(
                f"expected the genotype of a network of images, got one of kind {genotype.kind!r}: choose "
                "another genotype or task"
            )
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

    def search_batches(self, config: SearchConfig, device: torch.device, shard: Shard = WHOLE) -> SearchData:
        """Two random halves of the training images; the second both steers and validates."""
        order = torch.randperm(
            len(self.data.train_labels), generator=torch.Generator().manual_seed(config.seed)
        )
        half = len(order) // 2
        train, steer = _equal(order[:half], shard), _equal(order[half : 2 * half], shard)
        if config.batch > len(train):
            raise ValueError(
                f"expected a batch of at most {len(train)} images, half of the {len(order)} training images "
                f"of {self.data.name}{_per_process(shard)}, got {config.batch}: use a smaller batch or more "
                "images"
            )
        batches = partial(self.data.training_batches, config.batch, cutout=config.cutout, device=device)
        return SearchData(
            train=batches(indices=train),
            steer=batches(indices=steer),
            validate=self.data.evaluation_batches(
                config.batch, part="train", indices=_share(order[half:], shard), device=device
            ),
        )

    def training_batches(self, config: RetrainConfig, device: torch.device, shard: Shard = WHOLE) -> Batches:
        """All training images, augmented."""
        chosen = _equal(torch.arange(len(self.data.train_labels)), shard)
        return self.data.training_batches(config.batch, chosen, cutout=config.cutout, device=device)

    def test_batches(self, config: TrainingConfig, device: torch.device, shard: Shard = WHOLE) -> Batches:
        """All test images, as they are."""
        chosen = _share(torch.arange(len(self.data.test_labels)), shard)
        return self.data.evaluation_batches(config.batch, indices=chosen, device=device)

    def run(
        self,
        network: nn.Module,
        batch: tuple[Tensor, Tensor],
        gates: Gates | None = None,
        state: Any = None,
    ) -> Outcome:
        """Images (B, C, H, W) and their classes (B,) through a network."""
        x, y = batch
        output = network(x) if gates is None else network(x, gates)
        logits, auxiliary = output if isinstance(output, tuple) else (output, None)
        loss = self.loss(logits, y)
        correct = self.correct(logits.detach(), y)
        second = None if auxiliary is None else self.loss(auxiliary, y)
        return Outcome(loss, {"accuracy": correct}, len(y), auxiliary=second)

    def start_epoch(self, network: nn.Module, config: RetrainConfig, epoch: int) -> None:
        """Paths are dropped more often from epoch to epoch, up to ``config.drop_path`` in the last."""
        cast(Network, network).drop_path_prob = config.drop_path * epoch / max(config.epochs - 1, 1)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy of (B, classes) logits."""
        return functional.cross_entropy(logits, target)

    def correct(self, logits: Tensor, target: Tensor) -> Tensor:
        """How many of the batch are classified correctly, () on the device."""
        return (logits.argmax(1) == target).sum()


def _share(indices: Tensor, shard: Shard) -> Tensor:
    """The indices of one process, each in one of them."""
    rank, ranks = shard
    return indices[rank::ranks]


def _equal(indices: Tensor, shard: Shard) -> Tensor:
    """As many indices in every process; those over are in none."""
    return _share(indices[: len(indices) // shard[1] * shard[1]], shard)


def _per_process(shard: Shard) -> str:
    return "" if shard[1] == 1 else f" shared by {shard[1]} processes"
