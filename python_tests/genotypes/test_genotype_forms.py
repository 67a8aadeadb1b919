# SPDX-License-Identifier: MIT
"""Genotypes built in Python: which lists, numbers and names are taken, and what is kept of them."""

from collections import namedtuple

import numpy as np
import pytest
import torch

from nasp_ext import GENOTYPES, Genotype, derived_network
from nasp_ext.families.cells.edges import primitive_name
from nasp_ext.families.cells.table import Table
from nasp_ext.families.genotypes import checked_genotype, write_drawings
from nasp_ext.families.layered.genotype import LayeredGenotype
from nasp_ext.nn import build_primitive, register_primitive

PAIRS = (("sep_conv_3x3", 1), ("skip_connect", 0))
BUILT = Genotype(PAIRS, (2,), PAIRS, (2,))


@pytest.mark.parametrize(
    "theirs, ours",
    [
        *((f"conv {k}x{k}", f"conv_{k}x{k}") for k in (1, 3)),
        *((f"sep_{k}x{k}", f"sep_conv_{k}x{k}") for k in (3, 5, 7)),
        *((f"dil_{k}x{k}", f"dil_conv_{k}x{k}") for k in (3, 5)),
        ("conv 3x1 1x3", "conv_3x1_1x3"),
    ],
)
def test_names_of_the_nasp_code_are_ours_afterwards(theirs, ours):
    assert primitive_name(theirs) == ours
    assert Genotype(((theirs, 0), ("none", 1)), (2,), ((theirs, 0), ("none", 1)), (2,)).normal[0] == (ours, 0)
    assert Genotype.from_arch(f"|{theirs}~0|").to_arch() == f"|{ours}~0|"
    assert LayeredGenotype((((theirs, 0),),), ((1,),), (2,)).layers == (((ours, 0),),)


def of_numpy(values):
    return [(np.str_(name), np.int32(source)) for name, source in values]


@pytest.mark.parametrize(
    "pairs, concat",
    [
        (PAIRS, range(2, 3)),
        (list(PAIRS), [2]),
        ([list(pair) for pair in PAIRS], np.array([2])),
        (of_numpy(PAIRS), np.arange(2, 3)),
        (of_numpy(PAIRS), (np.int64(2),)),
        ([("sep_conv_3x3", torch.tensor(1)), ("skip_connect", 0)], torch.tensor([2])),
        ([PAIRS], [2]),
        ([list(PAIRS)], (2,)),
        (np.array([np.array(PAIRS, dtype=object)], dtype=object), [2]),
    ],
)
def test_the_constructor_takes_every_kind_of_list_and_number(pairs, concat):
    built = Genotype(normal=pairs, normal_concat=concat, reduce=pairs, reduce_concat=concat)
    assert built == BUILT
    assert repr(built) == repr(BUILT)  # nothing of NumPy is left
    assert hash(built) == hash(BUILT)
    assert Genotype.from_json(built.to_json()) == BUILT


def test_lists_for_each_node_say_how_many_edges_enter_it():
    built = Genotype([[("none", 0)], [], list(PAIRS)], [2], [[]], [2], normal_nodes=np.array([1, 0, 2]))
    assert (built.nodes("normal"), built.nodes("reduce")) == ((1, 0, 2), (0,))
    assert Genotype([("none", 0)], [1], (), (), [np.int64(1)], inputs=np.int64(1)).cells == ("normal",)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"normal": "ab"}, "pairs"),
        ({"normal": ["a0", "b1"]}, "pairs .*got 'a0'"),
        ({"normal": None}, "pairs .*got None"),
        ({"normal": [("a", "0"), ("b", 1)]}, "pairs .*got .'a', '0'"),
        ({"normal": [("a", 0.0), ("b", 1)]}, "pairs"),
        ({"normal": [("a", np.bool_(True)), ("b", 1)]}, "pairs"),
        ({"normal": [("a", 0, "0.5"), ("b", 1)]}, "pairs"),
        ({"normal": [("a", 0, 0.5, 1), ("b", 1)]}, "pairs"),
        ({"normal": [[("a", 0)], ("b", 1)]}, "pairs"),
        ({"normal": np.array(PAIRS)}, "pairs"),
        ({"normal": [[("a", 0), ("b", 1)]], "normal_nodes": [1]}, r"normal_nodes to be \(2,\)"),
        ({"normal_concat": "2"}, "normal_concat to be a list"),
        ({"normal_concat": {2}}, "normal_concat to be a list"),
        ({"normal_concat": [2.0]}, "different nodes"),
        ({"normal_concat": np.array([[2]])}, "different nodes"),
        ({"normal_concat": range(10**30)}, "at most 10,000 entries"),
        ({"normal_concat": range(2, 10**9)}, "at most 10,000 entries"),
        ({"inputs": "2"}, "inputs='2'"),
    ],
)
def test_the_constructor_refuses_what_is_no_cell(change, message):
    fields = {"normal": PAIRS, "normal_concat": (2,), "reduce": PAIRS, "reduce_concat": (2,)}
    with pytest.raises(ValueError, match=message):
        Genotype(**fields | change)


@pytest.mark.parametrize("value", ["DARTS_V9", "Genotype(normal=[])", None, {}, 3, ("a", 0)])
def test_what_is_no_genotype_is_a_type_error_that_says_how_to_get_one(value, tmp_path):
    for call in (checked_genotype, derived_network, lambda genotype: write_drawings(genotype, tmp_path)):
        with pytest.raises(TypeError, match=r"expected a Genotype, got .*from_text reads text.*DARTS_V2"):
            call(value)
    assert not list(tmp_path.iterdir())
    assert checked_genotype(GENOTYPES["DARTS_V2"]) is GENOTYPES["DARTS_V2"]


def test_primitives_are_built_under_both_names():
    assert str(build_primitive("sep_3x3", 4, 1)) == str(build_primitive("sep_conv_3x3", 4, 1))
    with pytest.raises(ValueError, match="'conv 3x3', which is taken"):
        register_primitive("conv 3x3", lambda channels, stride, affine: torch.nn.Identity())


def test_a_table_finds_cells_under_both_names():
    table = Table(["|none~0|", "|conv 1x1~0|"], {"accuracy": [1.0, 2.0]}, ["none", "conv 1x1"])
    assert [table.value("accuracy", f"|{name}~0|") for name in ("none", "conv 1x1", "conv_1x1")] == [1, 2, 2]
    assert table.operations == ("none", "conv_1x1")


def test_pairs_without_an_order_are_refused():
    pairs = {("sep_conv_3x3", 0), ("skip_connect", 1)}
    for unordered in (pairs, frozenset(pairs), dict(pairs)):
        with pytest.raises(ValueError, match="normal to be pairs in the order of the nodes"):
            Genotype(normal=unordered, normal_concat=[2], reduce=list(pairs), reduce_concat=[2])


def test_named_tuple_of_the_authors_code_is_refused_with_what_reads_it():
    theirs = namedtuple("Genotype", "normal normal_concat reduce reduce_concat")
    pairs = [("sep_conv_3x3", 0), ("skip_connect", 1)]
    value = theirs(pairs, range(2, 3), pairs, range(2, 3))
    with pytest.raises(TypeError, match=r"a named tuple Genotype: Genotype\(\*\*value\._asdict\(\)\)"):
        checked_genotype(value)
    assert checked_genotype(Genotype(**value._asdict())).normal == tuple(pairs)
