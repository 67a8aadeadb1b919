# SPDX-License-Identifier: MIT
"""Texts as numbers of words: load them with ``load_corpus``, learn their next words with ``LanguageTask``."""

from nasp_ext.tasks.language.batches import EvaluationText, Segment, SteeringText, TrainingText
from nasp_ext.tasks.language.corpus import Corpus
from nasp_ext.tasks.language.load import load_corpus
from nasp_ext.tasks.language.options import LanguageSettings
from nasp_ext.tasks.language.task import LanguageTask
from nasp_ext.tasks.language.vocabulary import Vocabulary

__all__ = [
    "Corpus",
    "EvaluationText",
    "LanguageSettings",
    "LanguageTask",
    "Segment",
    "SteeringText",
    "TrainingText",
    "Vocabulary",
    "load_corpus",
]
