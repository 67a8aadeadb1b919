# SPDX-License-Identifier: MIT
"""A task that is no image task: a recurrent model of characters whose state goes from segment to segment.

Segments have different lengths, the learning rate follows them, a validation part chooses the best epoch, and
the perplexity is the metric: what a language model asks of the engine, in a fraction of a second.
"""

import json
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from nasp_ext import MixedOp, RetrainConfig, SearchConfig, SearchSpace
from nasp_ext.arch import AnyGenotype, Family
from nasp_ext.tasks import Metric, Outcome, SearchData, Task

OPTIONS = ("tanh", "relu", "identity")
CHARACTERS = 5
LENGTHS = (2, 3, 4, 7)  # of the segments of an epoch, in another order each time
RATES = {"lr": 1.0, "lr_min": 0.5}
SIZES = {"batch": 4, **RATES, "momentum": 0.0, "clip": 1.0, "seed": 2}
SEARCH = SearchConfig(**SIZES, epochs=3, device="cpu", threads=1)
RETRAIN = RetrainConfig(**SIZES, epochs=6, device="cpu", threads=1)


@dataclass(frozen=True)
class Reader(AnyGenotype):
    """What a search finds: the activation of each layer."""

    activations: tuple[str, ...] = ("tanh", "relu")
    kind = "reader"

    def to_json(self):
        return json.dumps({"kind": self.kind, "activations": self.activations})

    def counts(self):
        return {"identities": self.activations.count("identity")}

    def drawings(self):
        return {"reader.svg": f"<svg>{self.activations}</svg>"}


@dataclass(frozen=True)
class Readers(SearchSpace):
    """Two layers of a recurrent network, each with a choice of its activation."""

    name: str = "readers"
    kind = "reader"
    rows, node_offsets = 2, (0, 1, 2)

    def choices(self, row):
        return OPTIONS

    def _genotype(self, active):
        return Reader(tuple(OPTIONS[option] for option in active))


def activations():
    return {"tanh": nn.Tanh(), "relu": nn.ReLU(), "identity": nn.Identity()}


class Reading(nn.Module):
    """Characters (T, B) and a hidden state (B, H) to logits (T, B, V) and the state after them."""

    def __init__(self, layers, width, norm=False, space=None):
        super().__init__()
        self.space = space
        self.words = nn.Embedding(CHARACTERS, width)
        self.carried = nn.Linear(width, width)
        self.layers = nn.ModuleList(layers)
        self.norm = nn.BatchNorm1d(width, affine=False) if norm else nn.Identity()  # one for every step
        self.dropout = nn.Dropout(0.1)
        self.decoder = nn.Linear(width, CHARACTERS)

    def forward(self, text, state, gates=None):
        found = []
        for x in self.dropout(self.words(text)):
            state = torch.tanh(x + self.carried(state))
            for row, layer in enumerate(self.layers):
                state = layer(state) if gates is None else layer(state, gates.weight[row])
            state = self.norm(state)
            found.append(state)
        return self.decoder(torch.stack(found)), state


class ReaderFamily(Family):
    """What reads and draws such genotypes, and derives their networks."""

    kind = "reader"
    space = Readers

    def supernet(self, space, width):
        layers = [MixedOp.from_modules(activations()) for _ in range(space.rows)]
        return Reading(layers, width, norm=True, space=space)

    def derived(self, genotype, width):
        return Reading([activations()[name] for name in genotype.activations], width)

    def derive(self, supernet, gates, *, inherit_weights):
        names = supernet.space.genotype(gates).activations
        width = supernet.decoder.in_features
        network = Reading([activations()[name] for name in names], width, norm=True)
        network.dropout = supernet.dropout
        own = network.state_dict()
        network.load_state_dict({name: supernet.state_dict()[name] for name in own})
        return network

    def drawings(self, genotype):
        return genotype.drawings()

    def read(self, data):
        return Reader(tuple(data["activations"]))


