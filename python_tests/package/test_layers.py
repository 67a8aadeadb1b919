# SPDX-License-Identifier: MIT
"""The layers of the package: who may import whom, and what every file must carry."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "nasp_ext"

# Layer -> the layers it may import. A layer is a module or folder directly below nasp_ext.
ALLOWED = {
    "_command": set(),
    "_info": {"_host", "_C"},
    "checks": set(),
    "states": set(),
    "plots": set(),
    "ops": {"_C", "_info"},
    "arch": {"checks"},
    "nn": {"ops", "arch", "checks"},
    "optim": {"ops", "arch", "states"},
    "strategies": {"ops", "optim", "arch", "states", "checks"},
    "families": {"ops", "nn", "arch", "plots", "checks"},
    "config": {"checks"},
    "tasks": {"arch", "families", "nn", "checks", "config"},
    "engine": {
        *("ops", "arch", "families", "nn", "optim", "strategies", "tasks", "plots", "config"),
        *("states", "checks"),
    },
    "reproduce": {
        *("arch", "families", "nn", "optim", "strategies", "engine", "tasks", "plots", "config", "checks"),
    },
    "commands": {
        *("_info", "arch", "families", "nn", "strategies", "engine", "tasks", "plots", "config"),
        *("reproduce", "checks"),
    },
    "__main__": {"cli"},
    "cli": {
        *("_command", "_info", "arch", "families", "nn", "strategies", "engine", "tasks", "plots"),
        *("config", "reproduce", "commands", "checks"),
    },
}


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_layers(path: Path) -> set[str]:
    """The layers that a file imports, also inside functions."""
    return {name.split(".")[1] for name in imported_names(path)}


def imported_names(path: Path) -> set[str]:
    """What of the package a file imports."""
    package = ("nasp_ext", *path.relative_to(PACKAGE).parts[:-1])
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {n for n in names if n.startswith("nasp_ext.")}
    return found


LAYERED = [p for p in sorted(PACKAGE.rglob("*.py")) if layer_of(p) != "__init__"]


@pytest.mark.parametrize("path", LAYERED, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_layer_imports_only_the_layers_below_it(path: Path) -> None:
    layer = layer_of(path)
    assert layer in ALLOWED, f"give the layer {layer!r} a line in ALLOWED"
    found = imported_layers(path) - {layer, "__version__"}
    assert found <= ALLOWED[layer], f"{layer} may not import {sorted(found - ALLOWED[layer])}"


FAMILIES = PACKAGE / "families"
SHARED_FAMILY = "cells"  # what others are made of, and what has no need of them


@pytest.mark.parametrize("path", sorted(FAMILIES.rglob("*.py")), ids=lambda p: str(p.relative_to(FAMILIES)))
def test_a_family_imports_no_other_than_the_shared_one(path: Path) -> None:
    folders = {p.name for p in FAMILIES.iterdir() if p.is_dir()}
    own = path.relative_to(FAMILIES).parts[0]
    others = {name.split(".")[2] for name in imported_names(path) if name.startswith("nasp_ext.families.")}
    found = others & folders - {own, *({SHARED_FAMILY} if own != SHARED_FAMILY else ())}
    assert not found, f"{own} may not import {sorted(found)}"


def family_classes() -> set[str]:
    """The names of all classes that are defined in a family."""
    trees = [ast.parse(p.read_text()) for p in sorted(FAMILIES.rglob("*.py"))]
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def names_in(node: ast.AST) -> set[str]:
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return names | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


def type_tests(source: str) -> set[str]:
    """What a source asks the type of a value for: isinstance, issubclass, type(x) is …, case Class()."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and names_in(node.func) & {"isinstance", "issubclass"}:
            found |= set().union(*map(names_in, node.args[1:]))
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(isinstance(s, ast.Call) and names_in(s.func) == {"type"} for s in sides):
                found |= names_in(node)
        elif isinstance(node, ast.MatchClass):
            found |= names_in(node.cls)
    return found


@pytest.mark.parametrize(
    "path", [p for p in LAYERED if FAMILIES not in p.parents], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_nobody_outside_asks_which_family_a_value_is_of(path: Path) -> None:
    found = type_tests(path.read_text()) & family_classes()
    assert not found, f"let the space, the genotype or its Family answer in place of a test for {found}"


def test_the_rule_on_families_sees_every_kind_of_type_test() -> None:
    assert {"CellSpace", "LayeredGenotype", "WiredSpace", "Network"} <= family_classes()
    for line in (
        "isinstance(x, CellSpace)",
        "isinstance(x, int | space.CellSpace)",
        "issubclass(x, (int, CellSpace))",
        "type(x) is CellSpace",
        "type(x) in (CellSpace, int)",
        "builtins.isinstance(x, CellSpace)",
    ):
        assert "CellSpace" in type_tests(line)
    assert "CellSpace" in type_tests("match x:\n    case CellSpace(name=n):\n        pass\n")
    assert "CellSpace" not in type_tests("CellSpace.of(x)\nisinstance(CellSpace, int)\nx == CellSpace()")


def source_files() -> list[Path]:
    patterns = ("*.py", "*.pyi", "*.cpp", "*.h", "*.cu", "*.cuh")
    folders = ("nasp_ext", "csrc", "python_tests", "benchmarks", "build_backend", "examples", "tools")
    return [p for f in folders for pattern in patterns for p in sorted((ROOT / f).rglob(pattern))]


def test_every_source_file_names_its_licence() -> None:
    without = [str(p) for p in source_files() if "SPDX-License-Identifier: MIT" not in p.read_text()[:80]]
    assert not without


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    assert not [str(p) for p in source_files() if len(p.read_text().splitlines()) > 300]


def test_the_import_rule_sees_relative_and_nested_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "strategies" / "nasp.py"
    file.parent.mkdir()
    file.write_text(
        "def f():\n    from ..nn import MixedOp\n    from . import base\n    import nasp_ext.engine.lock\n"
    )
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    assert imported_layers(file) == {"nn", "strategies", "engine"}
