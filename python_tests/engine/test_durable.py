# SPDX-License-Identifier: MIT
"""What is on the disk when a file is said to be written: it, its name, and each line of a history."""

import json
import os

import pytest

from nasp_ext.config import SearchConfig
from nasp_ext.engine.checkpoint import write_atomic
from nasp_ext.engine.folder import run_folder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows writes a rename through and opens no folder")


@pytest.fixture
def calls(monkeypatch):
    """The inode and size of everything that is synced, and (file, target) of what is renamed, in order."""
    seen, sync, replace = [], os.fsync, os.replace

    def synced(descriptor):
        status = os.fstat(descriptor)
        seen.append((status.st_ino, status.st_size))
        sync(descriptor)

    def renamed(source, target):
        seen.append((str(source), str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return seen


def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_after(tmp_path, calls):
    file = tmp_path / "checkpoint.pt"
    write_atomic(file, b"x" * 700)
    (content, size), (part, target), (folder, _) = calls
    assert (content, size) == (file.stat().st_ino, 700)  # all of it had left the buffer
    assert (part != target, target) == (True, str(file))
    assert folder == tmp_path.stat().st_ino


def test_a_line_of_the_history_is_on_the_disk_when_its_epoch_ends(tmp_path, calls):
    with run_folder(tmp_path / "run", "search", SearchConfig()) as folder:
        folder.begin([])
        for epoch in (1, 2):
            calls.clear()
            line = {"epoch": epoch, "loss": 0.5}
            folder.end_epoch({"epoch": epoch}, line)
            history = tmp_path / "run" / "history.jsonl"
            assert json.loads(history.read_text().splitlines()[-1]) == line
            # After the checkpoint, which holds the line too.
            assert calls[-1] == (history.stat().st_ino, epoch * (len(json.dumps(line)) + 1))
            assert calls[-3][1] == str(tmp_path / "run" / "checkpoint.pt")
