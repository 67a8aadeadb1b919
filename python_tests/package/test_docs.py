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


def python_blocks(page: Path) -> str:
    """The Python blocks of a page, one after the other, at the lines where they stand in it."""
    text = page.read_text()
    blocks = [(m.start(1), m[1]) for m in re.finditer(r"```python\n(.*?)```", text, re.S)]
    lines: list[str] = []
    for start, code in blocks:
        lines += [""] * (text.count("\n", 0, start) - len(lines))
        lines += code.splitlines()
    return "\n".join(lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_python_examples_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "_FACTORIES", dict(strategies._FACTORIES))  # what a page registers goes
    exec(compile(python_blocks(page), str(page), "exec"), {})


def test_the_readme_has_examples() -> None:
    assert "nasp_ext.MixedOp" in python_blocks(ROOT / "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert not [t for t in links if "://" not in t and not (page.parent / t).exists()]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_docstrings_run(name: str) -> None:
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(importlib.import_module(name), optionflags=options).failed == 0
