# SPDX-License-Identifier: MIT
"""What a run says of language modelling: values, what is usual, cells in place of a genotype."""

import dataclasses

import pytest

from nasp_ext import RetrainConfig, SearchConfig, space
from nasp_ext.engine.settings import RetrainRun, SearchRun, StrategySettings, TaskSettings
from nasp_ext.families.genotypes import published
from nasp_ext.strategies import names
from nasp_ext.tasks import task_kind
from nasp_ext.tasks.language import LanguageSettings, LanguageTask, load_corpus
from nasp_ext.tasks.language.options import random_genotype


def test_the_task_is_made_of_its_settings():
    kind = task_kind("language")
    assert kind.settings is LanguageSettings
    task = kind.make(LanguageSettings(limit=30, embedding=7))
    assert isinstance(task, LanguageTask)
    assert len(task.corpus.train) == 30
    assert task.settings.embedding == 7
    assert [metric.name for metric in task.metrics] == ["perplexity"]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"data": 3}, "expected data to be str, got 3"),
        ({"limit": 1}, "expected limit to be >= 2"),
        ({"limit": "x"}, r"expected limit to be int \| None, got 'x'"),
        ({"sequence": 0}, "expected sequence to be >= 1"),
        ({"embedding": 0}, "expected embedding to be >= 1"),
        ({"embedding": 10**6}, "expected embedding to be <= 16,384"),
        ({"embedding": 2.5}, "expected embedding to be int"),
        ({"output_penalty": -1.0}, "expected output_penalty to be >= 0"),
        ({"step_penalty": float("nan")}, "expected step_penalty to be >= 0, got nan"),
        ({"eval_batch": 0}, "expected eval_batch to be >= 1"),
        ({"test_batch": -1}, "expected test_batch to be >= 1"),
        ({"cell": "gru"}, "expected cell to be lstm, random or None, got 'gru'"),
        *(
            ({name: value}, rf"expected {name} to be in \[0, 1\), got {value}")
            for name in ("dropout", "dropouth", "dropoutx", "dropouti", "dropoute")
            for value in (1.0, -0.1, float("nan"))
        ),
    ],
)
def test_a_setting_that_cannot_be_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        LanguageSettings(**given)


def test_the_usual_training_is_that_of_the_papers():
    search, retrain = (LanguageSettings("a folder").suggested(kind) for kind in ("search", "retrain"))
    shared = {"lr": 20.0, "lr_min": 20.0, "momentum": 0.0, "clip": 0.25}
    assert search == {
        **shared,
        "space": "darts-rnn",
        "epochs": 50,
        "batch": 256,
        "weight_decay": 5e-7,
        "arch_lr": 3e-3,
    }
    assert retrain == {
        **shared,
        "epochs": 8000,
        "batch": 64,
        "weight_decay": 8e-7,
        "average_after": 5,
        "rollbacks": 5,
    }
    usual = LanguageSettings()
    assert (usual.sequence, usual.output_penalty, usual.step_penalty, usual.eval_batch, usual.test_batch) == (
        35,
        0,
        1e-3,
        None,
        None,
    )


@pytest.mark.parametrize("kind, run", [("search", SearchRun), ("retrain", RetrainRun)])
@pytest.mark.parametrize("data", ["pydoc", "a folder"])
def test_what_is_suggested_are_settings_of_a_run(kind, run, data):
    task = TaskSettings("language", LanguageSettings(data))
    known = set(run(task=task).flat())
    assert set(task.suggested(kind)) <= known
    assert run.from_flat({**run(task=task).flat(), **task.suggested(kind)}).lr >= 10


def test_no_setting_has_the_name_of_an_option():
    """``nasp-ext search`` has them all in one list."""
    for name in names():
        assert SearchRun(task=TaskSettings("language"), strategy=StrategySettings(name)).flat()[
            "step_penalty"
        ]


def test_the_texts_of_pydoc_have_small_settings():
    small, usual = LanguageSettings(), LanguageSettings("a folder")
    for kind in ("search", "retrain"):
        assert small.suggested(kind).keys() >= usual.suggested(kind).keys()
        assert small.suggested(kind)["epochs"] < usual.suggested(kind)["epochs"]
        assert small.sizes(kind, "pydoc")["embedding"] < usual.sizes(kind, "ptb")["embedding"]
        assert small.sizes(kind, "pydoc").keys() == usual.sizes(kind, "ptb").keys()


def test_a_random_cell_is_drawn_by_the_seed_alone():
    cells = [LanguageSettings(cell="random").genotype(seed) for seed in range(200)]
    assert cells[3] == LanguageSettings(cell="random", data="ptb").genotype(3)
    assert len(set(cells)) == 200
    terms = [term for cell in cells for term in cell.terms]
    assert {len(cell.terms) for cell in cells} == {8}
    assert {name for _, _, name in terms} == {"tanh", "relu", "sigmoid", "identity"}
    assert {(step, source) for step, source, _ in terms} == {(i, j) for i in range(1, 9) for j in range(i)}
    last = [source for step, source, _ in terms if step == 8]
    assert all(10 <= last.count(source) <= 45 for source in range(8))  # 25 of each on average
    assert random_genotype(space("darts-rnn"), 2**63 - 1).steps == 8


def test_a_cell_stands_for_a_genotype():
    assert LanguageSettings().genotype(0) is None
    assert LanguageSettings(cell="lstm").genotype(0) == published()["LSTM"]


def test_a_cell_is_for_a_retraining_with_that_genotype():
    corpus, config = load_corpus(limit=100), RetrainConfig(seed=4)
    for cell in ("lstm", "random"):
        settings = LanguageSettings(cell=cell, embedding=3)
        task = LanguageTask(corpus, settings)
        assert task.derived(settings.genotype(4), config).genotype == settings.genotype(4)
        with pytest.raises(
            ValueError,
            match=f"the genotype that cell='{cell}' stands for, got another one, of kind 'recurrent': leave",
        ):
            task.derived(published()["DARTS_V2_rnn"], config)
        with pytest.raises(ValueError, match=f"expected cell only in a retraining, got cell='{cell}'"):
            task.supernet(space("darts-rnn"), SearchConfig())
    task = LanguageTask(corpus, dataclasses.replace(settings, cell="random"))
    with pytest.raises(ValueError, match="cell='random'"):
        task.derived(settings.genotype(5), config)
