# SPDX-License-Identifier: MIT
"""Corpora: files, words and their numbers, errors."""

import random
import re
import tracemalloc

import pytest
import torch

from nasp_ext.tasks.language import Corpus, Vocabulary, load_corpus, text
from nasp_ext.tasks.language.load import part_files
from nasp_ext.tasks.language.text import read_pieces
from nasp_ext.tasks.language.vocabulary import ClosedNumbers, OpenNumbers

TEXTS = {"train": "the cat saw\nthe <unk> dog\n", "valid": "a dog saw\n", "test": "the cat\n\n"}


def folder_of(path, names="{}.txt", **changes):
    """A folder with a text for each part; None leaves one out."""
    path.mkdir(exist_ok=True)
    for part, content in {**TEXTS, **changes}.items():
        if content is not None:
            content = content if isinstance(content, bytes) else content.encode()
            (path / names.format(part)).write_bytes(content)
    return path


def words(corpus, part):
    return corpus.sentence(part, len(corpus.part(part)))


def test_words_are_numbered_as_they_appear_and_lines_end_with_eos(tmp_path):
    corpus = load_corpus(folder_of(tmp_path / "cats"))
    assert corpus.name == "cats"
    assert corpus.vocabulary.words == ("the", "cat", "saw", "<eos>", "<unk>", "dog")
    assert corpus.train.tolist() == [0, 1, 2, 3, 0, 4, 5, 3]
    assert corpus.train.dtype == torch.int32
    assert words(corpus, "valid") == "<unk> dog saw <eos>"  # there is no "a" in the training text
    assert words(corpus, "test") == "the cat <eos> <eos>"


@pytest.mark.parametrize(
    "names", ["{}.txt", "ptb.{}.txt", "wiki.{}.tokens", "a-{}-b", "my_{}", "{}", "X.{}.TXT", "austen.{}.txt"]
)
def test_a_file_is_known_by_a_part_of_its_name(tmp_path, names):
    corpus = load_corpus(folder_of(tmp_path, names))
    assert [len(corpus.part(part)) for part in ("train", "valid", "test")] == [8, 4, 4]


@pytest.mark.parametrize("name", ["val.txt", "c.validation.txt", "dev", "VALID.txt"])
def test_the_validation_text_has_several_names(tmp_path, name):
    folder = folder_of(tmp_path, valid=None)
    (folder / name).write_text("a dog saw\n")
    (folder / "readme.md").write_text("retraining, tests and invalid lines")
    (folder / ".train.txt.swp").write_bytes(b"\0")
    (folder / "train").mkdir()
    assert words(load_corpus(folder), "valid") == "<unk> dog saw <eos>"


@pytest.mark.parametrize(
    "content, found",
    [
        ("the cat", "the cat <eos>"),  # no new line at the end
        ("\n\nthe\tcat  saw \n", "<eos> <eos> the cat saw <eos>"),
        ("the cat\r\ndog\r\n", "the cat <eos> dog <eos>"),
        ("\ufeffthe cat\n", "the cat <eos>"),  # a byte order mark
        ("the\u3000cat\u00a0saw\n", "the cat saw <eos>"),
        ("the bird <eos>\n", "the <unk> <eos> <eos>"),
    ],
)
def test_lines_and_words_are_those_of_python(tmp_path, content, found):
    assert words(load_corpus(folder_of(tmp_path, test=content)), "test") == found


def test_a_line_is_read_in_parts_and_no_word_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_CHARACTERS", 7)
    draw = random.Random(0)
    file = tmp_path / "text"
    for _ in range(300):
        content = "".join(
            draw.choices(["a", "bc", "é", " ", "\u3000", "\n", "\r\n", "\t"], k=draw.randint(1, 40))
        )
        if max(map(len, content.split()), default=0) > 7:
            continue
        file.write_text(content, encoding="utf-8", newline="")
        lines = re.split("\r\n|\n", content)
        expected = [(n, line.split()) for n, line in enumerate(lines, 1) if line or n < len(lines)]
        found = {}
        for line, part, ends in read_pieces(file):
            held = found.setdefault(line, [])
            held += part
            assert ends is (len(held) == len(dict(expected)[line]) and ends)
        assert [*found.items()] == expected, repr(content)


