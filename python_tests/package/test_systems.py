# SPDX-License-Identifier: MIT
"""What other systems than Linux lack must not be needed to import the package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "nasp_ext"
POSIX_ONLY = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")


def imported_at_once(path: Path) -> set[str]:
    """The modules that a file imports when it is imported itself, and not inside a function or a try."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).split(".")[0])
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_needs_a_module_of_posix_systems(path: Path) -> None:
    assert not imported_at_once(path) & set(POSIX_ONLY)


def test_the_package_and_its_commands_are_imported_without_them() -> None:
    program = (
        "import sys, torch, torch.utils.data\n"  # what others need of them is theirs
        f"for name in {POSIX_ONLY}: sys.modules[name] = None\n"
        "import nasp_ext, nasp_ext.cli\n"
        "assert nasp_ext.cli.main(['info']) == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_build_on_windows_says_what_is_missing_before_it_compiles() -> None:
    program = (
        "import runpy, setuptools, sys\n"
        "sys.platform, sys.argv = 'win32', ['setup.py', 'build_ext']\n"
        "runpy.run_path('setup.py')\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PACKAGE.parent)
    assert done.returncode == 1
    assert done.stderr.startswith("nasp_ext: expected Linux or macOS")
    assert "WSL 2" in done.stderr
