# SPDX-License-Identifier: MIT
"""Drawn cells: every vertex, edge and label is there, and nothing lies on a label."""

import random
import re
from xml.etree import ElementTree

import pytest

from nasp_ext.families.cells.drawing import cell_svg
from nasp_ext.families.cells.genotype import Genotype
from nasp_ext.families.cells.published import GENOTYPES
from nasp_ext.families.genotypes import write_drawings
from nasp_ext.plots.arrangement import arrange, crossings

SVG = "{http://www.w3.org/2000/svg}"
OPERATIONS = ("sep_conv_3x3", "max_pool_3x3", "skip_connect", "conv_3x1_1x3")
PAIRS = [(0, 1), (0, 1), (1, 0), (0, 2)]


def random_cell(seed, all_edges=False):
    generator = random.Random(seed)
    nodes = [n + 2 if all_edges else 2 for n in range(4)]
    edges = [
        (generator.choice(OPERATIONS), source)
        for n, count in enumerate(nodes)
        for source in generator.sample(range(n + 2), count)
    ]
    return edges, nodes


def groups(drawing, kind):
    return [g for g in ElementTree.fromstring(drawing).iter(f"{SVG}g") if g.get("class") == kind]


def box(group):
    rect = group.find(f"{SVG}rect")
    x, y, width, height = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def points(edge):
    """The end points of the pieces of a drawn edge."""
    path = edge.find(f"{SVG}path").get("d")
    found, y = [], None
    for command, numbers in re.findall(r"([MCH])([^MCH]*)", path):
        values = [float(number) for number in numbers.split()]
        x, y = (values[0], y) if command == "H" else (values[-2], values[-1])
        found.append((x, y))
    return found


def layouts():
    for seed in range(6):
        yield random_cell(seed)
    yield random_cell(0, all_edges=True)


def test_every_vertex_is_drawn_with_its_name():
    drawing = cell_svg(list(GENOTYPES["DARTS_V2"].normal), (2, 3, 4, 5))
    names = ["".join(group.itertext()) for group in groups(drawing, "vertex")]
    assert names == ["ck\N{MINUS SIGN}2", "ck\N{MINUS SIGN}1", "0", "1", "2", "3", "ck"]


def test_every_edge_is_drawn_and_labelled_with_its_primitive():
    edges, nodes = random_cell(3)
    drawing = cell_svg(edges, (2, 3, 4, 5), nodes)
    assert len(groups(drawing, "edge")) == 8 + 4
    assert ["".join(group.itertext()) for group in groups(drawing, "label")] == [name for name, _ in edges]


def test_edges_lead_from_their_source_to_their_node():
    edges, nodes = random_cell(5)
    drawing = cell_svg(edges, (2, 3, 4, 5), nodes)
    boxes = [box(group) for group in groups(drawing, "vertex")]
    targets = [2 + n for n, count in enumerate(nodes) for _ in range(count)] + [6] * 4
    sources = [source for _, source in edges] + [2, 3, 4, 5]
    for group, source, target in zip(groups(drawing, "edge"), sources, targets, strict=True):
        (x0, y0), *_, (x1, y1) = points(group)
        assert x0 == pytest.approx(boxes[source][2], abs=0.1)
        assert boxes[source][1] < y0 < boxes[source][3]
        assert x1 == pytest.approx(boxes[target][0] - 7, abs=0.1)
        assert boxes[target][1] < y1 < boxes[target][3]


@pytest.mark.parametrize("cell", list(layouts()))
def test_no_label_or_vertex_overlaps_another(cell):
    edges, nodes = cell
    drawing = cell_svg(edges, (2, 3, 4, 5), nodes)
    boxes = [box(group) for kind in ("label", "vertex") for group in groups(drawing, kind)]
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize("cell", list(layouts()))
def test_an_edge_meets_no_label_but_its_own(cell):
    edges, nodes = cell
    drawing = cell_svg(edges, (2, 3, 4, 5), nodes)
    labels = [box(group) for group in groups(drawing, "label")]
    for i, group in enumerate(groups(drawing, "edge")):
        level = zip(points(group), points(group)[1:], strict=False)
        pieces = [(x0, y, x1, y) for (x0, y), (x1, y1) in level if y == y1]
        met = {k for k, label in enumerate(labels) for piece in pieces if overlap(piece, label)}
        assert met == ({i} if i < len(edges) else set())