def test_the_lines_of_pieces_end_once(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_CHARACTERS", 4)
    (tmp_path / "text").write_text("one two three\nfour\n\nfive")
    pieces = list(read_pieces(tmp_path / "text"))
    assert [piece.line for piece in pieces if piece.ends] == [1, 2, 3, 4]
    assert [word for piece in pieces for word in piece.words] == ["one", "two", "three", "four", "five"]


def test_only_numbers_stay_in_memory(tmp_path):
    """A list of the words of this text would be about 100 MB, its lines about 10."""
    draw = random.Random(0)
    line = [" ".join(f"word{draw.randint(0, 500)}" for _ in range(40)) + "\n" for _ in range(100)]
    content = "".join(line) * 75
    short = folder_of(tmp_path / "lines", train=content, valid="word1\n", test="word1\n")
    long = folder_of(tmp_path / "long", train=content.replace("\n", " "), valid="word1\n", test="word1\n")
    for folder in (short, long):
        tracemalloc.start()
        corpus = load_corpus(folder)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(corpus.train) >= 300_000
        assert peak < 3 * 4 * len(corpus.train)


def test_a_limit_keeps_the_first_words_and_all_of_the_vocabulary(tmp_path):
    folder = folder_of(tmp_path)
    corpus = load_corpus(folder, limit=3)
    assert [words(corpus, part) for part in ("train", "valid", "test")] == [
        "the cat saw",
        "<unk> dog saw",
        "the cat <eos>",
    ]
    assert len(corpus.vocabulary) == 6
    assert torch.equal(load_corpus(folder, limit=100).train, load_corpus(folder).train)
    with pytest.raises(ValueError, match="expected limit >= 2, got 1"):
        load_corpus(folder, limit=1)


def test_a_vocabulary_may_be_given(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("<eos>\ncat\n<unk>\nthe")
    corpus = load_corpus(folder_of(tmp_path / "cats"), vocabulary=file)
    assert corpus.vocabulary.words == ("<eos>", "cat", "<unk>", "the")
    assert corpus.train.tolist() == [3, 1, 2, 0, 3, 2, 2, 0]
    assert load_corpus(vocabulary=file, limit=500).part("test").unique().tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    "content, message",
    [
        ("<eos>\na\nb\na\n", r"words, line 4: expected different words, found 'a' as in line 2"),
        ("<eos>\na b\n", r"words, line 2: expected one word, found 'a b'"),
        ("<eos>\n\na\n", r"words, line 2: expected one word, found none"),
        ("a\nb\n", r"words: expected a vocabulary of two words or more with <eos>"),
        ("<eos>\n", r"words: expected a vocabulary of two words or more"),
        ("", r"words: expected a vocabulary of two words or more"),
        (b"<eos>\n\xff\n", r"words, line 2: expected a text in UTF-8"),
        (None, r"words: expected a text that can be read: No such file"),
    ],
)
def test_a_vocabulary_that_is_none_is_refused(tmp_path, content, message):
    file = tmp_path / "words"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        load_corpus(folder_of(tmp_path / "cats"), vocabulary=file)


def test_a_word_beyond_a_vocabulary_without_unk_is_named_with_its_place(tmp_path):
    folder = folder_of(tmp_path, train="the cat\nthe dog\n", valid="the cat\na\n", test="cat\n")
    with pytest.raises(ValueError, match=r"valid\.txt, line 2: expected words of the vocabulary, found 'a'"):
        load_corpus(folder)
    file = tmp_path / "words"
    file.write_text("<eos>\nthe\ncat\n")
    with pytest.raises(
        ValueError, match=r"train\.txt, line 2: .*found 'dog': add it, or <unk> for all others"
    ):
        load_corpus(folder, vocabulary=file)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"train": ""}, r"train\.txt: expected a text, found no word in it"),
        ({"test": "\n \n"}, r"test\.txt: expected a text, found no word in it"),
        ({"valid": b"a \0 b\n"}, r"valid\.txt, line 1: expected a text, found a file with zero bytes"),
        ({"valid": b"the cat\n\xff\xfe\n"}, r"valid\.txt, line 2: expected a text in UTF-8"),
        ({"test": "a" * 200_000}, r"test\.txt, line 1: expected words separated by white space"),
    ],
)
def test_a_file_without_text_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_corpus(folder_of(tmp_path, **changes))


