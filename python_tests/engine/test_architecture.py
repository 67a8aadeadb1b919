# SPDX-License-Identifier: MIT
"""How steady an architecture was, by hand, and its drawing over the epochs."""

import pytest
from engine_helpers import TINY, run

from nasp_ext.arch.registry import space
from nasp_ext.engine.architecture import Steadiness, architecture_maps, steadiness
from nasp_ext.plots import heatmaps_svg

LINES = [
    {"scores": [[0.6, 0.4, 0.0], [0.2, 0.3, 0.5]], "active": [0, -1]},
    {"scores": [[0.4, 0.6, 0.0], [0.2, 0.3, 0.5]], "active": [0, 2]},
    {"scores": [[0.4, 0.6, 0.0], [0.2, 0.6, 0.2]], "active": [1, 1]},
]


def test_steadiness_of_a_mixture_by_hand():
    # Of 4 (row, pair): 2 best options change, 3 derived rows; movement 0.2, 0, 0, 0.3.
    assert steadiness(LINES, dense=True) == Steadiness(0.5, 0.75, pytest.approx(0.5 / 4))


def test_steadiness_of_a_discrete_search_by_hand():
    # Nothing, a row that appears (half a change), and two rows that change their option.
    assert steadiness(LINES, dense=False) == Steadiness(0.5, 0.75, (0 + 0.5 + 1 + 1) / 4)


def test_one_epoch_cannot_be_compared():
    with pytest.raises(ValueError, match="at least two epochs to compare, got 1"):
        steadiness(LINES[:1], dense=True)


def test_maps_hold_scores_and_derived_options_of_every_epoch():
    result = run("darts")
    maps = architecture_maps(TINY, result.history)
    assert [one.title for one in maps] == ["normal 0→2", "normal 1→2", "reduce 0→2", "reduce 1→2"]
    for row, one in enumerate(maps):
        assert one.columns == TINY.normal
        assert one.rows == ["1", "2", "3", "4"]
        assert [list(values) for values in one.values] == [line["scores"][row] for line in result.history]
        assert one.marked[-1] == result.gates.active[row]
    assert heatmaps_svg(maps, "A").count('class="mark"') == 4 * 4


def test_pruned_rows_have_no_dot_and_short_rows_no_square():
    one = space("nas-bench-201")
    lines = [{"epoch": 1, "scores": [[0.2] * 5] * 6, "active": [-1, 0, 1, 2, 3, 4]}]
    maps = architecture_maps(one, lines)
    assert [list(each.marked) for each in maps] == [[None], [0], [1], [2], [3], [4]]
    assert [each.title for each in maps][:2] == ["normal 0→1", "normal 0→2"]
    wide = [{"epoch": 1, "scores": [[0.5] * 8] * 28, "active": [0] * 28}]
    assert [len(each.columns) for each in architecture_maps(space("nasp"), wide)] == [8] * 14 + [5] * 14


@pytest.mark.parametrize("lines", [[], [{"epoch": 1}], LINES])
def test_a_history_of_another_space_is_refused(lines):
    with pytest.raises(ValueError, match="expected scores of 28 rows in every epoch"):
        architecture_maps(space("darts"), lines)
