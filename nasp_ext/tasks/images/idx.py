# SPDX-License-Identifier: MIT
"""IDX files, the format of MNIST and Fashion-MNIST: a magic number, the sizes, then bytes."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nasp_ext.tasks.images.images import Part, limited

# The third byte says "unsigned byte", the fourth the number of dimensions.
_UINT8 = 0x08
_DIMENSIONS = {"images": 3, "labels": 1}


def has_idx(folder: Path) -> bool:
    """Whether the folder holds at least one of the four IDX files."""
    return any(_find(folder, part, what) is not None for part in ("train", "t10k") for what in _DIMENSIONS)


def read_idx_part(folder: Path, part: str, limit: int | None) -> Part:
    """Images (N, 1, H, W) of "train" or "test", ``limit`` of them.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is truncated, corrupt, of another format, or the counts of the two disagree.
    """
    prefix = "t10k" if part == "test" else "train"
    arrays = []
    for what in _DIMENSIONS:
        path = _find(folder, prefix, what)
        if path is None:
            stem = _stem(prefix, what)
            raise FileNotFoundError(f"expected {stem} or {stem}.gz in {folder}, found neither")
        arrays.append(read_idx(path, _DIMENSIONS[what]))
    images, labels = arrays
    if len(images) != len(labels):
        raise ValueError(
            f"{folder}: expected a label per image, got {len(images)} {prefix} images, {len(labels)} labels"
        )
    return limited(images[:, None], labels.long(), limit)


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The unsigned bytes of one IDX file, plain or gzip by its name, with this many dimensions."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or not a gzip file ({error}): fetch it again") from error
    magic = int.from_bytes(content[:4], "big")
    expected = _UINT8 << 8 | dimensions
    if len(content) < 4 or magic != expected:
        raise ValueError(
            f"{path}: expected the magic number 0x{expected:08x} of {dimensions}-D bytes, got 0x{magic:08x}"
        )
    header = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4))
    wanted = header + int(np.prod(shape, dtype=object))
    if len(content) != wanted:
        raise ValueError(
            f"{path}: its header {shape} means {wanted} bytes, but it has {len(content)}: fetch it again"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).copy()).reshape(shape)


def _stem(prefix: str, what: str) -> str:
    return f"{prefix}-{what}-idx{_DIMENSIONS[what]}-ubyte"


def _find(folder: Path, prefix: str, what: str) -> Path | None:
    for suffix in ("", ".gz"):
        path = folder / (_stem(prefix, what) + suffix)
        if path.is_file():
            return path
    return None
