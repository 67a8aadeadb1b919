# SPDX-License-Identifier: MIT
"""load_data: every source, and every way its files can be missing or damaged."""

import builtins
import gzip
import io
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nasp_ext.data import load_data

FASHION = Path("/usr/share/datasets/fashion-mnist")
PARTS = {"train": 12, "t10k": 7}


def idx_bytes(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def idx_folder(tmp_path):
    """A folder of four small IDX files: plain training files, gzip test files."""
    generator = np.random.default_rng(0)
    for part, count in PARTS.items():
        arrays = {
            "images-idx3": generator.integers(0, 256, (count, 6, 5)),
            "labels-idx1": np.arange(count) % 10,
        }
        for kind, array in arrays.items():
            content = idx_bytes(array)
            name = f"{part}-{kind}-ubyte"
            if part == "train":
                (tmp_path / name).write_bytes(content)
            else:
                (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    return tmp_path


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


def test_digits_come_with_the_package():
    data = load_data("digits")
    assert data.name == "digits"
    assert data.train_images.shape == (1437, 1, 8, 8)
    assert data.test_images.shape == (360, 1, 8, 8)
    assert data.classes == tuple("0123456789")
    assert not data.flip
    assert torch.bincount(data.test_labels).tolist() == [35, 36, 35, 37, 37, 37, 37, 36, 33, 37]


def test_digits_are_those_of_scikit_learn():
    original = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed").load_digits()
    data = load_data("digits")
    images = torch.cat([data.train_images, data.test_images])[:, 0]
    assert torch.equal(images, torch.from_numpy(original.images * 15).to(torch.uint8))
    labels = torch.cat([data.train_labels, data.test_labels])
    assert torch.equal(labels, torch.from_numpy(original.target))


def test_limit_takes_the_first_images_of_both_parts(idx_folder):
    whole, limited = load_data(idx_folder), load_data(idx_folder, limit=5)
    assert torch.equal(limited.train_images, whole.train_images[:5])
    assert torch.equal(limited.test_labels, whole.test_labels[:5])
    assert len(load_data("digits", limit=400).test_images) == 360


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_refused(limit):
    with pytest.raises(ValueError, match=f"limit >= 1 image, got {limit}"):
        load_data("digits", limit=limit)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"digits, fashion-mnist, cifar10.*got 'mnits'"):
        load_data("mnits")


def test_plain_and_gzip_idx_files_are_read(idx_folder):
    data = load_data(idx_folder)
    expected = np.random.default_rng(0).integers(0, 256, (12, 6, 5))
    assert torch.equal(data.train_images[:, 0], torch.from_numpy(expected).to(torch.uint8))
    assert data.test_labels.tolist() == list(range(7))


def test_a_named_set_is_found_in_data_dir_and_in_its_subfolder(idx_folder):
    for folder in (idx_folder, idx_folder.parent):
        target = idx_folder.parent / "fashion-mnist"
        if folder == idx_folder.parent:
            idx_folder.rename(target)
        data = load_data("fashion-mnist", folder)
        assert data.name == "fashion-mnist"
        assert data.classes[9] == "ankle boot"
        assert data.flip


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_debians_fashion_mnist_is_read():
    data = load_data("fashion-mnist", limit=100)
    assert data.train_images.shape == (100, 1, 28, 28)
    assert data.train_labels[:5].tolist() == [9, 0, 0, 3, 0]


@pytest.mark.parametrize(
    "name, command",
    [("fashion-mnist", "apt-get install dataset-fashion-mnist"), ("cifar10", "cifar-10-python.tar.gz")],
)
def test_missing_data_name_the_places_and_the_command(tmp_path, name, command):
    with pytest.raises(FileNotFoundError) as error:
        load_data(name, tmp_path / "absent")
    assert str(tmp_path / "absent") in str(error.value)
    assert command in str(error.value)


def test_a_folder_without_data_files_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="found none of them"):
        load_data(tmp_path)


def test_one_missing_idx_file_is_named(idx_folder):
    (idx_folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected t10k-labels-idx1-ubyte or .*\.gz"):
        load_data(idx_folder)


def damage_wrong_magic(path):
    path.write_bytes(b"\x00\x00\x08\x01" + path.read_bytes()[4:])


def damage_truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def damage_trailing(path):
    path.write_bytes(path.read_bytes() + b"x")


def damage_emptied(path):
    path.write_bytes(b"")


def damage_headless(path):
    path.write_bytes(path.read_bytes()[:7])


@pytest.mark.parametrize(
    "damage, message",
    [
        (damage_wrong_magic, "magic number 0x00000803 of 3-D bytes, got 0x00000801"),
        (damage_truncated, "means 376 bytes, but it has 375"),
        (damage_trailing, "means 376 bytes, but it has 377"),
        (damage_emptied, "magic number"),
        (damage_headless, "but it has 7"),
    ],
)
def test_a_damaged_idx_file_is_refused(idx_folder, damage, message):
    path = idx_folder / "train-images-idx3-ubyte"
    damage(path)
    with pytest.raises(ValueError, match=message) as error:
        load_data(idx_folder)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("damage", [damage_truncated, damage_wrong_magic])
def test_a_damaged_gzip_file_is_refused(idx_folder, damage):
    damage(idx_folder / "t10k-images-idx3-ubyte.gz")
    with pytest.raises(ValueError, match="truncated or not a gzip file"):
        load_data(idx_folder)


def test_another_number_of_labels_than_images_is_refused(idx_folder):
    (idx_folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(11)))
    with pytest.raises(ValueError, match="12 train images, 11 labels"):
        load_data(idx_folder, limit=5)


def test_an_empty_idx_set_is_refused(idx_folder):
    (idx_folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((0, 6, 5))))
    (idx_folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(0)))
    with pytest.raises(ValueError, match="train part: the data set is empty"):
        load_data(idx_folder)


def test_cifar_batches_are_read_in_order(cifar_folder):
    data = load_data("cifar10", cifar_folder)
    assert data.train_images.shape == (15, 3, 32, 32)
    assert data.train_labels.tolist() == [0, 5, 9] * 5
    first = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
    assert torch.equal(data.train_images[:3].flatten(1), torch.from_numpy(first))
    assert load_data(cifar_folder, limit=4).train_labels.tolist() == [0, 5, 9, 0]


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
    damage_truncated(cifar_folder / "test_batch")
    with pytest.raises(ValueError, match="test_batch is not a readable CIFAR-10 batch"):
        load_data(cifar_folder)


@pytest.mark.parametrize("data", [np.zeros((2, 3072), np.uint8), np.zeros((3, 3072)), [1, 2, 3]])
def test_a_cifar_batch_of_another_shape_or_type_is_refused(cifar_folder, data):
    content = pickle.dumps({b"data": data, b"labels": [1, 2, 3]}, 2)
    (cifar_folder / "data_batch_1").write_bytes(content)
    with pytest.raises(ValueError, match=r"expected uint8 data \(3, 3072\)"):
        load_data(cifar_folder)


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
    assert (data.train_images[2, :, :, :16].int() - 40).abs().max() <= 2
    assert (data.train_images[2, :, :, 16:].int() - 200).abs().max() <= 2
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
