# SPDX-License-Identifier: MIT
"""Drawn histories: panels, lines, gaps."""

from xml.etree import ElementTree

import pytest

from nasp_ext.plots import history_svg

SVG = "{http://www.w3.org/2000/svg}"


def series(drawing):
    """The points of each line, top of the panel = highest value."""
    lines = []
    for line in ElementTree.fromstring(drawing).iter(f"{SVG}polyline"):
        lines.append([tuple(map(float, pair.split(","))) for pair in line.get("points").split()])
    return lines


def words(drawing):
    return [text.text for text in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


def test_each_quantity_has_a_panel_and_each_series_a_legend():
    rows = [
        {
            "epoch": i,
            "train_loss": 1.0 / i,
            "valid_loss": 2.0 / i,
            "valid_accuracy": i / 4,
            "entropy": 1,
            "skips": i,
        }
        for i in (1, 2, 3)
    ]
    drawing = history_svg(rows, "Search")
    for word in (
        "Search",
        "Loss",
        "Accuracy",
        "Entropy",
        "train_loss",
        "valid_loss",
        "valid_accuracy",
        "entropy",
    ):
        assert word in words(drawing)
    assert "skips" not in words(drawing)
    assert len(series(drawing)) == 4


def test_points_keep_proportion_along_both_axes():
    ((first, second, third),) = series(
        history_svg([{"epoch": e, "loss": v} for e, v in ((0, 4.0), (1, 2.0), (3, 1.0))])
    )
    assert third[0] - second[0] == pytest.approx(2 * (second[0] - first[0]), abs=0.2)
    assert second[1] - first[1] == pytest.approx(2 * (third[1] - second[1]), abs=0.3)
    assert first[1] < third[1]


def test_epochs_are_counted_where_no_column_says_them():
    assert "1" in words(history_svg([{"loss": 1.0}, {"loss": 0.5}]))


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf"), "n/a", True])
def test_what_is_no_finite_number_leaves_a_gap(missing):
    rows = [{"loss": value} for value in (3.0, 2.5, missing, 2.0, 1.0)]
    assert [len(line) for line in series(history_svg(rows))] == [2, 2]


def test_a_column_that_some_epochs_lack_is_one_line():
    rows = [{"epoch": e, "train_loss": 1.0, **({"test_mae": e / 8} if e % 2 else {})} for e in range(1, 6)]
    drawing = history_svg(rows)
    assert "Mae" in words(drawing)
    assert [len(line) for line in series(drawing)] == [5, 3]


def test_a_single_epoch_is_a_dot():
    drawing = history_svg([{"loss": 0.0}])
    assert len(list(ElementTree.fromstring(drawing).iter(f"{SVG}circle"))) == 1


def test_all_texts_of_a_panel_lie_on_different_places():
    rows = [{"train_loss": 1.0, "valid_loss": 2.0}, {"train_loss": 0.5, "valid_loss": 1.5}]
    texts = ElementTree.fromstring(history_svg(rows)).iter(f"{SVG}text")
    places = [(float(text.get("x")), float(text.get("y"))) for text in texts]
    for i, (x, y) in enumerate(places):
        assert not any(abs(x - a) < 40 and abs(y - b) < 11 for a, b in places[:i])


@pytest.mark.parametrize("rows", [[], [{}], [{"epoch": 1, "loss": "none"}], [{"seconds": 3.0}]])
def test_a_history_with_nothing_to_draw_is_refused(rows):
    with pytest.raises(
        ValueError, match="expected numbers in columns such as train_loss, val_<metric> or entropy"
    ):
        history_svg(rows)
