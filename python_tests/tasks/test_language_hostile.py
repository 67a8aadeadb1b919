# SPDX-License-Identifier: MIT
"""Language models in the hands of somebody who reads no manual: one error each, or what was meant."""

import json
import random

import pytest
import torch

from nasp_ext import RetrainConfig, SearchConfig, search, space, strategies, strategy
from nasp_ext.cli import main
from nasp_ext.engine.run import Run
from nasp_ext.engine.settings import RetrainRun, SearchRun, StrategySettings, TaskSettings
from nasp_ext.families.genotypes import published
from nasp_ext.tasks import task_kinds
from nasp_ext.tasks.language import (
    Corpus,
    EvaluationText,
    LanguageSettings,
    LanguageTask,
    SteeringText,
    TrainingText,
    Vocabulary,
    load_corpus,
)

IDS = torch.arange(100, dtype=torch.int32)
WORDS = Vocabulary(("a", "b", "<eos>"))
SIZES = ["--embedding", "8", "--batch", "4", "--sequence", "8", "--epochs", "1", "--lr", "2", "--lr-min", "2"]
LANGUAGE = ["--task", "language", *SIZES, "--threads", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder with three small texts of ten words."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(0)
    for part, lines in (("train", 30), ("valid", 12), ("test", 8)):
        text = "".join(" ".join(draw.choices("abcdefghij", k=6)) + "\n" for _ in range(lines))
        (folder / f"{part}.txt").write_text("a b c d e f g h i j\n" + text)
    return folder


@pytest.fixture(scope="module")
def searched(texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "language"
    assert main(["search", *LANGUAGE, "--data", str(texts), "--out", str(folder)]) == 0
    return folder


def error_of(capsys, *argv):
    capsys.readouterr()
    status = main([str(word) for word in argv])
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    return err


@pytest.mark.parametrize("name", strategies.names())
@pytest.mark.parametrize("task", sorted(task_kinds()))
def test_no_strategy_has_an_option_of_the_name_of_a_setting_of_a_task(task, name):
    run = SearchRun(task=TaskSettings(task), strategy=StrategySettings(name))
    flat = run.flat()
    assert len(flat) == sum(map(len, (SearchConfig().flat(), run.task.flat(), run.space.flat()))) + len(
        run.strategy.flat()
    )
    assert SearchRun.from_flat(flat) == run


def test_asng_keeps_the_names_of_its_options(texts, tmp_path):
    argv = ["search", *LANGUAGE, "--data", str(texts), "--strategy", "asng", "--out", str(tmp_path / "run")]
    assert main([*argv, "--output-penalty", "0.25", "--alpha", "2"]) == 0
    settings = Run.open(tmp_path / "run").settings
    assert (settings.task.options.output_penalty, settings.strategy.options["alpha"]) == (0.25, 2.0)
    assert main(["search", "--resume", "--out", str(tmp_path / "run")]) == 0


def test_a_folder_named_pydoc_is_no_reason_for_small_networks(texts, tmp_path):
    folder = tmp_path / "pydoc"
    folder.symlink_to(texts)
    copied = tmp_path / "copy" / "pydoc"
    copied.mkdir(parents=True)
    for file in texts.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    for path in (folder, copied):
        task = LanguageTask(load_corpus(path), LanguageSettings(str(path)))
        with torch.device("meta"):
            network = task.derived(published()["DARTS_V2_rnn"], RetrainConfig())
        assert network.embedding == 850
    assert load_corpus(copied).name == str(copied)


@pytest.mark.parametrize("own, other", [("language", "images"), ("images", "language")])
@pytest.mark.parametrize("run", [SearchRun, RetrainRun])
def test_a_run_is_not_resumed_as_one_of_another_task(capsys, tmp_path, run, own, other):
    settings = run(task=TaskSettings(own), **({} if own == "language" else {"cells": 3}))
    (tmp_path / "config.json").write_text(settings.to_json())
    error = error_of(capsys, run.kind, "--resume", "--out", tmp_path, "--task", other)
    assert f"expected --task {own}, that of the stored settings, got --task {other}" in error


@pytest.mark.parametrize("run", [SearchRun, RetrainRun])
def test_a_file_of_settings_that_another_task_has_not_got_is_refused(capsys, tmp_path, run):
    (tmp_path / "own.json").write_text(run(cells=3).to_json())
    words = ["--config-file", tmp_path / "own.json", "--out", tmp_path / "new", "--task", "language"]
    assert "expected --task images, that of the stored" in error_of(capsys, run.kind, *words)


def test_overwriting_leaves_no_drawing_of_another_task(texts, tmp_path):
    out = tmp_path / "run"
    argv = ["retrain", *LANGUAGE, "--data", str(texts), "--out", str(out)]
    assert main([*argv, "--genotype", "DARTS_V2_rnn"]) == 0
    assert (out / "cell_recurrent.svg").exists()
    assert main([*argv, "--cell", "lstm", "--overwrite"]) == 0
    assert not list(out.glob("*.svg"))


def test_a_test_text_that_is_too_short_is_told_before_a_search(texts):
    task = LanguageTask(load_corpus(texts), LanguageSettings(sequence=8, test_batch=500))
    with pytest.raises(ValueError, match=r"a test text of more than 500 words.* batch to evaluate with"):
        task.search_batches(SearchConfig(batch=4), torch.device("cpu"))


def test_a_drawing_that_there_is_none_of_is_an_error(capsys, tmp_path):
    error = error_of(capsys, "plot", "--genotype", "LSTM", "--out", tmp_path / "plot")
    assert "expected the genotype of cells to draw, got one of kind 'lstm'" in error
    assert not (tmp_path / "plot").exists()


def test_options_that_there_are_none_of_are_named_as_they_were_given(capsys, searched):
    words = ["--embedding", "8", "--sequence", "8", "--dropout", "0.1", "--dropouth", "0", "--dropoutx", "0"]
    error = error_of(capsys, "retrain", "--task", "images", "--genotype", searched, *words)
    assert [word for word in error.replace(",", "").split() if "dropout" in word] == words[4::2]


def test_a_byte_that_is_no_text_is_found_in_its_line(texts, tmp_path):
    for file in texts.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for lines in (20, 5000):  # read at once, and in many pieces
        (tmp_path / "train.txt").write_bytes(b"a b c d e f\n" * (lines - 1) + "schön\n".encode("latin-1"))
        with pytest.raises(ValueError, match=rf"train\.txt, line {lines}: expected a text in UTF-8"):
            load_corpus(tmp_path)


def test_only_a_dot_hides_a_text(texts, tmp_path):
    for file in texts.iterdir():
        (tmp_path / f"_{file.name}").write_bytes(file.read_bytes())
        (tmp_path / f".{file.name}").write_bytes(b"hidden")
    assert torch.equal(load_corpus(tmp_path).train, load_corpus(texts).train)


def test_what_stopped_a_search_is_named(texts, monkeypatch):
    task = LanguageTask(load_corpus(texts), LanguageSettings(sequence=8, embedding=4))
    run = LanguageTask.run

    def diverging(self, network, batch, gates=None, state=None):
        found = run(self, network, batch, gates, state)
        return found if network.training else type(found)(found.loss * 1e4, {"perplexity": found.loss * 1e6})

    monkeypatch.setattr(LanguageTask, "run", diverging)
    cells = space("darts-rnn")
    config = SearchConfig(batch=4, epochs=1, momentum=0.0, clip=0.25, device="cpu", threads=1)
    with pytest.raises(FloatingPointError, match="evaluation after epoch 1: expected a finite perplexity"):
        search(cells, strategy("random", cells, seed=0), task, config)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: LanguageTask("ptb"), TypeError, "expected corpus to be a Corpus, got str: 'ptb'"),
        (lambda: LanguageTask(corpus(), {"embedding": 8}), TypeError, "settings to be a LanguageSettings"),
        (lambda: Corpus("x", ("a", "<eos>"), IDS, IDS, IDS), TypeError, "to be a Vocabulary, got tuple"),
        (lambda: Corpus(None, WORDS, IDS, IDS, IDS), TypeError, "name of a corpus to be a str"),
        (lambda: TrainingText(IDS.long(), 2, 10), TypeError, r"\(N,\) int32, got torch.int64 \(100,\)"),
        (lambda: TrainingText([1, 2], 2, 10), TypeError, r"\(N,\) int32, got list"),
        (lambda: TrainingText(IDS, 0, 10), ValueError, "expected columns >= 1, got 0"),
        (lambda: TrainingText(IDS, 2, 0), ValueError, "expected sequence >= 1, got 0"),
        (lambda: EvaluationText(IDS[None], 2, 10), TypeError, r"got torch.int32 \(1, 100\)"),
        (lambda: EvaluationText(IDS, 2, -1), ValueError, "expected sequence >= 1, got -1"),
        (lambda: EvaluationText(IDS, 2.0, 10), TypeError, "columns to be a whole number, got float"),
        (lambda: SteeringText(IDS, 2, 10, batches=0), ValueError, "expected batches >= 1, got 0"),
    ],
)
def test_an_argument_that_cannot_be_is_one_error(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def corpus():
    ids = (IDS % 3).int()
    return Corpus("own", WORDS, ids, ids, ids)


def test_numbers_in_the_history_are_finite(searched):
    lines = (searched / "history.jsonl").read_text().splitlines()
    assert json.loads(lines[-1], parse_constant=pytest.fail)["val_perplexity"] >= 1