def test_labels_are_wide_enough_for_their_text():
    drawing = cell_svg([("a_primitive_with_a_long_name_7x7", 0), ("skip_connect", 1)], (2,))
    for group in groups(drawing, "label"):
        left, _, right, _ = box(group)
        assert right - left >= 12 * 0.602 * len("".join(group.itertext()))
        assert not any(overlap(box(group), box(vertex)) for vertex in groups(drawing, "vertex"))


def test_labels_of_long_edges_go_where_there_are_fewer():
    edges = [("skip_connect", 0), ("skip_connect", 1), ("skip_connect", 2), ("skip_connect", 0)]
    labels = groups(cell_svg(edges, (2, 3)), "label")
    first, second, third, fourth = (box(label)[0] for label in labels)
    assert first == second
    assert third == fourth > first


def test_everything_lies_inside_the_drawing():
    edges, nodes = random_cell(1, all_edges=True)
    drawing = cell_svg(edges, (2, 3, 4, 5), nodes)
    root = ElementTree.fromstring(drawing)
    width, height = float(root.get("width")), float(root.get("height"))
    for kind in ("label", "vertex"):
        for left, top, right, bottom in map(box, groups(drawing, kind)):
            assert left >= 0
            assert top >= 44
            assert right <= width
            assert bottom <= height


def test_two_operations_on_one_pair_of_vertices_are_both_drawn():
    drawing = cell_svg([("skip_connect", 0), ("sep_conv_3x3", 0)], (2,))
    first, second = map(box, groups(drawing, "label"))
    assert not overlap(first, second)


def test_names_are_escaped():
    drawing = cell_svg([("<a&b>", 0), ('"q"', 1)], (2,), title="1 < 2")
    assert ["".join(group.itertext()) for group in groups(drawing, "label")] == ["<a&b>", '"q"']


def test_a_node_without_edges_and_an_unused_input_are_still_drawn():
    drawing = cell_svg([("skip_connect", 0)], (2, 3), nodes=(1, 0))
    assert len(groups(drawing, "vertex")) == 5


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([("skip_connect", 0)], (2,), (2,)), "expected 2 edges for nodes with"),
        (([("skip_connect", 0)] * 3, (2,)), "expected 4 edges"),
        (([("skip_connect", 2), ("skip_connect", 0)], (2,)), r"source in \[0, 2\), got 2"),
        (([("skip_connect", -1), ("skip_connect", 0)], (2,)), r"source in \[0, 2\), got -1"),
        (([("skip_connect", 1), ("skip_connect", 0)], (3,)), r"concat in \[0, 3\)"),
    ],
)
def test_a_cell_that_cannot_exist_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        cell_svg(*arguments)


def test_both_cells_of_a_genotype_are_written(tmp_path):
    genotype = GENOTYPES["DARTS_V2"]
    paths = write_drawings(genotype, tmp_path)
    assert [path.name for path in paths] == ["cell_normal.svg", "cell_reduce.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cell_normal.svg", "cell_reduce.svg"]
    for path, edges in zip(paths, (genotype.normal, genotype.reduce), strict=True):
        drawn = ["".join(group.itertext()) for group in groups(path.read_text(encoding="utf-8"), "label")]
        assert drawn == [name for name, _ in edges]


def test_a_cell_of_one_input_is_drawn_alone(tmp_path):
    genotype = Genotype.from_arch("|nor_conv_3x3~0|+|none~0|skip_connect~1|")
    (path,) = write_drawings(genotype, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name] == ["cell_normal.svg"]
    drawing = path.read_text(encoding="utf-8")
    names = ["".join(group.itertext()) for group in groups(drawing, "vertex")]
    assert names == ["ck\N{MINUS SIGN}1", "0", "1", "ck"]
    drawn = ["".join(group.itertext()) for group in groups(drawing, "label")]
    assert drawn == ["nor_conv_3x3", "none", "skip_connect"]


def test_crossings_are_counted_pairwise():
    plan = arrange([10.0] * 4, [(0, 3, 0.0), (1, 2, 0.0)], 10.0, 10.0)
    first, last = [plan.vertices[0], plan.vertices[1]], [plan.vertices[2], plan.vertices[3]]
    middle = [plan.routes[0][1], plan.routes[1][1]]
    assert crossings([first, middle, last]) == 1
    assert crossings([first, middle, last[::-1]]) == 0


def test_an_avoidable_crossing_is_avoided():
    plan = arrange([10.0] * 4, [(0, 3, 50.0), (1, 2, 50.0)], 10.0, 10.0)
    assert crossings(plan.columns) == 0
