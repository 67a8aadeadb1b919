# SPDX-License-Identifier: MIT
"""One writer in a folder, whatever command it is and however the last one ended."""

import builtins
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
from engine_helpers import CutTask, assert_same_run, run, tiny_data

from nasp_ext.engine import lock
from nasp_ext.engine.lock import LOCK, locked_folder

HOLD = (
    "import sys, time; from pathlib import Path; from nasp_ext.engine.lock import locked_folder\n"
    "with locked_folder(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that has the lock of ``tmp_path / "run"``."""
    env = {**os.environ, "PYTHONPATH": str(Path(lock.__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True, env=env
    ) as child:
        assert child.stdout.readline() == "held\n"
        yield child
        child.kill()


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_a_second_run_is_refused_with_the_process_id_and_changes_nothing(tmp_path, holder, option):
    (tmp_path / "run" / "history.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=rf"no other run writes to, found process {holder.pid} at work"):
        run(out=tmp_path / "run", **{option: True})
    assert (tmp_path / "run" / "history.jsonl").read_text() == "{}\n"
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [LOCK, "history.jsonl"]


def test_a_killed_process_leaves_no_lock_behind(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / LOCK).exists()
    with locked_folder(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).read_text().split()[0] == str(os.getpid())


def test_a_second_run_of_the_same_process_is_refused(tmp_path):
    with locked_folder(tmp_path), pytest.raises(ValueError, match=f"found process {os.getpid()} at work"):
        run(out=tmp_path)
    run(out=tmp_path)
    assert not (tmp_path / LOCK).exists()


def test_half_files_of_killed_runs_are_removed_and_others_kept(tmp_path, whole_run):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(task=CutTask(tiny_data(), 23, interrupt), out=tmp_path)
    left = [".checkpoint.pt.123.part", ".history.jsonl.9.part", ".cell_normal.svg.77.part"]
    kept = [".notes.123.part", "checkpoint.pt.123.part", ".checkpoint.pt.part"]
    for name in left + kept:
        (tmp_path / name).write_text("half")
    assert_same_run(tmp_path, whole_run, run(out=tmp_path, resume=True))
    assert not [name for name in left if (tmp_path / name).exists()]
    assert all((tmp_path / name).exists() for name in kept)


def test_a_folder_that_was_made_and_not_written_to_is_gone(tmp_path):
    with pytest.raises(RuntimeError, match="refused"), locked_folder(tmp_path / "new" / "run"):
        raise RuntimeError("refused")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def without(descriptor):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock, "_lock", without)
    with pytest.warns(UserWarning, match="on a file system without locks"), locked_folder(tmp_path):
        assert (tmp_path / LOCK).exists()


def test_a_folder_is_locked_where_there_is_no_fcntl(tmp_path, monkeypatch):
    class Msvcrt:
        LK_NBLCK = 2
        held: ClassVar = []

        @classmethod
        def locking(cls, descriptor, mode, count):
            cls.held.append((os.lseek(descriptor, 0, os.SEEK_CUR), mode, count))

    real = builtins.__import__

    def windows(name, *args, **kwargs):
        if name == "fcntl":
            raise ImportError(name)
        return Msvcrt if name == "msvcrt" else real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", windows)
    with lock.locked_folder(tmp_path):
        assert (tmp_path / LOCK).read_text().split()[0] == str(os.getpid())
    assert Msvcrt.held == [(1 << 30, 2, 1)]  # a byte that nobody reads
