# SPDX-License-Identifier: MIT
"""Which rows enter which node is said by the caller, by counts or as "darts", and never guessed."""

import pytest
import torch

from nasp_ext.optim import NASP


def matrix(rows):
    return torch.full((rows, 8), 0.5, requires_grad=True)


@pytest.mark.parametrize("rows", [3, 5, 6, 9, 14, 20, 28])
def test_rows_whose_nodes_nobody_named_are_refused_with_what_to_type(rows):
    with pytest.raises(
        ValueError,
        match=rf'{rows} rows enter which node: pass nodes="darts".*\(2, 3, 4, 5\).*edges_per_node=None',
    ):
        NASP([matrix(rows)])
    assert NASP([matrix(rows)], edges_per_node=None, generator=None).gates()[0].active == (0,) * rows


@pytest.mark.parametrize(("rows", "keep"), [(1, "preset"), (2, "preset"), (3, 3), (14, 20)])
def test_rows_that_no_node_could_drop_need_no_nodes(rows, keep):
    optimizer = NASP([matrix(rows)], edges_per_node=keep, generator=None)
    assert optimizer.gates()[0].active == (0,) * rows


@pytest.mark.parametrize(
    ("rows", "nodes"),
    [
        *[(2, (2,)), (5, (2, 3)), (9, (2, 3, 4)), (14, (2, 3, 4, 5)), (20, (2, 3, 4, 5, 6))],
        *[(27, (2, 3, 4, 5, 6, 7)), (28, (2, 3, 4, 5) * 2), (252, (2, 3, 4, 5) * 18)],
    ],
)
def test_rows_of_darts_cells_are_found_on_request(rows, nodes):
    expected = tuple(0 if row < 2 else -1 for count in nodes for row in range(count))
    assert NASP([matrix(rows)], nodes="darts", generator=None).gates()[0].active == expected


@pytest.mark.parametrize("rows", [3, 10, 15, 21])
def test_rows_of_no_darts_cell_are_refused(rows):
    with pytest.raises(ValueError, match=f"2, 5, 9, 14.*got {rows} rows: pass nodes="):
        NASP([matrix(rows)], nodes="darts")


def test_each_matrix_of_a_group_has_darts_nodes_of_its_own():
    one, two = NASP([matrix(5), matrix(14)], nodes="darts", generator=None).gates()
    assert one.active == (0, 0, 0, 0, -1)
    assert two.active.count(0) == 8
