# SPDX-License-Identifier: MIT
"""PEP 517 backend: setuptools, compiling against the PyTorch that the target environment already has.

pip builds in an isolated environment. Listing torch among the build requirements would download the newest
PyTorch into it (gigabytes) and compile against that one. pip runs this file with the interpreter of the
target environment, so ``sysconfig`` names the target's site-packages, and appending that folder to
``sys.path`` is all it takes. Front ends that make an environment of their own (``python -m build``, ``uv``)
need their no-isolation option.
"""

import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  the hooks that are not wrapped below

OLDEST_TORCH = (2, 11)
INSTALL_HELP = f"""
    pip install 'torch>={OLDEST_TORCH[0]}.{OLDEST_TORCH[1]}'
    pip install .

PyTorch is elsewhere (a parent environment, the user site, uv, python -m build)? Then build without isolation:

    pip install 'setuptools>=77' 'pybind11>=3' ninja
    pip install --no-build-isolation .
"""


def _candidate_sites() -> Iterator[Path]:
    """Folders that may hold the target environment's packages, the likeliest first."""
    yield from (Path(p or ".") for p in sys.path)
    yield from (Path(sysconfig.get_path(key)) for key in ("platlib", "purelib"))
    if environment := os.environ.get("VIRTUAL_ENV"):
        yield Path(environment, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")


def _use_installed_torch() -> None:
    """Make the target environment's PyTorch importable, or stop with the commands to type."""
    site = next((s for s in _candidate_sites() if (s / "torch" / "version.py").exists()), None)
    if site is None:
        raise SystemExit(
            f"\nnasp_ext compiles against PyTorch, and found none in {sys.prefix}. "
            f"Install it first:\n{INSTALL_HELP}"
        )
    found = re.search(r"__version__ = '(\d+)\.(\d+)", (site / "torch" / "version.py").read_text())
    if found and (int(found[1]), int(found[2])) < OLDEST_TORCH:
        raise SystemExit(
            f"\nnasp_ext needs PyTorch {OLDEST_TORCH[0]}.{OLDEST_TORCH[1]} or newer, and found "
            f"{found[1]}.{found[2]} in {site}. Update it first:\n{INSTALL_HELP}"
        )
    if str(site) not in sys.path:
        sys.path.append(str(site))  # last, so that the isolated environment's own packages win


def _after_finding_torch(name: str) -> Callable[..., Any]:
    def hook(*args: Any, **kwargs: Any) -> Any:
        _use_installed_torch()
        return getattr(build_meta, name)(*args, **kwargs)

    hook.__name__ = name
    return hook


for _name in (
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_wheel",
    "build_wheel",
    "get_requires_for_build_editable",
    "prepare_metadata_for_build_editable",
    "build_editable",
):
    globals()[_name] = _after_finding_torch(_name)