class Text:
    """A part: B columns of characters, most of them the successor of the one before, in segments."""

    def __init__(self, batch, part, device, diverges=(), shuffled=True):
        generator = torch.Generator().manual_seed(part)
        steps = torch.randint(0, 8, (sum(LENGTHS) + 1, batch), generator=generator)
        self.text = (steps.clamp_min(6) - 5).cumsum(0).remainder(CHARACTERS).to(device)
        self.diverges, self.shuffled = diverges, shuffled

    def __len__(self):
        return len(LENGTHS)

    def epoch(self, seed=0, epoch=0):
        generator = torch.Generator().manual_seed(1000 * seed + epoch)
        order = torch.randperm(len(LENGTHS), generator=generator) if self.shuffled else range(len(LENGTHS))
        start = 0
        for number, length in enumerate(LENGTHS[i] for i in order):
            segment = self.text[start : start + length + 1]
            yield segment[:-1], segment[1:], number == 1 and epoch in self.diverges
            start += length


class Characters(Task):
    """The characters that come next.

    Args:    validated: a retraining has a validation part; diverges: the numbers of the epochs of batches in
        which the loss of a training is no number; norm: a BatchNorm is in derived networks; units: of the
        network; text: the number of the first part of the text.
    """

    metrics = (Metric("perplexity", ".2f", higher_is_better=False, low=1, of_mean=math.exp),)

    without = ("cells", "channels", "cutout", "auxiliary", "drop_path", "fused_on_cuda")

    def __init__(self, validated=True, diverges=(), norm=False, units=6, text=0):
        self.validated, self.diverges, self.norm, self.units, self.text = (
            validated,
            diverges,
            norm,
            units,
            text,
        )

    def supernet(self, space, config):
        return ReaderFamily().supernet(space, self.units)

    def derived(self, genotype, config):
        return Reading([activations()[name] for name in genotype.activations], self.units, self.norm)

    def search_batches(self, config, device, shard=(0, 1)):
        parts = (Text(config.batch, self.text + 10 * shard[0] + part, device) for part in range(3))
        return SearchData(*parts)

    def training_batches(self, config, device, shard=(0, 1)):
        return Text(config.batch, self.text + 100 + shard[0], device, self.diverges)

    def validation_batches(self, config, device, shard=(0, 1)):
        return Text(3, self.text + 200 + shard[0], device, shuffled=False) if self.validated else None

    def test_batches(self, config, device, shard=(0, 1)):
        return Text(1, self.text + 300 + shard[0], device, shuffled=False)

    def rate(self, batch):
        return len(batch[0]) / 4

    def run(self, network, batch, gates=None, state=None):
        text, following, diverges = batch
        if state is None:
            state = network.decoder.weight.new_zeros(text.shape[1], network.decoder.in_features)
        logits, state = network(text, state, gates)
        entropy = functional.cross_entropy(logits.flatten(0, 1), following.flatten())
        loss = entropy * math.nan if diverges else entropy
        return Outcome(loss, {"perplexity": loss.detach() * following.numel()}, following.numel(), state)


@dataclass(frozen=True)
class ReadingSettings:
    """The text and the network of a run."""

    data: str = "first"
    """first or second."""
    units: int = 4
    """Of the network."""
    cell: str | None = None
    """plain trains a cell of tanh; None = the genotype of the run."""
    without: ClassVar[tuple[str, ...]] = Characters.without

    def suggested(self, kind):
        if kind == "search":
            return {"space": "readers", "epochs": 2, "batch": 4, "arch_lr": 0.05, "units": 3, **RATES}
        return {"epochs": 3, "batch": 4, "units": 5 if self.data == "first" else 7, "average_after": 1}

    def genotype(self, seed):
        return Reader(("tanh", "tanh")) if self.cell == "plain" else None


def reading(settings):
    if settings.data not in ("first", "second"):
        raise ValueError(f"expected data to be first or second, got {settings.data!r}")
    return Characters(units=settings.units, text=1000 * (settings.data == "second"))