def test_a_folder_has_one_file_for_each_part(tmp_path):
    folder = folder_of(tmp_path / "cats", test=None)
    with pytest.raises(FileNotFoundError, match=r"cats: expected a text named test\.txt.*found none"):
        part_files(folder)
    (folder / "test_train.txt").touch()
    with pytest.raises(ValueError, match=r"found test_train\.txt named as test and train"):
        part_files(folder)
    (folder / "test_train.txt").rename(folder / "test.txt")
    (folder / "dev.txt").touch()
    with pytest.raises(ValueError, match=r"expected one text named valid, found dev\.txt, valid\.txt"):
        part_files(folder)
    with pytest.raises(ValueError, match=r"test\.txt: expected a folder.*found a file: name the folder"):
        part_files(folder / "test.txt")
    with pytest.raises(FileNotFoundError, match=r"expected pydoc, or a folder.*found nothing at.*no such"):
        load_corpus(tmp_path / "no such")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((3,), "name_or_path to be a name or a path, got int"),
        ((None,), "name_or_path to be a name or a path, got NoneType"),
        (("pydoc", 3), "vocabulary to be a name or a path, got int"),
        (("pydoc", None, 2.5), "limit to be a whole number, got float"),
    ],
)
def test_arguments_of_another_type_are_refused(arguments, message):
    with pytest.raises(TypeError, match=message):
        load_corpus(*arguments)


def test_numbers_of_words():
    opened = OpenNumbers()
    assert [opened[word] for word in ("a", "b", "a")] == [0, 1, 0]
    closed = ClosedNumbers({"a": 0, "<unk>": 1})
    assert [closed[word] for word in ("a", "b")] == [0, 1]
    assert len(closed) == 2
    with pytest.raises(KeyError, match="b"):
        ClosedNumbers({"a": 0})["b"]


@pytest.mark.parametrize(
    "given, message",
    [
        (("a", "<eos>", "a"), "expected different words in a vocabulary, got 'a' twice"),
        (("a b", "<eos>"), "expected words without white space in a vocabulary, got 'a b'"),
        (("", "<eos>"), "expected words without white space"),
        (("a", "b"), "with <eos>, the end of a line, got 2"),
    ],
)
def test_a_vocabulary_has_different_words(given, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(given)


def test_a_corpus_holds_numbers_of_its_words():
    known, ids = Vocabulary(("a", "<eos>")), torch.tensor([0, 1], dtype=torch.int32)
    for wrong, error, message in (
        (ids.long(), TypeError, r"own, test part: expected numbers of words \(N,\) int32, got torch.int64"),
        ([0, 1], TypeError, "got list"),
        (ids[:1], ValueError, "expected two words or more, got 1"),
        (ids + 1, ValueError, r"expected numbers in \[0, 2\), found 1 to 2"),
        (ids - 1, ValueError, "found -1 to 0"),
    ):
        with pytest.raises(error, match=message):
            Corpus("own", known, ids, ids, wrong)
    with pytest.raises(ValueError, match="part train, valid or test, got 'dev'"):
        Corpus("own", known, ids, ids, ids).part("dev")
