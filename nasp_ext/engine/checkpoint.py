# SPDX-License-Identifier: MIT
"""Files that are either the old or the new one, never half: temporary file, fsync, rename.

A checkpoint is the zip archive of ``torch.save``, with a SHA-256 of what is in front of it as its comment.
PyTorch does not look at the CRCs of the archive, so that a damaged tensor would load as any other.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

FORMAT = 2
_UNSEALED = 1  # the format before checkpoints had a SHA-256
_COMMENT_LENGTH = hashlib.sha256().digest_size.to_bytes(2, "little")


def write_atomic(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` so that a crash at any moment leaves the old file or the whole new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # where a folder cannot be opened, and a rename is written through
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint of tensors, numbers, strings, lists and dicts."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    archive = buffer.getbuffer()[:-2]  # an archive ends with the length of its comment: 0 so far
    write_atomic(path, b"".join((archive, _COMMENT_LENGTH, hashlib.sha256(archive).digest())))


def load_checkpoint(path: Path, kind: str) -> dict[str, Any]:
    """Read a checkpoint of ``kind`` ("search" or "retrain"), executing nothing from it.

    Raises:  ValueError: missing, damaged, or not a checkpoint of that kind; says which and what to do.
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected a checkpoint, found no such file")
    data = path.read_bytes()
    try:
        sealed = _is_sealed(data)
        if not sealed:
            _check_members(data)
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises nearly anything
        raise _damaged(path, type(error).__name__) from error
    if not isinstance(content, dict) or content.get("format") not in (FORMAT, _UNSEALED):
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path}: expected a nasp_ext checkpoint of format {FORMAT}, found {found}")
    if not sealed and content["format"] != _UNSEALED:
        raise _damaged(path, "its SHA-256 is another one")
    if content.get("kind") != kind:
        raise ValueError(f"{path}: expected the checkpoint of a {kind}, found one of a {content.get('kind')}")
    return content


def _is_sealed(data: bytes) -> bool:
    """Whether the file ends with the SHA-256 of what is in front of its comment."""
    digest = hashlib.sha256()
    end = max(len(data) - digest.digest_size - len(_COMMENT_LENGTH), 0)
    digest.update(memoryview(data)[:end])
    return data[end:] == _COMMENT_LENGTH + digest.digest()


def _check_members(data: bytes) -> None:
    """Raise BadZipFile unless all that is in the archive has its CRC."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise zipfile.BadZipFile(broken)


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path}: expected a checkpoint, found a file that is damaged, cut off or of another kind "
        f"({reason}): take a copy of it, or start again with --overwrite"
    )
