# SPDX-License-Identifier: MIT
"""Drawn recurrent cells: every state, term and activation is there, and nothing lies on a label."""

import random
import re
from xml.etree import ElementTree

import pytest

from nasp_ext.families.genotypes import write_drawings
from nasp_ext.families.recurrent.drawing import recurrent_drawings, recurrent_svg
from nasp_ext.families.recurrent.genotype import RecurrentGenotype

SVG = "{http://www.w3.org/2000/svg}"
ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")
CHAIN = [("tanh", 0), ("relu", 1), ("sigmoid", 1), ("identity", 0)]


def random_cell(seed, nodes=8, all_terms=False):
    """(terms, how many enter each node)."""
    generator = random.Random(seed)
    sources = [(node, source) for node in range(1, nodes + 1) for source in range(node)]
    if not all_terms:
        sources = [(node, generator.randrange(node)) for node in range(1, nodes + 1)]
    counts = [sum(node == target for node, _ in sources) for target in range(1, nodes + 1)]
    return [(generator.choice(ACTIVATIONS), source) for _, source in sources], counts


CELLS = [random_cell(0), random_cell(1), random_cell(2, 11), random_cell(3, 5, all_terms=True)]


def groups(drawing, kind):
    return [g for g in ElementTree.fromstring(drawing).iter(f"{SVG}g") if g.get("class") == kind]


def texts(drawing, kind):
    return ["".join(group.itertext()) for group in groups(drawing, kind)]


def box(group):
    rect = group.find(f"{SVG}rect")
    x, y, width, height = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def ends(edge):
    """Where a drawn arrow begins, and the tip of its head."""
    line, head = (path.get("d") for path in edge.findall(f"{SVG}path"))
    return tuple(tuple(map(float, re.match(r"M(\S+) (\S+)", path).groups())) for path in (line, head))


def vertices_of(drawing):
    """(source, target) of every arrow, by the box in which it begins and the box that it touches."""
    boxes = [box(group) for group in groups(drawing, "vertex")]
    found = []
    for edge in groups(drawing, "edge"):
        (x0, y0), (x1, y1) = ends(edge)
        source = next(i for i, b in enumerate(boxes) if abs(b[2] - x0) < 0.1 and b[1] < y0 < b[3])
        target = next(i for i, b in enumerate(boxes) if abs(b[0] - x1) < 0.1 and b[1] < y1 < b[3])
        found.append((source, target))
    return found


def test_the_states_stand_between_the_inputs_and_the_mean():
    drawing = recurrent_svg(CHAIN, range(1, 5))
    minus = "\N{MINUS SIGN}"
    assert texts(drawing, "vertex") == ["xt", f"ht{minus}1", "0", "1", "2", "3", "4", "mean", "ht"]
    assert texts(drawing, "label") == ["tanh", "relu", "sigmoid", "identity"]


def test_arrows_lead_from_the_predecessors_to_the_nodes_and_from_the_averaged_states_to_the_mean():
    drawing = recurrent_svg(CHAIN, [2, 4])
    into_zero, terms = [(0, 2), (1, 2)], [(2, 3), (3, 4), (3, 5), (2, 6)]
    assert vertices_of(drawing) == [*into_zero, *terms, (4, 7), (6, 7), (7, 8)]


def test_one_state_is_the_output_without_a_mean():
    drawing = recurrent_svg(CHAIN, [0])
    assert "mean" not in texts(drawing, "vertex")
    assert vertices_of(drawing)[-1] == (2, 7)


def test_several_terms_enter_a_node_and_none_another():
    drawing = recurrent_svg([("tanh", 0), ("relu", 0), ("relu", 1)], [1, 2, 3], nodes=[1, 0, 2])
    assert vertices_of(drawing)[2:5] == [(2, 3), (2, 5), (3, 5)]
    assert texts(drawing, "vertex")[2:6] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("terms, counts", CELLS)
def test_no_label_or_vertex_overlaps_another_or_leaves_the_drawing(terms, counts):
    drawing = recurrent_svg(terms, range(1, len(counts) + 1), counts)
    assert texts(drawing, "label") == [activation for activation, _ in terms]
    boxes = [box(group) for kind in ("label", "vertex") for group in groups(drawing, kind)]
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    root = ElementTree.fromstring(drawing)
    width, height = float(root.get("width")), float(root.get("height"))
    assert all(b[0] >= 0 and b[1] >= 44 and b[2] <= width and b[3] <= height for b in boxes)


def test_every_activation_has_a_colour_of_its_own():
    drawing = recurrent_svg(CHAIN, [4])
    colours = [group.find(f"{SVG}rect").get("stroke") for group in groups(drawing, "label")]
    lines = [group.find(f"{SVG}path").get("stroke") for group in groups(drawing, "edge")]
    assert len(set(colours)) == 4
    assert lines[2:6] == colours
    assert lines[0] == lines[1] == lines[6]
    assert lines[0] not in colours


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((CHAIN, [1], [1, 1, 1]), r"expected 3 terms for nodes with \(1, 1, 1\) of them, got 4"),
        (([("tanh", 1)], [1]), r"tanh into node 1: expected a predecessor in \[0, 1\), got 1"),
        (([("tanh", 0), ("relu", -1)], [1]), r"relu into node 2: .*\[0, 2\), got -1"),
        ((CHAIN, [5]), r"expected concat in \[0, 5\), at least one, got \(5,\)"),
        ((CHAIN, []), "at least one, got"),
    ],
)
def test_a_cell_that_cannot_exist_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        recurrent_svg(*arguments)


def test_the_cell_of_a_genotype_is_one_file(tmp_path):
    genotype = RecurrentGenotype(CHAIN, (2, 4))
    assert recurrent_drawings(genotype) == {"cell_recurrent.svg": recurrent_svg(CHAIN, (2, 4))}
    (path,) = write_drawings(genotype, tmp_path)
    assert path.name == "cell_recurrent.svg"
    assert path.read_text(encoding="utf-8") == recurrent_svg(CHAIN, (2, 4))
    pruned = RecurrentGenotype(CHAIN[:2], (2, 4), (1, 0, 1, 0))
    assert recurrent_drawings(pruned) == {
        "cell_recurrent.svg": recurrent_svg(CHAIN[:2], (2, 4), (1, 0, 1, 0))
    }
