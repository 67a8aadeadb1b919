# SPDX-License-Identifier: MIT
"""What a run says of language modelling, and what is usual in a search and in a retraining."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch

from nasp_ext.arch.gates import PRUNED, Gates
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.primitive_names import NONE
from nasp_ext.arch.registry import space
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.checks import LARGEST_RATE, MOST_CHANNELS, MOST_IMAGES, check, check_range, typed
from nasp_ext.families.genotypes import published
from nasp_ext.tasks.language.pydoc import PYDOC

SPACE = "darts-rnn"
CELLS = (None, "lstm", "random")

# Of the network. Liu et al. 2019 (DARTS), which Yao et al. 2020 (NASP) follow, on the Penn Treebank.
_DROPOUTS = {"dropout": 0.75, "dropouth": 0.25, "dropoutx": 0.75, "dropouti": 0.2}
_SIZES: dict[str, dict[str, Any]] = {
    "search": {"embedding": 300, **_DROPOUTS, "dropoute": 0.0},
    "retrain": {"embedding": 850, **_DROPOUTS, "dropoute": 0.1},
}
# On the texts of pydoc, where a search and a retraining take about two minutes on two cores. One thread: the
# operators on such states are too small for two.
_LITTLE_DROPOUT = {"dropout": 0.2, "dropouth": 0.0, "dropoutx": 0.0, "dropouti": 0.0, "dropoute": 0.0}
_SMALL_SIZES: dict[str, dict[str, Any]] = {
    "search": {"embedding": 64, **_LITTLE_DROPOUT},
    "retrain": {"embedding": 128, **_LITTLE_DROPOUT},
}
_OF_CELLS = ("auxiliary", "drop_path", "fused_on_cuda")  # of a retraining
# Of the training, by the flags of a command.
_SGD = {"lr": 20.0, "lr_min": 20.0, "momentum": 0.0, "clip": 0.25}
_TRAINING: dict[str, dict[str, Any]] = {
    "search": {"space": SPACE, **_SGD, "epochs": 50, "batch": 256, "weight_decay": 5e-7, "arch_lr": 3e-3},
    "retrain": {
        **_SGD,
        "epochs": 8000,
        "batch": 64,
        "weight_decay": 8e-7,
        "average_after": 5,
        "rollbacks": 5,
    },
}
_SMALL_TRAINING: dict[str, dict[str, Any]] = {
    "search": {"epochs": 25, "batch": 32, "lr": 10.0, "lr_min": 10.0, "threads": 1},
    "retrain": {"epochs": 25, "batch": 16, "threads": 1},
}


@dataclass(frozen=True)
class LanguageSettings:
    """The text and the language model of a run.

    The texts of pydoc are those of the Python that runs: they differ from one version to the next, and so do
    the perplexities.

    Attributes:    without: settings of images that mean nothing here, as of ``Task``.
    """

    without: ClassVar[tuple[str, ...]] = ("cells", "channels", "cutout", "bn_batches", *_OF_CELLS)

    data: str = PYDOC
    """pydoc, the help texts of this Python, which differ between versions; or a folder with texts to train,
    validate and test: train.txt, ptb.valid.txt, wiki.test.tokens …"""
    vocabulary: str | None = None
    """File with the words, one in each line; None = those of the training text."""
    limit: int | None = None
    """Use at most this many words of each text, the first ones."""
    sequence: int = 35
    """Usual length of a segment of text; those that train vary around it."""
    embedding: int | None = None
    """Units of an embedded word and of the hidden state; None = 300 in a search, 850 in a retraining (on
    pydoc 64 and 128)."""
    dropout: float | None = None
    """Dropout of the outputs of the cell; None = 0.75 (on pydoc 0.2)."""
    dropouth: float | None = None
    """Dropout of hidden states; None = 0.25 (on pydoc 0)."""
    dropoutx: float | None = None
    """Dropout of the inputs of the cell; None = 0.75 (on pydoc 0)."""
    dropouti: float | None = None
    """Dropout of embedded words; None = 0.2 (on pydoc 0)."""
    dropoute: float | None = None
    """Dropout of whole words of the embedding; None = 0 in a search, 0.1 in a retraining (on pydoc 0)."""
    output_penalty: float = 0.0
    """Weight of the mean square of the outputs in the loss that weights train with, elsewhere alpha."""
    step_penalty: float = 1e-3
    """Weight of the mean square of the steps of the hidden state in that loss, elsewhere beta."""
    eval_batch: int | None = None
    """Columns in which the validation text is evaluated; None = 10 in a retraining, the batch in a search,
    whose norms have the statistics of the columns."""
    test_batch: int | None = None
    """Columns in which the test text is evaluated; None = 1 in a retraining, the batch in a search."""
    cell: str | None = None
    """What a retraining trains in place of a genotype: lstm, that of PyTorch; random, drawn by the seed."""

    def suggested(self, kind: str) -> dict[str, Any]:
        """What a command starts from on these texts for a "search" or "retrain", by its flags.

        >>> LanguageSettings("ptb").suggested("search")["batch"]
        256
        """
        return {**_TRAINING[kind], **(_SMALL_TRAINING[kind] if self.data == PYDOC else {})}

    def genotype(self, seed: int) -> AnyGenotype | None:
        """What ``cell`` stands for in a run of that seed; None = the genotype of the run."""
        if self.cell == "lstm":
            return published()["LSTM"]
        return random_genotype(space(SPACE), seed) if self.cell == "random" else None

    def sizes(self, kind: str, corpus: str) -> Mapping[str, Any]:
        """The options of the networks of a "search" or "retrain" on a corpus of this name.

        >>> LanguageSettings(embedding=200).sizes("search", "ptb")["embedding"]
        200
        """
        usual = (_SMALL_SIZES if corpus == PYDOC else _SIZES)[kind]
        own = {name: getattr(self, name) for name in usual}
        return usual | {name: value for name, value in own.items() if value is not None}

    def __post_init__(self) -> None:
        for field in fields(self):
            value = typed(field.name, str(field.type), getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        for name in ("output_penalty", "step_penalty"):
            check_range(name, getattr(self, name), 0, LARGEST_RATE)
        for name in ("limit", "sequence", "embedding", "eval_batch", "test_batch"):
            low, high = 2 if name == "limit" else 1, MOST_CHANNELS if name == "embedding" else MOST_IMAGES
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name), low, high)
        for name in _LITTLE_DROPOUT:
            value = getattr(self, name)
            check(value is None or 0 <= value < 1, name, "in [0, 1)", value)
        check(self.cell in CELLS, "cell", "lstm, random or None", self.cell)


def random_genotype(of: SearchSpace, seed: int) -> AnyGenotype:
    """A cell drawn by a seed: for each node a row, and for this an option that is not ``none``, all alike.

    >>> random_genotype(space("darts-rnn"), 0) == random_genotype(space("darts-rnn"), 0)
    True
    """
    generator = torch.Generator().manual_seed(seed)
    active = [PRUNED] * of.rows
    for begin, end in zip(of.node_offsets, of.node_offsets[1:], strict=False):
        row = int(torch.randint(begin, end, (), generator=generator))
        options = [option for option, name in enumerate(of.choices(row)) if name != NONE]
        active[row] = options[int(torch.randint(len(options), (), generator=generator))]
    weight = torch.zeros(of.rows, of.options)
    for row, option in enumerate(active):
        if option != PRUNED:
            weight[row, option] = 1
    return of.genotype(Gates(weight, tuple(active)))
