# SPDX-License-Identifier: MIT
"""The task of language modelling: the next word of a text."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasp_ext.arch.family import family_of
from nasp_ext.arch.gates import Gates
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.checks import checked
from nasp_ext.config import RetrainConfig, SearchConfig, TrainingConfig
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.tasks.base import WHOLE, Metric, Outcome, SearchData, Shard, Task
from nasp_ext.tasks.language.batches import EvaluationText, Segment, SteeringText, TrainingText
from nasp_ext.tasks.language.corpus import Corpus
from nasp_ext.tasks.language.options import SPACE, LanguageSettings


class LanguageTask(Task):
    """The next word of a text, as in section 4.2 of NASP (Yao et al. 2020) and in DARTS (Liu et al. 2019).

    Weights train on the training text, with penalties on the outputs of the cell (Merity et al. 2018). The
    validation text steers a search, and chooses the epoch of a retraining.

    Args:
        corpus: the texts.
        settings: of the language model and its training; what loads a corpus has no part in it. None = the
            usual ones.
    Raises:
        TypeError: one is of another type.
    """

    metrics = (Metric("perplexity", ".2f", higher_is_better=False, low=1, of_mean=math.exp),)
    without = LanguageSettings.without

    def __init__(self, corpus: Corpus, settings: LanguageSettings | None = None) -> None:
        self.corpus = checked("corpus", corpus, Corpus)
        self.settings = checked(
            "settings", LanguageSettings() if settings is None else settings, LanguageSettings
        )

    def supernet(self, space: SearchSpace, config: SearchConfig) -> nn.Module:
        """See ``nasp_ext.supernet``.

        Raises:  ValueError: of a space of other networks, or where ``settings.cell`` is set.
        """
        if self.settings.cell is not None:
            raise ValueError(
                f"expected cell only in a retraining, got cell={self.settings.cell!r} for a search, which "
                "finds one: leave it out"
            )
        if "vocabulary" not in inspect.signature(family_of(space).supernet).parameters:
            raise ValueError(f"expected a space of language models, such as {SPACE}, got {space.name!r}")
        net: nn.Module = supernet(space, vocabulary=len(self.corpus.vocabulary), **self._sizes(config))
        return net

    def derived(self, genotype: AnyGenotype, config: RetrainConfig) -> nn.Module:
        """See ``nasp_ext.derived_network``.

        Raises:  ValueError: the genotype of another network, or another one than ``settings.cell`` says.
        """
        own = self.settings.genotype(config.seed)
        if own is not None and own != genotype:
            raise ValueError(
                f"expected the genotype that cell={self.settings.cell!r} stands for, got another one, of "
                f"kind {genotype.kind!r}: leave out the one or the other"
            )
        if "vocabulary" not in inspect.signature(family_of(genotype).derived).parameters:
            raise ValueError(f"expected the genotype of a language model, got one of kind {genotype.kind!r}")
        net: nn.Module = derived_network(
            genotype, vocabulary=len(self.corpus.vocabulary), **self._sizes(config)
        )
        return net

    def _sizes(self, config: TrainingConfig) -> dict[str, Any]:
        return dict(self.settings.sizes(config.kind, self.corpus.name))

    def search_batches(self, config: SearchConfig, device: torch.device, shard: Shard = WHOLE) -> SearchData:
        """The training text; the validation text to steer with, which goes round, and again to evaluate."""
        sequence = self.settings.sequence
        train = TrainingText(self.corpus.train, config.batch, sequence, shard, device)
        steer = SteeringText(self.corpus.valid, config.batch, sequence, shard, device, batches=len(train))
        self.test_batches(config, device, shard)  # what cannot be tested is told before the search
        return SearchData(train, steer, self._validation(config, device, shard))

    def training_batches(
        self, config: RetrainConfig, device: torch.device, shard: Shard = WHOLE
    ) -> TrainingText:
        """The training text."""
        return TrainingText(self.corpus.train, config.batch, self.settings.sequence, shard, device)

    def validation_batches(
        self, config: RetrainConfig, device: torch.device, shard: Shard = WHOLE
    ) -> EvaluationText:
        """The validation text."""
        return self._validation(config, device, shard)

    def _validation(self, config: TrainingConfig, device: torch.device, shard: Shard) -> EvaluationText:
        columns = self._columns("eval_batch", config, shard, 10)
        sequence = self.settings.sequence
        return EvaluationText(self.corpus.valid, columns, sequence, shard, device, name="validation")

    def _columns(self, name: str, config: TrainingConfig, shard: Shard, usual: int) -> int:
        """The columns that a setting says; in a search a norm needs two or more in each process."""
        chosen: int | None = getattr(self.settings, name)
        if config.kind != SearchConfig.kind:
            return usual if chosen is None else chosen
        columns = config.batch if chosen is None else chosen
        for what, count in ((name, columns), ("batch", config.batch)):
            if count < 2 * shard[1]:
                raise ValueError(
                    f"expected {what} >= {2 * shard[1]} in a search, whose norms have the statistics of the "
                    f"columns, got {count}"
                )
        return columns

    def test_batches(
        self, config: TrainingConfig, device: torch.device, shard: Shard = WHOLE
    ) -> EvaluationText:
        """The test text."""
        columns = self._columns("test_batch", config, shard, 1)
        return EvaluationText(self.corpus.test, columns, self.settings.sequence, shard, device)

    def run(self, network: Any, batch: Segment, gates: Gates | None = None, state: Any = None) -> Outcome:
        """A segment of text through a language model that has ``read`` and ``decode``.

        The loss is the mean cross-entropy of a word. Where weights train on it, penalties come on top:
        ``step_penalty`` times the mean square of the steps from output to output, ``output_penalty`` times
        that of the outputs behind their dropout.
        """
        reading = network.read(batch.tokens, gates, None if batch.first else state)
        logits = network.decode(reading.dropped)
        summed = functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="sum")
        loss = summed / batch.count
        if batch.training and network.training:
            loss = loss + self._penalties(reading.raw, reading.dropped)
        return Outcome(loss, {"perplexity": summed.detach()}, batch.count, reading.hidden)

    def _penalties(self, raw: Tensor, dropped: Tensor) -> Tensor:
        """Args:    raw, dropped: (T, B, E) outputs before and behind their dropout."""
        found = raw.new_zeros(())
        if self.settings.output_penalty:
            found = found + self.settings.output_penalty * dropped.square().mean()
        if self.settings.step_penalty and len(raw) > 1:  # one word makes no step
            found = found + self.settings.step_penalty * (raw[1:] - raw[:-1]).square().mean()
        return found

    def rate(self, batch: Segment) -> float:
        """Longer segments make longer steps."""
        return batch.length / self.settings.sequence
