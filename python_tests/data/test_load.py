# SPDX-License-Identifier: MIT
"""load_data: every source, and every way its files can be missing or damaged."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from nasp_ext.tasks.images.load import load_data

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


def test_digits_come_with_the_package():
    data = load_data("digits")
    assert data.name == "digits"
    assert data.train_images.shape == (1437, 1, 8, 8)
    assert data.test_images.shape == (360, 1, 8, 8)
    assert data.classes == tuple("0123456789")
    assert not data.flip
    assert torch.bincount(data.test_labels).tolist() == [42, 28, 26, 48, 38, 39, 30, 26, 36, 47]


def test_digits_are_those_of_scikit_learn():
    original = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed").load_digits()
    data = load_data("digits")
    test = torch.arange(1797) % 5 == 0
    images, labels = torch.from_numpy(original.images * 15).to(torch.uint8), torch.from_numpy(original.target)
    assert torch.equal(data.train_images[:, 0], images[~test])
    assert torch.equal(data.test_images[:, 0], images[test])
    assert torch.equal(data.train_labels, labels[~test])
    assert torch.equal(data.test_labels, labels[test])


def test_limit_takes_the_same_images_of_both_parts_in_every_call(idx_folder):
    whole, limited = load_data(idx_folder), load_data(idx_folder, limit=5)
    assert len(limited.train_labels) == len(limited.test_labels) == 5
    for image, label in zip(limited.train_images, limited.train_labels, strict=True):
        place = (whole.train_images == image).flatten(1).all(1).nonzero()
        assert whole.train_labels[place.item()] == label
    assert torch.equal(limited.train_images, load_data(idx_folder, limit=5).train_images)
    assert len(load_data("digits", limit=400).test_images) == 360


def test_limit_reaches_every_class_of_a_sorted_file(tmp_path):
    labels = np.arange(400) // 40
    for part in PARTS:
        images = np.zeros((400, 2, 2)) + labels[:, None, None]
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    data = load_data(tmp_path, limit=100)
    assert torch.bincount(data.train_labels, minlength=10).min() >= 3
    assert torch.equal(data.train_images[:, 0, 0, 0].long(), data.train_labels)


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
    data = load_data("fashion-mnist")
    assert data.train_images.shape == (60_000, 1, 28, 28)
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


def write_idx(folder, train, test):
    """IDX files of 8×8 images with these labels."""
    for part, labels in (("train", train), ("t10k", test)):
        labels = np.asarray(labels)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((len(labels), 8, 8))))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))


@pytest.mark.parametrize("count", [2, 10, 47, 256])
def test_the_classes_of_idx_files_are_those_of_the_training_labels(tmp_path, count):
    write_idx(tmp_path, np.arange(2 * count) % count, [0, 1])
    data = load_data(tmp_path)
    assert data.classes == tuple(str(i) for i in range(count))


def test_a_limit_does_not_change_the_classes(tmp_path):
    write_idx(tmp_path, np.arange(94) % 47, np.arange(94) % 47)
    data = load_data(tmp_path, limit=3)
    assert len(data.train_labels) == 3
    assert len(data.classes) == 47


def test_a_number_that_no_image_has_is_a_class_without_images(tmp_path):
    write_idx(tmp_path, np.arange(52) % 26 + 1, [1, 26])  # as EMNIST numbers its letters
    assert len(load_data(tmp_path).classes) == 27


@pytest.mark.parametrize("limit", [None, 1])
@pytest.mark.parametrize(
    "train, test, found",
    [
        ([0, 1, 2, 1], [0, 3], "0 to 2, test labels of 0 to 3"),
        ([0, 0, 0], [0], "0 to 0, test labels of 0 to 0"),
    ],
)
def test_test_labels_beyond_the_training_labels_and_a_single_class_are_refused(
    tmp_path, train, test, found, limit
):
    write_idx(tmp_path, train, test)
    with pytest.raises(ValueError, match=f"two classes or more.*found training labels of {found}"):
        load_data(tmp_path, limit=limit)


def test_fashion_mnist_keeps_its_names_and_other_data_under_its_name_have_numbers(tmp_path):
    write_idx(tmp_path, np.arange(20) % 10, [9])
    assert load_data("fashion-mnist", tmp_path).classes[0] == "T-shirt/top"
    write_idx(tmp_path, np.arange(20) % 5, [4])
    assert load_data("fashion-mnist", tmp_path).classes == ("0", "1", "2", "3", "4")


def test_a_data_dir_that_does_not_exist_is_refused_beside_data_that_need_none(tmp_path, idx_folder):
    for name in ("digits", idx_folder):
        with pytest.raises(
            FileNotFoundError, match="expected data_dir to be a folder, found none at '/nowhere"
        ):
            load_data(name, "/nowhere/at/all")
    assert load_data("digits", tmp_path, limit=3).name == "digits"


@pytest.mark.parametrize("arguments", [(None,), (3,), (["digits"],), ("digits", 7), ("digits", None, 2.5)])
def test_an_argument_of_another_type_is_refused(arguments):
    with pytest.raises(TypeError, match=r"expected (name_or_path|data_dir|limit) to be a"):
        load_data(*arguments)
