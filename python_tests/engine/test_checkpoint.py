# SPDX-License-Identifier: MIT
"""A checkpoint with damage anywhere is refused by one error, whole ones of both formats are read."""

import zipfile
from random import Random

import pytest
import torch

from nasp_ext.engine.checkpoint import load_checkpoint, save_checkpoint

CONTENT = {"kind": "search", "a": torch.arange(999.0), "list": [1, 2, {"x": "y"}]}


def assert_whole(found) -> None:
    assert torch.equal(found.pop("a"), CONTENT["a"])
    assert found.pop("format") in (1, 2)
    assert found == {"kind": "search", "list": CONTENT["list"]}


@pytest.fixture
def file(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.pt", CONTENT)
    return tmp_path / "checkpoint.pt"


def test_a_checkpoint_is_read_as_it_was_written(file):
    assert_whole(load_checkpoint(file, "search"))


def test_any_flipped_byte_is_damage(file):
    whole, random = file.read_bytes(), Random(0)
    trailer = range(len(whole) - 60, len(whole))  # the end of the archive, its comment and the length of it
    for position in [*trailer, *random.sample(range(len(whole)), 500)]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << random.randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="found a file that is damaged"):
            load_checkpoint(file, "search")
    file.write_bytes(whole)
    assert_whole(load_checkpoint(file, "search"))


def test_bytes_that_are_missing_or_too_many_are_damage(file):
    whole = file.read_bytes()
    cut = len(whole) // 2
    for damaged in (b"", whole[:20], whole[:-1], whole[1:], whole + b"\0", whole[:cut] + whole[cut + 1 :]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="found a file that is damaged"):
            load_checkpoint(file, "search")


def test_many_damaged_bytes_of_the_pickle_are_damage(file):
    whole, random = file.read_bytes(), Random(0)
    pickled = whole.index(b"data.pkl")
    for _ in range(100):
        damaged = bytearray(whole)
        for _ in range(10):
            damaged[pickled + random.randrange(300)] ^= random.randrange(1, 256)
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="found a file that is damaged"):
            load_checkpoint(file, "search")


def test_an_older_checkpoint_has_its_members_checked(file):
    torch.save({"format": 1, **CONTENT}, file)
    assert_whole(load_checkpoint(file, "search"))
    damaged = bytearray(file.read_bytes())
    damaged[damaged.index(torch.tensor(500.0).numpy().tobytes())] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"damaged.*BadZipFile"):
        load_checkpoint(file, "search")


def test_a_checkpoint_without_its_checksum_is_damaged(file):
    torch.save({"format": 2, **CONTENT}, file)
    with pytest.raises(ValueError, match=r"damaged.*SHA-256"):
        load_checkpoint(file, "search")


def test_pytorch_and_zip_tools_read_a_checkpoint(file):
    assert torch.equal(torch.load(file, weights_only=True)["a"], CONTENT["a"])
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert len(archive.comment) == 32
