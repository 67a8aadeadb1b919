# SPDX-License-Identifier: MIT
"""Language modelling by name."""

from __future__ import annotations

from nasp_ext.tasks.language.load import load_corpus
from nasp_ext.tasks.language.options import LanguageSettings
from nasp_ext.tasks.language.task import LanguageTask
from nasp_ext.tasks.registry import register_task


def language(settings: LanguageSettings) -> LanguageTask:
    """The task, with its texts read.

    Raises:  as ``load_corpus``.
    """
    return LanguageTask(load_corpus(settings.data, settings.vocabulary, settings.limit), settings)


register_task("language", LanguageSettings, language)
