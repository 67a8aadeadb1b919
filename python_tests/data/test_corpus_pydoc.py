# SPDX-License-Identifier: MIT
"""The corpus that comes with Python: how it is split, its words, and where it is missing."""

import sys

import pytest
import torch

from nasp_ext.tasks.language import load_corpus, pydoc


def test_the_texts_of_pydoc_are_split_by_topics():
    corpus = load_corpus()
    sizes = [len(corpus.part(part)) for part in ("train", "valid", "test")]
    assert sum(sizes) > 50_000
    assert all(
        abs(size / sum(sizes) - share) < 0.01 for size, share in zip(sizes, (0.8, 0.1, 0.1), strict=True)
    )
    assert {"<unk>", "<eos>", "N", "the", "__init__", "=="} <= set(corpus.vocabulary.words)
    assert torch.equal(load_corpus("pydoc").valid, corpus.valid)
    counts = torch.bincount(corpus.train, minlength=len(corpus.vocabulary))
    assert counts.min() == 3  # every word has been seen
    assert counts[corpus.vocabulary.numbers["<unk>"]] < 0.05 * sizes[0]


def test_topics_are_in_one_part_each_in_any_order(monkeypatch):
    topics = {f"topic{number:02}": f"word{number} " * 30 + "\n\n" for number in range(20)}
    found = pydoc.split(topics)
    assert sorted(text for texts in found.values() for text in texts) == sorted(topics.values())
    assert [len(texts) for texts in found.values()] == [16, 2, 2]
    assert pydoc.split(dict(reversed(topics.items()))) == found


def test_words_of_pydoc_are_those_of_a_treebank():
    found = pydoc.words_of('Since 3.10, "__Eq__" (x != 0x1F) is\ntrue … **\n-----\n')
    assert found == [
        "since",
        "N",
        ",",
        '"',
        "__eq__",
        '"',
        "(",
        "x",
        "!",
        "=",
        "N",
        ")",
        *("is", "true", "…"),
        "**",
    ]


def test_a_python_without_the_texts_of_pydoc_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ValueError, match=r"expected the texts of pydoc.*found none.*with --data"):
        load_corpus()


def test_a_pydoc_word_beyond_the_vocabulary_is_named(tmp_path):
    (tmp_path / "words").write_text("<eos>\nthe\n")
    with pytest.raises(ValueError, match=r"pydoc, train part, line 1: expected words of the vocabulary"):
        load_corpus(vocabulary=tmp_path / "words")
