# SPDX-License-Identifier: MIT
"""Loading CIFAR-10: the batches of Python pickles, and the archive of JPEG copies."""

import builtins
import io
import pickle
import sys
from random import Random

import numpy as np
import pytest
import torch

from nasp_ext.tasks.images.load import load_data


@pytest.fixture
def cifar_folder(tmp_path):
    """A folder of six small CIFAR-10 batches, pickled as Python 2 does it: bytes keys."""
    generator = np.random.default_rng(0)
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        data = generator.integers(0, 256, (3, 3072), dtype=np.uint8)
        with (tmp_path / name).open("wb") as file:
            pickle.dump({b"batch_label": name.encode(), b"labels": [0, 5, 9], b"data": data}, file, 2)
    return tmp_path


def jpeg_arrays():
    """Arrays of the JPEG archive: 4 + 2 images, image i grey 20 i on its left half, 200 on its right."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    arrays = {}
    for part, count in (("train", 4), ("test", 2)):
        blobs = []
        for i in range(count):
            buffer = io.BytesIO()
            picture = image.new("RGB", (32, 32), (20 * i,) * 3)
            picture.paste((200, 200, 200), (16, 0, 32, 32))
            picture.save(buffer, "JPEG")
            blobs.append(buffer.getvalue())
        arrays[f"{part}_jpeg"] = np.frombuffer(b"".join(blobs), np.uint8)
        arrays[f"{part}_offsets"] = np.cumsum([0] + [len(blob) for blob in blobs])
        arrays[f"{part}_labels"] = np.arange(count)
    return arrays


def test_cifar_batches_are_read_in_order(cifar_folder):
    data = load_data("cifar10", cifar_folder)
    assert data.train_images.shape == (15, 3, 32, 32)
    assert data.train_labels.tolist() == [0, 5, 9] * 5
    first = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
    assert torch.equal(data.train_images[:3].flatten(1), torch.from_numpy(first))
    assert len(load_data(cifar_folder, limit=4).train_labels) == 4


def test_a_pickle_that_asks_for_code_is_refused(cifar_folder):
    evil = b"cbuiltins\nexec\n(S'import sys; sys.nasp_was_here = 1'\ntR."
    (cifar_folder / "data_batch_1").write_bytes(evil)
    with pytest.raises(ValueError, match=r"builtins\.exec, and only arrays are allowed"):
        load_data(cifar_folder)
    assert not hasattr(sys, "nasp_was_here")


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps({b"data": 1}), pickle.dumps([1])])
def test_a_damaged_cifar_batch_is_refused(cifar_folder, content):
    (cifar_folder / "data_batch_2").write_bytes(content)
    with pytest.raises(ValueError, match="data_batch_2"):
        load_data(cifar_folder)


def test_a_truncated_cifar_batch_is_refused(cifar_folder):
    path = cifar_folder / "test_batch"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="test_batch is not a readable CIFAR-10 batch"):
        load_data(cifar_folder)


@pytest.mark.parametrize("data", [np.zeros((2, 3072), np.uint8), np.zeros((3, 3072)), [1, 2, 3]])
def test_a_cifar_batch_of_another_shape_or_type_is_refused(cifar_folder, data):
    content = pickle.dumps({b"data": data, b"labels": [1, 2, 3]}, 2)
    (cifar_folder / "data_batch_1").write_bytes(content)
    with pytest.raises(ValueError, match=r"expected uint8 data \(3, 3072\)"):
        load_data(cifar_folder)


@pytest.mark.parametrize("labels", [3, None, b"abc", ["a", "b", "c"], [0.5, 1.0, 2.0], [[0], [1], [2]]])
def test_labels_that_are_no_list_of_integers_are_refused(cifar_folder, labels):
    content = pickle.dumps({b"data": np.zeros((3, 3072), np.uint8), b"labels": labels}, 2)
    (cifar_folder / "data_batch_1").write_bytes(content)
    with pytest.raises(ValueError, match="data_batch_1: expected labels in a list of integers"):
        load_data(cifar_folder)


@pytest.mark.parametrize("mode, size", [("RGB", (1, 1)), ("RGB", (32, 1)), ("L", (32, 32))])
def test_a_jpeg_of_another_size_or_mode_is_refused(tmp_path, mode, size):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    buffer = io.BytesIO()
    image.new(mode, size).save(buffer, "JPEG")
    blob = np.frombuffer(buffer.getvalue(), np.uint8)
    path = tmp_path / "copies.npz"
    change = {"test_jpeg": blob, "test_offsets": [0, len(blob)], "test_labels": [3]}
    np.savez(path, **(jpeg_arrays() | change))
    with pytest.raises(ValueError, match="test image 0 is not a 32x32 RGB JPEG"):
        load_data(path)


def test_a_missing_cifar_batch_is_named(cifar_folder):
    (cifar_folder / "data_batch_5").unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_5"):
        load_data(cifar_folder)


def test_jpeg_archives_are_decoded_and_named_as_copies(tmp_path):
    path = tmp_path / "copies.npz"
    np.savez(path, **jpeg_arrays())
    data = load_data(path, limit=3)
    assert data.name == "cifar10-jpeg"
    assert data.train_images.shape == (3, 3, 32, 32)
    left = 20 * data.train_labels[:, None, None, None]  # the grey of image i is 20 i, its label i
    assert (data.train_images[..., :16].int() - left).abs().max() <= 2
    assert (data.train_images[..., 16:].int() - 200).abs().max() <= 2
    assert data.test_labels.tolist() == [0, 1]


def test_jpeg_without_pillow_names_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "copies.npz"
    np.savez(path, **jpeg_arrays())
    original = builtins.__import__

    def without_pillow(name, *arguments, **options):
        if name.split(".")[0] == "PIL":
            raise ImportError("No module named 'PIL'")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(ImportError, match=r"pip install 'nasp_ext\[jpeg\]'"):
        load_data(path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"train_labels": None}, "expected arrays train_jpeg, train_offsets and train_labels"),
        ({"train_offsets": np.array([0, 1])}, "one more offset than labels, got 2 and 4"),
        ({"train_offsets": np.arange(5)}, "train_offsets to rise from 0 to the blob's"),
        (
            {"train_jpeg": np.zeros(10, np.uint8), "train_offsets": np.array([0, 5, 5, 9, 10])},
            "train_offsets to rise from 0 to the blob's 10 bytes",
        ),
        (
            {"train_jpeg": np.zeros(40, np.uint8), "train_offsets": np.arange(5) * 10},
            "train image 0 is not a 32x32",
        ),
    ],
)
def test_an_inconsistent_jpeg_archive_is_refused(tmp_path, change, message):
    path = tmp_path / "copies.npz"
    arrays = jpeg_arrays() | change
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(ValueError, match=message):
        load_data(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"plain text"])
def test_a_damaged_jpeg_archive_is_refused(tmp_path, content):
    path = tmp_path / "copies.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"truncated or not an \.npz file"):
        load_data(path)


def test_a_jpeg_archive_without_labels_left_is_refused(tmp_path):
    path = tmp_path / "copies.npz"
    empty = {
        "train_jpeg": np.zeros(0, np.uint8),
        "train_offsets": np.zeros(1, np.int64),
        "train_labels": np.zeros(0),
    }
    np.savez(path, **(jpeg_arrays() | empty))
    with pytest.raises(ValueError, match="empty"):
        load_data(path)


@pytest.mark.parametrize("classes", [3, 100])
def test_cifar_batches_have_the_classes_of_their_labels(cifar_folder, classes):
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        content = {b"labels": [0, 1, classes - 1], b"data": np.zeros((3, 3072), np.uint8)}
        (cifar_folder / name).write_bytes(pickle.dumps(content, 2))
    assert load_data(cifar_folder).classes == tuple(map(str, range(classes)))


def test_an_archive_with_any_flipped_byte_is_read_or_refused_by_its_name(tmp_path):
    np.savez_compressed(tmp_path / "copies.npz", **jpeg_arrays())
    whole, random, refused = (tmp_path / "copies.npz").read_bytes(), Random(0), 0
    for position in random.sample(range(len(whole)), 150):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << random.randrange(8)
        (tmp_path / "damaged.npz").write_bytes(damaged)
        try:
            load_data(tmp_path / "damaged.npz")
        except ValueError as error:
            refused += "damaged.npz" in str(error)
    assert refused > 100


@pytest.mark.parametrize(
    "arrays",
    [
        {"train_offsets": np.array(3)},
        {"train_labels": np.array([[0], [1], [2], [3]])},
        {"train_labels": np.array(["0", "1", "2", "3"])},
        {"train_labels": np.array([0.5, 1, 2, 3])},
        {"train_jpeg": np.zeros(3)},
    ],
)
def test_an_archive_of_other_arrays_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "copies.npz", **(jpeg_arrays() | arrays))
    with pytest.raises(
        ValueError, match=r"copies\.npz: expected train_\w+ to be a list of (bytes|whole numbers)"
    ):
        load_data(tmp_path / "copies.npz")
