# SPDX-License-Identifier: MIT
"""Every example of the documentation runs: Python blocks of the Markdown files, and the docstrings."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

from nasp_ext.strategies import base as strategies

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for p in sorted((ROOT / "nasp_ext").rglob("*.py"))
    if p.name != "__main__.py"
]


def python_blocks(page: Path) -> list[tuple[int, str]]:
    """(line, code) of every Python block of a page."""
    text = page.read_text()
    return [
        (text.count("\n", 0, m.start(1)) + 1, m[1]) for m in re.finditer(r"```python\n(.*?)```", text, re.S)
    ]


BLOCKS = [(page, line, code) for page in PAGES for line, code in python_blocks(page)]


@pytest.mark.parametrize("page, line, code", BLOCKS, ids=[f"{page.name}:{line}" for page, line, _ in BLOCKS])
def test_every_python_example_of_a_page_runs_when_copied_alone(
    page: Path, line: int, code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(strategies, "_FACTORIES", dict(strategies._FACTORIES))  # what a page registers goes
    monkeypatch.chdir(tmp_path)
    exec(compile("\n" * (line - 1) + code, str(page), "exec"), {"__name__": "__main__"})


def test_the_readme_has_examples() -> None:
    assert any("nasp_ext.MixedOp" in code for _, code in python_blocks(ROOT / "README.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert not [t for t in links if "://" not in t and not (page.parent / t).exists()]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_docstrings_run(name: str) -> None:
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(importlib.import_module(name), optionflags=options).failed == 0
