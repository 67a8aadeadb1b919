# SPDX-License-Identifier: MIT
"""From a name or a path to an ``ImageData``: where each is looked for, and how to get it."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nasp_ext.data.cifar import CIFAR10_CLASSES, has_python_batches, read_jpeg_npz, read_python_batches
from nasp_ext.data.idx import has_idx, read_idx_part
from nasp_ext.data.images import ImageData, channel_statistics, subset

DATA_NAMES = ("digits", "fashion-mnist", "cifar10")

_Reader = Callable[[str], tuple[Tensor, Tensor]]
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

    Args:
        name_or_path: "digits" (comes with the package), "fashion-mnist", "cifar10", or a path: a folder of
            IDX files, a folder of CIFAR-10 python batches, or a CIFAR-10 .npz of JPEG copies.
        data_dir: where to look for a named data set; None = its usual places.
        limit: at most this many images of each part, a fixed random choice (mean and std are then theirs).

    Raises:
        FileNotFoundError: if the files are not there; the message lists the places and how to get them.
        ValueError: if the name is unknown, ``limit`` is below 1, or a file is damaged.
        ImportError: if the files hold JPEG images and Pillow is not installed.

    >>> load_data("digits").train_images.shape
    torch.Size([1437, 1, 8, 8])
    """
    if limit is not None and limit < 1:
        raise ValueError(f"expected limit >= 1 image, got {limit}")
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
        classes = _FASHION_CLASSES if fashion else tuple(map(str, range(10)))
        return _build(
            name, lambda part: read_idx_part(place, part, limit), classes, 4 if fashion else 2, fashion
        )
    return None


def _refuse(path: Path) -> ImageData:
    raise FileNotFoundError(
        f"{path}: expected IDX files (train-images-idx3-ubyte[.gz] …), CIFAR-10 python batches "
        "(data_batch_1 …) or an .npz file of CIFAR-10 JPEG images, found none of them"
    )


def _build(name: str, read: _Reader, classes: tuple[str, ...], crop_padding: int, flip: bool) -> ImageData:
    train_images, train_labels = read("train")
    test_images, test_labels = read("test")
    mean, std = channel_statistics(train_images)
    return ImageData(
        name, train_images, train_labels, test_images, test_labels, classes, mean, std, crop_padding, flip
    )


def _read_digits(part: str, limit: int | None) -> tuple[Tensor, Tensor]:
    with as_file(files("nasp_ext.data") / "digits.npz") as path, np.load(path, allow_pickle=False) as archive:
        images, labels = archive[f"{part}_images"], archive[f"{part}_labels"]
    chosen = subset(len(labels), limit)
    return torch.from_numpy(images)[chosen, None], torch.from_numpy(labels.astype(np.int64))[chosen]
