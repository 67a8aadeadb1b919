# SPDX-License-Identifier: MIT
"""Heat-maps: a square per value in the colour of its size, marks, names, one scale for all."""

import math
import re
from xml.etree import ElementTree

import pytest

from nasp_ext.plots import Heatmap, heatmaps_svg

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*maps, **options):
    return ElementTree.fromstring(heatmaps_svg(list(maps), "Attention", **options))


def squares(root):
    return [e for e in root.iter(f"{SVG}rect") if e.get("class") == "value"]


def lightness(colour: str) -> float:
    return sum(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def heatmap(values=((0.1, 0.9), (0.5, 0.3)), **options):
    rows, columns = [f"{i}→2" for i in range(len(values))], [f"op_{k}" for k in range(len(values[0]))]
    return Heatmap("cell 1", values, rows, columns, **options)


def test_a_larger_value_is_darker():
    found = {float(e[0].text): lightness(e.get("fill")) for e in squares(drawn(heatmap()))}
    order = [found[value] for value in sorted(found)]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == 4


def test_squares_stand_in_their_row_and_column():
    found = {float(e[0].text): (float(e.get("x")), float(e.get("y"))) for e in squares(drawn(heatmap()))}
    assert found[0.1][1] == found[0.9][1] < found[0.5][1] == found[0.3][1]
    assert found[0.1][0] == found[0.5][0] < found[0.9][0] == found[0.3][0]


def test_all_matrices_share_one_scale():
    first, second = squares(drawn(heatmap([[0.0, 0.5]]), heatmap([[0.5, 1.0]])))[1:3]
    assert first.get("fill") == second.get("fill")


def test_a_mark_is_in_the_square_of_its_column():
    root = drawn(heatmap(marked=(1, None)))
    (mark,) = [e for e in root.iter(f"{SVG}circle") if e.get("class") == "mark"]
    square = next(e for e in squares(root) if e[0].text == "0.9")
    inside = float(mark.get("cx")) - float(square.get("x")), float(mark.get("cy")) - float(square.get("y"))
    assert all(0 < offset < float(square.get("width")) for offset in inside)


def test_missing_values_leave_no_square():
    assert len(squares(drawn(heatmap([[0.1, None]])))) == 1


def test_equal_values_are_drawn_too():
    assert len(squares(drawn(heatmap([[0.125, 0.125]])))) == 2


def test_names_and_the_ends_of_the_scale_are_written_and_escaped():
    root = drawn(Heatmap("a < b", [[0.25, 0.75]], ["0→2"], ["x&y", "pool"]))
    words = {e.text for e in root.iter(f"{SVG}text")}
    assert {"Attention", "a < b", "0→2", "x&y", "pool", "0.25", "0.75"} <= words


def test_maps_wrap_after_the_given_number_and_stay_inside_the_drawing():
    root = drawn(*[heatmap()] * 5, columns=2)
    titles = [e for e in root.iter(f"{SVG}text") if e.text == "cell 1"]
    assert [len({e.get(axis) for e in titles}) for axis in ("x", "y")] == [2, 3]
    width, height = float(root.get("width")), float(root.get("height"))
    for e in root.iter(f"{SVG}rect"):
        assert float(e.get("x")) + float(e.get("width")) <= width
        assert float(e.get("y")) + float(e.get("height")) <= height


def test_tilted_names_do_not_leave_the_drawing():
    root = drawn(Heatmap("b", [[0.1]], ["0→2"], ["a_very_long_name_of_an_operation"]))
    for e in root.iter(f"{SVG}text"):
        turned = re.match(r"rotate\(-(\d+) ", e.get("transform") or "")
        if turned:
            reach = 0.62 * 10 * len(e.text) * math.cos(math.radians(float(turned[1])))
            assert float(e.get("x")) - reach >= 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"values": [[0.1, 0.2]], "rows": ["a", "b"], "columns": ["c", "d"]}, r"expected values \(2, 2\)"),
        ({"values": [[0.1]], "rows": ["a"], "columns": ["c", "d"]}, r"got rows of \[1\]"),
        ({"values": [[math.nan]], "rows": ["a"], "columns": ["c"]}, "expected finite values"),
        ({"values": [[1.0]], "rows": ["a"], "columns": ["c"], "marked": (0, 0)}, "a mark for 1 rows, got 2"),
        ({"values": [], "rows": [], "columns": []}, "expected values"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Heatmap("cell", **options)


@pytest.mark.parametrize("maps", [[], [Heatmap("cell", [[None]], ["a"], ["b"])]])
def test_nothing_to_draw_is_refused(maps):
    with pytest.raises(ValueError, match="at least one value"):
        heatmaps_svg(maps, "Attention")
