# SPDX-License-Identifier: MIT
"""The layers of csrc/: which folder may include which, and where the operators stand."""

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"

# Folder -> the folders whose headers it may include: core -> program -> the operators -> cell -> isa.
ALLOWED = {
    "core": set(),
    "program": {"core"},
    "norm": {"core", "program"},  # what the operators share of a BN
    "prox": {"core"},
    "select_active": {"core", "prox"},
    "nasp_step": {"core", "select_active"},
    "branch_dots": {"core"},
    "mixed_sum": {"core", "branch_dots"},
    "block": {"core", "program", "norm"},
    "pool": {"core", "program", "norm"},
    "node": {"core", "norm"},
    "update_statistics": {"core", "norm"},
    "source_dots": {"core", "program", "norm", "block", "pool"},
    "cell": {"core", "program", "norm", "block", "pool", "node", "update_statistics", "source_dots"},
    "recurrent": {"core"},
    "isa": {"block", "pool", "node", "source_dots", "recurrent"},
    # Beside the layers: the device of the tests, the host module, and module.cpp and ops.cpp ("").
    "emulator": set(),
    "host": set(),
    "": {"core", "nasp_step", "host"},
}
# A .cu file that no nvcc compiles runs on the emulator: one header chooses.
EMULATED = Path("core/nasp_cuda.cuh"), "emulator"
# Operators that do not stand in the folder of their name, for they have none of their own.
ELSEWHERE = {"empty_images": "core", "release_memory": "core", "instruction_set": "isa"}

SOURCES = sorted(p for p in CSRC.rglob("*") if p.suffix in {".h", ".cpp", ".cu", ".cuh"})
LAYERED = [p for p in SOURCES if p.parent.name != "tests"]


def folder_of(path: Path, root: Path) -> str:
    return path.parent.relative_to(root).as_posix().removeprefix(".")


def included_folders(path: Path, root: Path) -> set[str]:
    """The folders of csrc/ whose files a file includes, relative to itself or to csrc/."""
    found = set()
    for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.MULTILINE):
        target = next((t for t in (path.parent / name, root / name) if t.exists()), None)
        assert target is not None, f"{path} includes {name}, which is not there"
        found.add(folder_of(target.resolve(), root.resolve()))
    return found - {folder_of(path, root)}


def order_of(allowed: dict[str, set[str]]) -> list[str]:
    """The folders so that each stands behind all that it may include; fails if there is a ring."""
    order: list[str] = []
    while rest := allowed.keys() - set(order):
        free = sorted(f for f in rest if allowed[f] <= set(order))
        assert free, f"expected no ring, found one among {sorted(rest)}"
        order += free
    return order


@pytest.mark.parametrize("path", LAYERED, ids=lambda p: str(p.relative_to(CSRC)))
def test_a_folder_includes_only_the_folders_below_it(path: Path) -> None:
    folder = folder_of(path, CSRC)
    assert folder in ALLOWED, f"give the folder {folder!r} a line in ALLOWED"
    found = included_folders(path, CSRC)
    if path.relative_to(CSRC) == EMULATED[0]:
        found.discard(EMULATED[1])
    assert found <= ALLOWED[folder], f"csrc/{folder} may not include {sorted(found - ALLOWED[folder])}"


def test_the_table_has_no_ring() -> None:
    assert set(order_of(ALLOWED)) == set(ALLOWED)
    with pytest.raises(AssertionError, match=r"ring.*block.*isa"):
        order_of({**ALLOWED, "block": {"isa"}})


def test_every_operator_stands_in_the_folder_of_its_name() -> None:
    schemas = re.findall(r'm\.def\(\s*"(\w+)\(', (CSRC / "ops.cpp").read_text())
    assert len(schemas) > 20
    for operator in schemas:
        paths = [p for p in LAYERED if f'm.impl("{operator}",' in p.read_text() and p.name != "ops.cpp"]
        folders = {folder_of(p, CSRC) for p in paths}
        assert len(folders) == 1, f"{operator} is implemented in {sorted(folders)}"
        (folder,) = folders
        assert ELSEWHERE.get(operator, folder) == folder
        assert operator in ELSEWHERE or f"{operator}_".startswith(f"{folder}_"), f"{operator} is in {folder}"


def test_an_operator_of_many_arguments_is_boxed_from_a_struct() -> None:
    schemas = re.findall(r"m\.def\((?:\s*\"[^\"]*\")+\)", (CSRC / "ops.cpp").read_text())
    texts = "".join(p.read_text() for p in LAYERED)
    many = 0
    for schema in schemas:
        text = "".join(re.findall(r'"([^"]*)"', schema))
        name, arguments = re.match(r"(\w+)\((.*)\) ->", text).groups()  # type: ignore[union-attr]
        if len(re.findall(r"\w(?=,|$)", re.sub(r"\(\w!\)", "", arguments))) <= 6:
            continue
        many += 1
        boxes = re.findall(rf'm\.impl\("{name}", (\w+)\(', texts.replace("\n         ", " "))
        assert set(boxes) == {"NASP_BOX"}, f"expected {name} boxed by NASP_BOX, found {boxes}"
    assert many == 9  # block, pool, cell and recurrent, forward and backward, and nasp_step_


def test_the_include_rule_sees_both_ways_to_name_a_file(tmp_path: Path) -> None:
    for folder in ("core", "block", "isa"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.h").write_text("")
    file = tmp_path / "block" / "block_cpu.cpp"
    file.write_text(
        '#include "block.h"\n#include "../core/core.h"\n  # include "isa/isa.h"\n#include <isa>\n'
    )
    assert included_folders(file, tmp_path) == {"core", "isa"}


def test_every_file_of_csrc_that_a_text_names_is_there() -> None:
    root = CSRC.parent
    folders = [
        p
        for f in ("csrc", "docs", "nasp_ext", "python_tests")
        for p in (root / f).rglob("*.*")
        if p.is_file()
    ]
    texts = [p for p in folders if p.suffix in {".h", ".cpp", ".cu", ".cuh", ".md", ".py"}]
    named = {
        (name, path.name)
        for path in (*texts, root / "README.md", root / "Makefile", root / "CMakeLists.txt")
        for name in re.findall(r"(?<![/\w])csrc/[\w/]+\.(?:h|cpp|cuh?)\b", path.read_text())
    }
    assert len(named) > 10
    assert not [pair for pair in sorted(named) if not (root / pair[0]).exists()]
