# SPDX-License-Identifier: MIT
"""select_active: options per row, rows per node."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ops_drawn import QUICK, SEEDS, masks, matrices, seeded

from nasp_ext import ops
from nasp_ext.ops import reference

DARTS_NODES = (0, 2, 5, 9, 14, 16, 19, 23, 28)


@st.composite
def nodes(draw, rows):
    cuts = draw(st.sets(st.integers(1, rows - 1), max_size=5)) if rows > 1 else set()
    return sorted({0, rows, *cuts})


@QUICK
@given(data=st.data(), edges=st.sampled_from([None, 1, 2, 3]), keep_value=st.booleans(), seed=SEEDS)
def test_selection_equals_the_reference(data, edges, keep_value, seed):
    a = data.draw(matrices(max_leading=0))
    mask = data.draw(masks(a))
    offsets = data.draw(nodes(a.shape[0]))
    results = [
        module.select_active(a, offsets, edges, mask=mask, keep_value=keep_value, generator=seeded(seed))
        for module in (ops, reference)
    ]
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_best_two_edges_of_every_darts_node_survive():
    a = torch.rand(28, 8)
    weight, active = ops.select_active(a, DARTS_NODES, 2)
    best = a.max(-1)
    for begin, end in pairwise(DARTS_NODES):
        kept = {r for r in range(begin, end) if active[r] >= 0}
        assert kept == {begin + int(r) for r in best.values[begin:end].topk(2).indices}
        assert all(active[r] == best.indices[r] and weight[r, active[r]] == 1 for r in kept)
    assert weight.sum() == 16


def test_rows_compete_by_their_unclipped_entry():
    a = torch.tensor([[1.2, 0.0], [3.0, 0.0], [0.0, 2.0]])
    assert ops.select_active(a, (0, 3), 2)[1].tolist() == [ops.PRUNED, 0, 1]


def test_equal_rows_keep_the_lowest():
    assert ops.select_active(torch.full((5, 3), 0.5), (0, 5), 2)[1].tolist() == [0, 0, -1, -1, -1]


def test_seeded_tie_break_keeps_every_row_equally_often():
    a = torch.full((4 * 4000, 3), 0.5)
    _, active = ops.select_active(a, range(0, 4 * 4000 + 1, 4), 2, generator=seeded(0))
    kept = (active >= 0).reshape(4000, 4).sum(0)
    assert kept.sum() == 8000
    assert ((kept - 2000).abs() < 160).all()  # 5 standard deviations


def test_fully_masked_row_leaves_its_place_to_another():
    a = torch.tensor([[9.0, 9.0], [0.2, 0.1], [0.1, 0.3]])
    mask = torch.tensor([[False, False], [True, True], [True, True]])
    weight, active = ops.select_active(a, (0, 3), 2, mask=mask)
    assert active.tolist() == [ops.PRUNED, 0, 1]
    assert weight.tolist() == [[0, 0], [1, 0], [0, 1]]


def test_kept_value_is_the_clipped_entry():
    weight, _ = ops.select_active(torch.tensor([[0.25, 0.0], [-1.0, 7.0]]), keep_value=True)
    assert weight.tolist() == [[0.25, 0.0], [0.0, 1.0]]


def test_large_node_keeps_its_best_rows():
    a = torch.rand(5000, 4)
    _, active = ops.select_active(a, (0, 5000), 100)
    assert set(active.ge(0).nonzero().flatten().tolist()) == set(a.max(-1).values.topk(100).indices.tolist())


def test_no_rows_give_an_empty_selection():
    weight, active = ops.select_active(torch.empty(0, 8), (0,), 2)
    assert weight.shape == (0, 8)
    assert active.shape == (0,)


def test_backward_raises():
    a = torch.rand(4, 3, requires_grad=True)
    weight, active = ops.select_active(a)
    assert not active.requires_grad
    with pytest.raises(RuntimeError, match="no gradient with respect to a"):
        weight.sum().backward()


def test_nan_row_is_an_error_at_the_host_copy():
    ops.check_selection([0, ops.PRUNED, 3])
    with pytest.raises(ValueError, match="NaN in row 1"):
        ops.check_selection([0, ops.NAN_ROW, 3])
    with pytest.raises(ValueError, match="NaN in row 2 of 3"):
        ops.select_active(torch.tensor([[0.0, 1.0], [1.0, 0.0], [float("nan"), 0.0]]))
