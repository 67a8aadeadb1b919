# SPDX-License-Identifier: MIT
"""What setup.py builds: one binary for every Python as a release, and the host module from source."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def asked_to_build(monkeypatch: pytest.MonkeyPatch, release: str | None) -> dict[str, Any]:
    """What setup.py gives to setuptools."""
    setuptools = pytest.importorskip("setuptools", reason="setup.py needs setuptools")
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    monkeypatch.setattr(sys, "argv", ["setup.py", "bdist_wheel"])
    monkeypatch.setenv("NASP_CUDA", "0")
    monkeypatch.delenv("NASP_RELEASE", raising=False)
    if release is not None:
        monkeypatch.setenv("NASP_RELEASE", release)
    runpy.run_path(str(ROOT / "setup.py"))
    return given


@pytest.mark.filterwarnings("ignore")  # of setuptools and torch.utils.cpp_extension
def test_a_release_has_one_binary_for_every_python(monkeypatch: pytest.MonkeyPatch) -> None:
    given = asked_to_build(monkeypatch, "1")
    (extension,) = given["ext_modules"]
    assert (extension.name, extension.py_limited_api) == ("nasp_ext._C", True)
    assert given["options"]["bdist_wheel"] == {"py_limited_api": "cp310"}


@pytest.mark.filterwarnings("ignore")
def test_a_build_from_source_has_the_host_module(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pybind11", reason="the host module needs pybind11")
    given = asked_to_build(monkeypatch, None)
    assert [e.name for e in given["ext_modules"]] == ["nasp_ext._C", "nasp_ext._host"]
    assert "options" not in given


@pytest.mark.filterwarnings("ignore")
def test_another_word_for_a_release_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="expected NASP_RELEASE to be 0 or 1, found 'yes'"):
        asked_to_build(monkeypatch, "yes")
