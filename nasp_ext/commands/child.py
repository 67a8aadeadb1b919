# SPDX-License-Identifier: MIT
"""A search as a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nasp_ext
from nasp_ext.engine.checkpoint import write_atomic
from nasp_ext.engine.settings import SearchRun


def search_in_a_process_of_its_own(run: SearchRun, folder: Path) -> Iterator[str]:
    """Run ``nasp-ext search`` as a child, so that its peak memory is its own; yields the lines of its epochs.

    Raises:  ValueError: the child ended with an error, which is repeated.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "search.json"
    write_atomic(config, run.to_json().encode())
    command = [sys.executable, "-m", "nasp_ext", "search", "--config-file", str(config), "--resume"]
    source = str(Path(nasp_ext.__file__).parents[1])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        [*command, "--out", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as child:
        assert child.stdout is not None
        last = ""
        for line in child.stdout:
            last = line.strip() or last
            if last.startswith("epoch "):
                yield last
    if child.returncode:
        reason = last.removeprefix("nasp-ext: error: ") if child.returncode > 0 else "ended by a signal"
        raise ValueError(
            f"the search of {run.strategy.name!r} failed with status {child.returncode}: {reason}"
        )
