# SPDX-License-Identifier: MIT
"""What a new task touches: a folder below tasks/, and its test. Nothing else knows a task by name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import nasp_ext

PACKAGE = Path(nasp_ext.__file__).parents[0]
NAMES = {
    "images": ("ImageData", "ClassificationTask", "accuracy", "tasks.images", "SearchBatches"),
    "language": ("Corpus", "LanguageTask", "LanguageSettings", "perplexity", "tasks.language", "Segment"),
}
LOSS = "cross_entropy"  # of every task, and of nobody else
# Who is about images: the front door, results that older versions wrote, an experiment of a paper on images.
ABOUT_IMAGES = {"__init__.py", "commands/results.py", "reproduce/asm_stability.py"}


def names_in(source: str) -> Iterator[str]:
    """The names, attributes, imports and strings of a file, docstrings left out."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.alias):
            yield node.arg if isinstance(node, ast.arg) else node.name
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docs:
            yield node.value


def naming(task: str, folder: Path) -> set[str]:
    """The files outside the folder of a task that name what only it has, or that have a loss of a task."""
    found = set()
    for file in folder.rglob("*.py"):
        inside = file.relative_to(folder).as_posix()
        own = () if inside.startswith(f"tasks/{task}/") else NAMES[task]
        words = own if inside.startswith(tuple(f"tasks/{name}/" for name in NAMES)) else (*own, LOSS)
        if any(word in name for name in names_in(file.read_text()) for word in words):
            found.add(inside)
    return found


def test_images_are_named_in_their_folder_alone():
    assert naming("images", PACKAGE) == ABOUT_IMAGES


def test_texts_are_named_in_their_folder_alone():
    assert naming("language", PACKAGE) == set()


def test_the_search_for_names_finds_them_wherever_they_stand(tmp_path):
    lines = {
        "a.py": "from nasp_ext.tasks.images import load",
        "b.py": "def f(x: ImageData): pass",
        "c.py": "line = {'val_accuracy': 1}",
        "d.py": "result.test_accuracy",
        "e.py": "import nasp_ext.tasks.images.task",
        "f.py": '"""Of accuracy."""\ndef g():\n    """ImageData"""\n    return 1',
        "tasks/images/g.py": "accuracy = 1; cross_entropy = 2",
        "h.py": "functional.cross_entropy(x, y)",
        "tasks/language/i.py": "Metric('perplexity'), cross_entropy",
        "tasks/language/j.py": "accuracy = 1",
    }
    for name, line in lines.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(line)
    found = naming("images", tmp_path)
    assert found == {"a.py", "b.py", "c.py", "d.py", "e.py", "h.py", "tasks/language/j.py"}
    assert naming("language", tmp_path) == {"h.py"}
