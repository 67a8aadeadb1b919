# SPDX-License-Identifier: MIT
"""CIFAR-10: the python batches as published, or an .npz of JPEG copies (not to be quoted as CIFAR-10)."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nasp_ext.tasks.images.images import Part, limited, subset

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SIDE = 32
_FILES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}


def has_python_batches(folder: Path) -> bool:
    """Whether the folder holds at least one of the six batch files."""
    return any((folder / name).is_file() for names in _FILES.values() for name in names)


def read_python_batches(folder: Path, part: str, limit: int | None) -> Part:
    """Images (N, 3, 32, 32) of "train" or "test", ``limit`` of them.

    The batches are pickles; only arrays, bytes and plain containers are unpickled, nothing else is imported.

    Raises:
        FileNotFoundError: if a batch file is missing.
        ValueError: if one is truncated, corrupt, or holds anything else.
    """
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for name in _FILES[part]:
        pixels, classes = _read_batch(folder / name)
        images.append(pixels)
        labels.append(classes)
    return limited(torch.cat(images), torch.cat(labels), limit)


def read_jpeg_npz(path: Path, part: str, limit: int | None) -> Part:
    """As ``read_python_batches``, from the arrays {part}_jpeg (one blob), _offsets (N + 1) and _labels."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            blob, offsets, labels = (
                np.asarray(archive[f"{part}_{key}"]) for key in ("jpeg", "offsets", "labels")
            )
    except KeyError as error:
        raise ValueError(
            f"{path}: expected arrays {part}_jpeg, {part}_offsets and {part}_labels, {error}"
        ) from error
    except Exception as error:  # a damaged archive raises nearly anything
        raise ValueError(f"{path} is truncated or not an .npz file ({error}): fetch it again") from error
    kinds = (("jpeg", blob, "u"), ("offsets", offsets, "iu"), ("labels", labels, "iu"))
    for key, array, kind in kinds:
        numbers = array.dtype.kind in kind and (key != "jpeg" or array.dtype == np.uint8)
        if array.ndim != 1 or not (numbers or array.size == 0):
            wanted = "bytes" if key == "jpeg" else "whole numbers"
            found = f"{array.dtype} {array.shape}"
            raise ValueError(f"{path}: expected {part}_{key} to be a list of {wanted}, got {found}")
    if len(offsets) != len(labels) + 1:
        raise ValueError(
            f"{path}: expected one more offset than labels, got {len(offsets)} and {len(labels)}"
        )
    if offsets[0] != 0 or offsets[-1] != len(blob) or bool((np.diff(offsets.astype(np.int64)) <= 0).any()):
        raise ValueError(f"{path}: expected {part}_offsets to rise from 0 to the blob's {len(blob)} bytes")
    chosen = subset(len(labels), limit).tolist()
    decode = _jpeg_decoder()
    pixels = np.empty((len(chosen), _SIDE, _SIDE, 3), np.uint8)
    for place, i in enumerate(chosen):
        try:
            image = decode(blob[offsets[i] : offsets[i + 1]].tobytes())
        except Exception as error:  # as above
            raise ValueError(f"{path}: {part} image {i} is not a 32x32 RGB JPEG ({error})") from error
        if image.shape != pixels.shape[1:]:  # an assignment would repeat a smaller one
            raise ValueError(f"{path}: {part} image {i} is not a 32x32 RGB JPEG, but {image.shape}")
        pixels[place] = image
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    known = torch.from_numpy(labels.astype(np.int64))
    return Part(images, known[chosen], 1 + int(known.max()) if len(known) else 0)


def _jpeg_decoder() -> Callable[[bytes], np.ndarray[Any, np.dtype[np.uint8]]]:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("reading JPEG images needs Pillow: pip install 'nasp_ext[jpeg]'") from error

    def decode(content: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.asarray(Image.open(io.BytesIO(content)))

    return decode


class _ArraysOnly(pickle.Unpickler):
    """Unpickles numpy arrays, bytes and plain containers; a pickle may otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return _latin1  # how protocol 2 writes bytes
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only arrays are allowed")


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"expected bytes in latin1, got {encoding}")
    return text.encode("latin1")


def _read_batch(path: Path) -> tuple[Tensor, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"expected the CIFAR-10 batch {path}, found no such file")
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="bytes").load()
    except Exception as error:  # a corrupt pickle raises nearly anything
        raise ValueError(f"{path} is not a readable CIFAR-10 batch ({error}): fetch it again") from error
    if not isinstance(content, Mapping) or not {b"data", b"labels"} <= content.keys():
        raise ValueError(
            f"{path}: expected a pickled dict with b'data' and b'labels' (CIFAR-10, python version)"
        )
    data, found_labels = content[b"data"], content[b"labels"]
    try:
        labels = np.asarray(found_labels)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected labels in a list of integers ({error})") from error
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: expected labels in a list of integers, got {labels.dtype} {tuple(labels.shape)}"
        )
    if (
        not isinstance(data, np.ndarray)
        or data.dtype != np.uint8
        or data.shape != (len(labels), 3 * _SIDE**2)
    ):
        found = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise ValueError(
            f"{path}: expected uint8 data ({len(labels)}, {3 * _SIDE**2}), a row per label, got {found}"
        )
    return torch.from_numpy(data).reshape(-1, 3, _SIDE, _SIDE), torch.from_numpy(labels.astype(np.int64))
