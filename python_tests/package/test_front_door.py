# SPDX-License-Identifier: MIT
"""What a user calls first answers values of other types with a sentence, not with its internals."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

import nasp_ext
from nasp_ext import CellSpace, Gates, RetrainConfig, SearchConfig
from nasp_ext.arch import MIXED

DARTS = nasp_ext.space("darts")
TASK = nasp_ext.ClassificationTask(nasp_ext.load_data("digits", limit=40))
OTHERS = (None, "x", 1.5, 3, True, [1], {"a": 1}, object(), torch.zeros(2), int)
WEIGHT = torch.eye(28, 8)
SMALL = SearchConfig(cells=3, channels=2, epochs=1, batch=8, threads=1)
# An internal error speaks of these; a sentence of ours of what was expected.
INTERNAL = re.compile(
    r"object has no attribute|not subscriptable|not iterable|unhashable|NoneType' object|'[<>=]+'"
)


def small_supernet():
    return nasp_ext.supernet(DARTS, channels=2, cells=3)


CALLS = {
    "supernet, space": (lambda value: nasp_ext.supernet(value), ()),
    "supernet, channels": (lambda value: nasp_ext.supernet(DARTS, value, 3), (3, None)),
    "supernet, cells": (lambda value: nasp_ext.supernet(DARTS, 2, value), (3, None)),
    "supernet, classes": (lambda value: nasp_ext.supernet(DARTS, 2, 3, value), (3, None)),
    "derived_network, genotype": (lambda value: nasp_ext.derived_network(value), ()),
    "derived_network, cells": (
        lambda value: nasp_ext.derived_network(nasp_ext.GENOTYPES["DARTS_V2"], 2, value),
        (3,),
    ),
    "derive, supernet": (lambda value: nasp_ext.derive(value, Gates(WEIGHT)), ()),
    "derive, gates": (lambda value: nasp_ext.derive(small_supernet(), value), ()),
    "Gates, weight": (lambda value: Gates(value), ()),
    "Gates, active": (lambda value: Gates(WEIGHT, value), (None,)),
    "Gates, unit": (lambda value: Gates(WEIGHT, (0,) * 28, unit=value), (True,)),
    "register_space": (lambda value: nasp_ext.register_space(value), ()),
    "space": (lambda value: nasp_ext.space(value), ()),
    "strategy, name": (lambda value: nasp_ext.strategy(value, DARTS), ()),
    "strategy, space": (lambda value: nasp_ext.strategy("nasp", value), ()),
    "load_data": (lambda value: nasp_ext.load_data(value), ()),
    "load_data, data_dir": (lambda value: nasp_ext.load_data("digits", value), (None,)),
    "load_data, limit": (lambda value: nasp_ext.load_data("digits", limit=value), (None, 3)),
    "search, space": (lambda value: nasp_ext.search(value, search(), TASK, SMALL), ()),
    "search, strategy": (lambda value: nasp_ext.search(DARTS, value, TASK, SMALL), ()),
    "search, task": (lambda value: nasp_ext.search(DARTS, search(), value, SMALL), ()),
    "search, config": (lambda value: nasp_ext.search(DARTS, search(), TASK, value), ()),
    "retrain, genotype": (lambda value: nasp_ext.retrain(value, TASK, RetrainConfig()), ()),
    "retrain, config": (
        lambda value: nasp_ext.retrain(nasp_ext.GENOTYPES["DARTS_V2"], TASK, value),
        (),
    ),
    "SearchConfig, cells": (lambda value: SearchConfig(cells=value), (3,)),
    "SearchConfig, lr": (lambda value: SearchConfig(lr=value), (1.5, 3)),
    "SearchConfig, device": (lambda value: SearchConfig(device=value), ()),
    "SearchConfig, fused": (lambda value: SearchConfig(fused=value), (True,)),
    "RetrainConfig, threads": (lambda value: RetrainConfig(threads=value), (None, 3)),
}


def search():
    return nasp_ext.strategy("random", DARTS)


@pytest.mark.parametrize("name", CALLS)
def test_a_value_of_another_type_is_answered_by_a_sentence(name):
    call, fitting = CALLS[name]
    refused = 0
    for value in OTHERS:
        if any(value is one or (type(value) is type(one) and value == one) for one in fitting):
            continue
        with pytest.raises((TypeError, ValueError, FileNotFoundError), match="expected") as error:
            call(value)
        assert not INTERNAL.search(str(error.value)), (value, str(error.value))
        refused += 1
    assert refused >= len(OTHERS) - 2


@pytest.mark.parametrize("active", [(0.0,) * 28, ("0",) * 28, "0" * 28, 28, (None,) * 28])
def test_options_that_are_no_whole_numbers_are_refused(active):
    with pytest.raises(TypeError, match=r"expected Gates\.active to be whole numbers or None"):
        Gates(WEIGHT, active)


@pytest.mark.parametrize("size", ["channels", "cells", "classes", "in_channels"])
def test_a_network_that_would_never_be_built_is_refused(size):
    with pytest.raises(ValueError, match=f"expected {size} <= [0-9,]+, got {10**30}"):
        nasp_ext.supernet(DARTS, **{size: 10**30})


def test_whole_numbers_of_numpy_are_numbers():
    np = pytest.importorskip("numpy")
    assert SearchConfig(cells=np.int64(3), lr=np.float32(0.5)) == SearchConfig(cells=3, lr=0.5)


OTHER = CellSpace("other-order", tuple(reversed(DARTS.normal)), DARTS.reduce)


def test_a_strategy_of_another_space_of_the_same_shape_is_refused(tmp_path):
    for name in ("nasp", "darts", "random", "asng", "gdas", "pa", "pc-darts"):
        foreign = nasp_ext.strategy(name, OTHER)
        with pytest.raises(ValueError, match="made for space 'darts', got one made for 'other-order'"):
            nasp_ext.search(DARTS, foreign, TASK, SMALL, out=tmp_path / "run")
        with pytest.raises(ValueError, match="made for space 'darts', got one made for 'other-order'"):
            nasp_ext.derive(small_supernet(), foreign)
    assert list(tmp_path.iterdir()) == []


def test_a_strategy_fits_the_same_choices_under_another_name_and_with_partial_channels():
    found = nasp_ext.strategy("nasp", DARTS)
    partial = nasp_ext.supernet(DARTS.with_partial_channels(2), channels=2, cells=3)
    assert nasp_ext.derive(partial, found).genotype == nasp_ext.derive(small_supernet(), found).genotype


def test_spaces_and_published_genotypes_are_given_by_name():
    assert nasp_ext.supernet("darts", 2, 3).space is DARTS
    assert nasp_ext.strategy("nasp", "darts").space is DARTS
    assert nasp_ext.derived_network("DARTS_V2", 2, 3).genotype == nasp_ext.GENOTYPES["DARTS_V2"]
    for call in (nasp_ext.supernet, lambda name: nasp_ext.strategy("nasp", name)):
        with pytest.raises(
            ValueError, match=r"name of a search space, one of \['asng-cnn', 'darts'.*got 'DARTS'"
        ):
            call("DARTS")


def test_the_base_of_the_spaces_says_what_to_call_instead():
    with pytest.raises(TypeError, match=r"expected a space of a family, such as CellSpace\(name, normal"):
        nasp_ext.SearchSpace("own", DARTS.normal, DARTS.reduce, nodes=2)


def test_marks_of_rows_differ_and_gates_refuse_that_of_nan():
    assert len({nasp_ext.PRUNED, MIXED, nasp_ext.ops.NAN_ROW}) == 3
    assert nasp_ext.PRUNED == nasp_ext.ops._native.PRUNED
    with pytest.raises(ValueError, match=r"in 0\.\.7, -1 for none or -3 for all, got -2"):
        Gates(WEIGHT, (nasp_ext.ops.NAN_ROW,) + (0,) * 27)


def hidden_modules(root: Path, name: str) -> list[str]:
    """The modules of a package that are not what its attribute of their name is."""
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = (name, *path.relative_to(root).with_suffix("").parts)
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if len(parts) > 1 and parts[-1] != "__main__":
            importlib.import_module(".".join(parts))
            package, module = sys.modules[".".join(parts[:-1])], sys.modules[".".join(parts)]
            found += [".".join(parts)] if getattr(package, parts[-1]) is not module else []
    return found


def test_no_attribute_of_a_package_hides_one_of_its_modules():
    assert hidden_modules(Path(nasp_ext.__file__).parent, "nasp_ext") == []


def test_the_rule_on_hidden_modules_sees_one(tmp_path, monkeypatch):
    folder = tmp_path / "hides"
    folder.mkdir()
    (folder / "area.py").write_text("def area():\n    pass\n")
    (folder / "seen.py").write_text("")
    (folder / "__init__.py").write_text("from hides.area import area\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert hidden_modules(folder, "hides") == ["hides.area"]
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "hides"]:
            del sys.modules[name]


def test_a_strategy_of_ones_own_is_told_its_space():
    class Own(nasp_ext.strategies.RandomStrategy):
        def __init__(self, space):
            super().__init__(space)
            self.space = None  # as one that was written before there was such an attribute

    table = nasp_ext.strategies.base._FACTORIES
    table["own"] = Own
    try:
        assert nasp_ext.strategy("own", OTHER).space is OTHER
    finally:
        del table["own"]
