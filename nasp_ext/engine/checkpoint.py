# SPDX-License-Identifier: MIT
"""Files that are either the old or the new one, never half: temporary file, fsync, rename."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

FORMAT = 1


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
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint of tensors, numbers, strings, lists and dicts."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    write_atomic(path, buffer.getvalue())


def load_checkpoint(path: Path, kind: str) -> dict[str, Any]:
    """Read a checkpoint of ``kind`` ("search" or "retrain"), executing nothing from it.

    Raises:  ValueError: missing, damaged, or not a checkpoint of that kind; says which and what to do.
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected a checkpoint, found no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ValueError(
            f"{path}: expected a checkpoint, found a file that is damaged, cut off or of another kind "
            f"({type(error).__name__}): take a copy of it, or start again with --overwrite"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path}: expected a nasp_ext checkpoint of format {FORMAT}, found {found}")
    if content.get("kind") != kind:
        raise ValueError(f"{path}: expected the checkpoint of a {kind}, found one of a {content.get('kind')}")
    return content
