# SPDX-License-Identifier: MIT
"""From a name or a path to an ``ImageData``: where each is looked for, and how to get it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch

from nasp_ext.checks import check_whole, shown
from nasp_ext.tasks.images.cifar import (
    CIFAR10_CLASSES,
    has_python_batches,
    read_jpeg_npz,
    read_python_batches,
)
from nasp_ext.tasks.images.idx import has_idx, read_idx_part
from nasp_ext.tasks.images.images import ImageData, Part, channel_statistics, limited

DATA_NAMES = ("digits", "fashion-mnist", "cifar10")

_Reader = Callable[[str], Part]
_FASHION_CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
_HOW_TO_GET = {
    "fashion-mnist": "apt-get install dataset-fashion-mnist (Debian), or put the four IDX files of "
    "https://github.com/zalandoresearch/fashion-mnist into a folder and name it with data_dir",
    "cifar10": "curl -O https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz && "
    "mkdir -p data && tar -xzf cifar-10-python.tar.gz -C data",
}


def load_data(
    name_or_path: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    limit: int | None = None,
) -> ImageData:
    """Load a data set with its usual training and test parts.

    The classes of IDX files and of CIFAR batches are those of the training labels, 0 to the largest one, with
    the usual names where there are as many as usual, else with their numbers. A number between them that no
    image has is a class without images: EMNIST's letters, 1 to 26, have 27 classes.

    Args:
        name_or_path: "digits" (comes with the package), "fashion-mnist", "cifar10", or a path: a folder of
            IDX files, a folder of CIFAR-10 python batches, or a CIFAR-10 .npz of JPEG copies.
        data_dir: where to look for a named data set; None = its usual places.
        limit: at most this many images of each part, a fixed random choice (mean and std are then theirs).

    Raises:
        FileNotFoundError: if the files or ``data_dir`` are not there; the message lists the places and how
            to get them.
        ValueError: if the name is unknown, ``limit`` is below 1, a file is damaged, there are fewer than two
            classes, or a test label is none of the classes.
        TypeError: if an argument is of another type.
        ImportError: if the files hold JPEG images and Pillow is not installed.

    >>> load_data("digits").train_images.shape
    torch.Size([1437, 1, 8, 8])
    """
    for what, value in (("name_or_path", name_or_path), ("data_dir", data_dir)):
        if not isinstance(value, str | os.PathLike) and (value is not None or what == "name_or_path"):
            raise TypeError(
                f"expected {what} to be a name or a path, got {type(value).__name__}: {shown(value)}"
            )
    if limit is not None:
        if isinstance(limit, int) and limit < 1:
            raise ValueError(f"expected limit >= 1 image, got {shown(limit)}")
        check_whole("limit", limit, 1, sys.maxsize)
    if data_dir is not None and not _places(str(name_or_path), data_dir) and not Path(data_dir).is_dir():
        raise FileNotFoundError(f"expected data_dir to be a folder, found none at {shown(str(data_dir))}")
    if name_or_path == "digits":
        return _build("digits", lambda part: _read_digits(part, limit), tuple("0123456789"), 1, False)
    places = _places(str(name_or_path), data_dir)
    if not places:
        path = Path(name_or_path)
        if not path.exists():
            known = ", ".join(DATA_NAMES)
            raise ValueError(
                f"expected one of {known}, or the path of a folder or .npz file, got {str(path)!r}"
            )
        return _open(path, path.name, limit) or _refuse(path)
    for place in places:
        data = _open(place, str(name_or_path), limit)
        if data is not None:
            return data
    looked = "\n  ".join(str(place) for place in places)
    raise FileNotFoundError(
        f"{name_or_path}: no data files, looked for them in\n  {looked}\n"
        f"to get them: {_HOW_TO_GET[str(name_or_path)]}"
    )


def _places(name: str, data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Where the files of a named data set may be, in order; empty for a name that is not in the list."""
    if name == "fashion-mnist":
        if data_dir is None:
            return [Path("data/fashion-mnist"), Path("/usr/share/datasets/fashion-mnist")]
        return [Path(data_dir), Path(data_dir, "fashion-mnist")]
    if name == "cifar10":
        base = Path("data" if data_dir is None else data_dir)
        return [base, base / "cifar-10-batches-py", base / "cifar10_jpeg_all.npz"]
    return []


def _open(place: Path, name: str, limit: int | None) -> ImageData | None:
    """The data set at this place, told by its files; None if it holds none."""
    if place.suffix == ".npz" and place.is_file():
        return _build(
            "cifar10-jpeg", lambda part: read_jpeg_npz(place, part, limit), CIFAR10_CLASSES, 4, True
        )
    if has_python_batches(place):
        return _build(
            "cifar10", lambda part: read_python_batches(place, part, limit), CIFAR10_CLASSES, 4, True
        )
    if has_idx(place):
        fashion = name == "fashion-mnist"
        classes = _FASHION_CLASSES if fashion else ()
        return _build(
            name, lambda part: read_idx_part(place, part, limit), classes, 4 if fashion else 2, fashion
        )
    return None


def _refuse(path: Path) -> ImageData:
    raise FileNotFoundError(
        f"{path}: expected IDX files (train-images-idx3-ubyte[.gz] …), CIFAR-10 python batches "
        "(data_batch_1 …) or an .npz file of CIFAR-10 JPEG images, found none of them"
    )


def _build(name: str, read: _Reader, names: tuple[str, ...], crop_padding: int, flip: bool) -> ImageData:
    """Args:    names: of the classes, if there are as many; else they are called by their numbers."""
    train, test = read("train"), read("test")
    if train.classes == 1 or test.classes > train.classes > 0:
        found = f"training labels of 0 to {train.classes - 1}, test labels of 0 to {test.classes - 1}"
        raise ValueError(
            f"{name}: expected two classes or more, and test labels among the training labels, found {found}"
        )
    classes = names if len(names) == train.classes else tuple(map(str, range(train.classes)))
    mean, std = channel_statistics(train.images)
    return ImageData(
        name, train.images, train.labels, test.images, test.labels, classes, mean, std, crop_padding, flip
    )


def _read_digits(part: str, limit: int | None) -> Part:
    with (
        as_file(files("nasp_ext.tasks.images") / "digits.npz") as path,
        np.load(path, allow_pickle=False) as archive,
    ):
        images, labels = archive[f"{part}_images"], archive[f"{part}_labels"]
    return limited(torch.from_numpy(images)[:, None], torch.from_numpy(labels.astype(np.int64)), limit)
