# SPDX-License-Identifier: MIT
"""One writer in a folder: a lock that the system releases when its process ends, however it ends."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"
# What write_atomic of a process that was killed left behind.
_LEFT = re.compile(r"\.(checkpoint\.pt|derived\.pt|[\w-]+\.(json|jsonl|svg))\.\d+\.part")
_OWNER_LENGTH = 300
_READS = 40  # of the owner, who may have the lock but not yet have said who it is
# What a file system says that has no locks at all, such as some network mounts.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

_FAR = 1 << 30  # on Windows a locked byte cannot be read: lock one that is not there


def _lock(descriptor: int) -> None:
    """Raises:  OSError: somebody else has the lock, or the file system has none."""
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ImportError:  # Windows
        import msvcrt

        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # there on Windows
    else:
        flock(descriptor, LOCK_EX | LOCK_NB)


@contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Make ``path`` if it does not exist, and be the only one who writes to it inside.

    Half files of runs that were killed are removed. Afterwards the lock is gone, and the folder too if it was
    made here and nothing was written to it.

    Raises:  ValueError: another run writes there (the message has its process id), or no folder can be made.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = _take(path / LOCK)
    except OSError as error:
        _remove_empty(made)
        raise ValueError(f"{path}: expected a folder to write to: {error.strerror or error}") from error
    try:
        for file in path.iterdir():
            if _LEFT.fullmatch(file.name):
                file.unlink()
        yield
    finally:
        _release(path / LOCK, descriptor)
        _remove_empty(made)


def _take(file: Path) -> int:
    """The descriptor that holds the lock.

    Raises:  ValueError: somebody else has it.
    """
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                found = _owner(descriptor)
                os.close(descriptor)
                raise ValueError(
                    f"{file.parent}: expected a folder that no other run writes to, found {found} at work in "
                    "it: wait until it has ended, or choose another folder"
                ) from None
            warnings.warn(
                f"{file.parent} is on a file system without locks: let no other run write to it", stacklevel=5
            )
        except BaseException:
            os.close(descriptor)
            raise
        if _is(file, descriptor):
            break
        os.close(descriptor)  # its owner removed it between our opening and our locking: it is nobody's
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
    return descriptor


def _is(file: Path, descriptor: int) -> bool:
    """Whether the name still leads to the open file."""
    with suppress(FileNotFoundError):
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    return False


def _owner(descriptor: int) -> str:
    """The process that wrote into a lock, and its machine if it is another one."""
    words: list[str] = []
    for _ in range(_READS):
        os.lseek(descriptor, 0, os.SEEK_SET)
        words = os.read(descriptor, _OWNER_LENGTH).decode(errors="replace").split()
        if words:
            break
        time.sleep(0.05)
    if not words:
        return "another process"
    host = "".join(words[1:2])
    return f"process {words[0]}" + (f" of {host}" if host not in ("", socket.gethostname()) else "")


def _release(file: Path, descriptor: int) -> None:
    if os.name == "nt":
        os.close(descriptor)  # an open file cannot be removed there
        with suppress(OSError):  # the next run has it open already
            file.unlink()
        return
    with suppress(OSError):  # somebody removed the folder; the lock goes with the descriptor
        file.unlink()
    os.close(descriptor)


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, the innermost first, as far as nothing is in them."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # not empty: something was written
            return
