# SPDX-License-Identifier: MIT
"""Search spaces, gates and genotypes: the values that cross between strategies and networks."""

import json
from itertools import pairwise, product

import pytest
import torch

from nasp_ext.arch.gates import MIXED, PRUNED, Gates
from nasp_ext.arch.registry import names, register_space, space
from nasp_ext.families.cells.genotype import Genotype
from nasp_ext.families.cells.published import GENOTYPES
from nasp_ext.families.cells.space import CellSpace


def test_darts_space_has_28_rows_of_8_options():
    darts = space("darts")
    assert (darts.edges, darts.rows, darts.options) == (14, 28, 8)
    assert darts.node_offsets == (0, 2, 5, 9, 14, 16, 19, 23, 28)
    assert darts.concat == (2, 3, 4, 5)
    assert darts.mask().all()


def test_edges_are_numbered_node_by_node_with_ascending_sources():
    darts = space("darts")
    assert [darts.edge(row) for row in (0, 1, 2, 4, 13, 14, 27)] == [
        *((0, 0), (0, 1), (1, 0), (1, 2), (3, 4)),
        *((0, 0), (3, 4)),
    ]
    assert not darts.is_reduction(13)
    assert darts.is_reduction(14)


def test_short_rows_of_the_nasp_space_are_masked():
    mask = space("nasp").mask()
    assert mask[:14].all()
    assert mask[14:].tolist() == 14 * [[True] * 5 + [False] * 3]


def test_none_is_not_selectable():
    assert space("darts").selectable().tolist() == 28 * [[False] + [True] * 7]
    assert space("nasp").selectable().equal(space("nasp").mask())


def test_nas_bench_201_has_6_rows_of_5_options_and_one_kind_of_cell():
    bench = space("nas-bench-201")
    assert (bench.edges, bench.rows, bench.options, bench.kinds) == (6, 6, 5, 1)
    assert bench.node_offsets == (0, 1, 3, 6)
    assert [bench.edge(row) for row in range(6)] == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert bench.concat == (3,)
    assert bench.edges_per_node is None
    assert not bench.is_reduction(5)


def test_none_may_be_chosen_where_the_space_allows_it():
    assert space("nas-bench-201").selectable().all()


@pytest.mark.parametrize(("inputs", "kept"), [(2, 1), (2, 2), (2, None), (1, 1), (1, None)])
def test_architectures_are_counted_as_if_one_by_one(inputs, kept):
    reduce = () if inputs == 1 else ("none", "skip_connect")
    found = CellSpace("counted", ("none", "skip_connect", "conv_1x1"), reduce, 2, inputs, edges_per_node=kept)
    options = [
        [PRUNED, *(k for k, selectable in enumerate(row) if selectable)]
        for row in found.selectable().tolist()
    ]
    nodes = list(pairwise(found.node_offsets))
    wanted = [high - low if kept is None else kept for low, high in nodes]
    counted = sum(
        all(
            sum(option != PRUNED for option in active[low:high]) == count
            for (low, high), count in zip(nodes, wanted, strict=True)
        )
        for active in product(*options)
    )
    assert found.architectures == counted > 1


def test_the_spaces_have_the_sizes_that_their_papers_give():
    assert space("nas-bench-201").architectures == 15_625  # Dong & Yang 2020, sec. 2.1
    assert space("darts").architectures == ((1 * 3 * 6 * 10) * 7**8) ** 2  # two of 2, 3, 4 and 5 edges
    assert space("asng-cnn").architectures == ((2 * 3 * 4 * 5 * 6) ** 2 * 5**10) ** 2
    assert names()[:2] == ("darts", "nasp")


def test_unknown_space_lists_the_known_names():
    with pytest.raises(ValueError, match=r"'darts', .*'nasp'.*got 'cnn'"):
        space("cnn")


def test_own_space_is_found_by_name_and_never_replaces_another():
    own = CellSpace("test-two-options", ("skip_connect", "conv_1x1"), ("max_pool_3x3",), nodes=2)
    assert register_space(own) is own
    register_space(CellSpace("test-two-options", own.normal, own.reduce, nodes=2))
    assert space("test-two-options") == own
    assert own.node_offsets == (0, 2, 5, 7, 10)
    with pytest.raises(ValueError, match="is taken"):
        register_space(CellSpace("darts", own.normal, own.reduce))


@pytest.mark.parametrize(
    "change",
    [
        *({"normal": ()}, {"reduce": ("none", "none")}, {"reduce": ()}, {"nodes": 0}, {"edges_per_node": 3}),
        *({"edges_per_node": 0}, {"inputs": 3}, {"inputs": 1, "edges_per_node": 1}, {"output": "mean"}),
        {"inputs": 1, "reduce": ()},
    ],
)
def test_invalid_space_is_refused(change):
    with pytest.raises(ValueError, match="expected"):
        CellSpace(**{"name": "x", "normal": ("skip_connect",), "reduce": ("skip_connect",)} | change)


def test_row_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"0\.\.27, got 28"):
        space("darts").primitives(28)


@pytest.mark.parametrize(
    "weight, active",
    [
        (torch.zeros(3), (0, 0, 0)),
        (torch.zeros(2, 3, dtype=torch.int64), (0, 0)),
        (torch.zeros(2, 3), (0,)),
        (torch.zeros(2, 3), (0, 3)),
        (torch.zeros(2, 3), (0, -2)),
        (torch.zeros(2, 3), (0, -4)),
    ],
)
def test_gates_that_disagree_are_refused(weight, active):
    with pytest.raises(ValueError, match="expected"):
        Gates(weight, active)


def test_choices_share_one_gradient_matrix():
    weight = torch.zeros(2, 3, requires_grad=True)
    first, second = Gates(weight, (2, PRUNED)).choices()
    assert (first.active, second.active) == (2, -1)
    (first.weights * 2).sum().backward()
    assert weight.grad.tolist() == [[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]
    assert [choice.active for choice in Gates(weight).choices()] == [None, None]
    assert [choice.active for choice in Gates(weight, (0, MIXED)).choices()] == [0, None]


@pytest.mark.parametrize("name", sorted(GENOTYPES))
def test_published_genotype_survives_json(name):
    genotype = GENOTYPES[name]
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert Genotype.from_json(json.loads(genotype.to_json())) == genotype
    assert genotype.nodes("normal") == (2, 2, 2, 2)
    assert genotype.normal_nodes is None


def test_genotype_holds_none_edges_and_empty_nodes():
    genotype = Genotype(
        (("none", 0), ("skip_connect", 2)), (2, 3, 4), (), (2, 3), normal_nodes=(1, 0, 1), reduce_nodes=(0, 0)
    )
    assert genotype.cell_edges("normal") == ((0, "none", 0), (2, "skip_connect", 2))
    assert Genotype.from_json(genotype.to_json()) == genotype


def test_counts_of_two_each_equal_the_form_without_counts():
    v2 = GENOTYPES["DARTS_V2"]
    assert Genotype(v2.normal, v2.normal_concat, v2.reduce, v2.reduce_concat, (2,) * 4, [2] * 4) == v2


EDGES = [["skip_connect", 0], ["skip_connect", 1]]
CELL = {"normal": EDGES, "normal_concat": [2], "reduce": EDGES, "reduce_concat": [2]}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"normal": [["skip_connect", 0], ["skip_connect", 2]]}, "sources of node 0 of normal"),
        ({"normal": EDGES[:1]}, "two edges per node"),
        ({"normal": [["skip_connect"]]}, "pairs"),
        ({"normal": [["skip_connect", True], ["skip_connect", 0]]}, "pairs"),
        ({"reduce_nodes": [1]}, "count the 2 edges"),
        ({"reduce_concat": [3]}, "reduce_concat"),
        ({"reduce_concat": []}, "reduce_concat"),
        ({"reduce_concat": [1, 2]}, "different nodes"),
        ({"reduce_concat": 2}, "reduce_concat to be a list"),
        ({"reduce_concat": None}, "reduce_concat to be a list"),
        ({"reduce_concat": [[2]]}, "reduce_concat to name"),
        ({"normal_nodes": 2}, "normal_nodes to be a list"),
        ({"recurrent": []}, "fields"),
    ],
)
def test_invalid_genotype_is_refused(change, message):
    Genotype.from_json(CELL)
    with pytest.raises(ValueError, match=message):
        Genotype.from_json(CELL | change)


@pytest.mark.parametrize("text", ["{", "[1]", "{}"])
def test_text_that_is_no_genotype_is_refused(text):
    with pytest.raises(ValueError, match="expected a genotype"):
        Genotype.from_json(text)
