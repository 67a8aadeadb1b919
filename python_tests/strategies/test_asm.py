# SPDX-License-Identifier: MIT
"""ASM-NAS selects cell by cell what the network attends to most, and learns from no loss."""

import dataclasses

import pytest
import torch

from nasp_ext.arch.gates import MIXED, PRUNED
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.layered.space import LayeredSpace
from nasp_ext.strategies import ASMStrategy, strategy

CELL = CellSpace("small", ("none", "skip_connect", "conv_1x1"), ("max_pool_3x3", "conv_1x1"), nodes=2)
SPACE = LayeredSpace.of(CELL, 3, attention=True)  # layers 2 and 3 reduce; 5 edges each
ALL_EDGES = LayeredSpace.of(dataclasses.replace(CELL, edges_per_node=None), 3, attention=True)


def liking(seed: int = 0) -> torch.Tensor:
    values = torch.rand(15, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.masked_fill(~SPACE.mask(), 0.0)


def test_the_mixture_has_the_same_prior_for_every_option_that_exists():
    gates = ASMStrategy(SPACE).propose()
    assert gates.active is None
    torch.testing.assert_close(gates.weight[0], torch.full((3,), 1 / 3))
    torch.testing.assert_close(gates.weight[5], torch.tensor([0.5, 0.5, 0.0]))


def test_the_option_attended_to_most_is_selected_in_every_row():
    search, liked = ASMStrategy(ALL_EDGES), liking()
    search.select(lambda gates: liked)
    allowed = liked.masked_fill(~SPACE.selectable(), -1.0)
    assert search.best().active == tuple(allowed.argmax(1).tolist())
    assert search.best().unit
    assert torch.equal(search.best().weight.argmax(1), allowed.argmax(1))
    torch.testing.assert_close(search.scores(), liked.float())


def test_each_cell_is_replaced_before_the_next_is_measured():
    asked = []
    search, liked = ASMStrategy(ALL_EDGES), liking()

    def attention(gates):
        asked.append(gates)
        return liked

    search.select(attention)
    best = search.best()
    assert [gates.active for gates in asked] == [
        (*best.active[: 5 * cell], *[MIXED] * 5, *[PRUNED] * (10 - 5 * cell)) for cell in range(3)
    ]
    for cell, gates in enumerate(asked):
        start, stop = 5 * cell, 5 * cell + 5
        assert torch.equal(gates.weight[:start], best.weight[:start])
        assert torch.equal(gates.weight[start:stop], search.propose().weight[start:stop])
        assert not gates.weight[stop:].any()


def test_a_later_cell_is_measured_behind_the_cells_that_were_chosen():
    # Layer 2 likes option 1 if layer 1 took option 2 everywhere, else option 0.
    def attention(gates):
        liked = torch.zeros(15, 3)
        liked[:5, 2] = 1
        liked[5:10, 1 if set(gates.active[:5]) == {2} else 0] = 1
        liked[10:, 0] = 1
        return liked

    search = ASMStrategy(ALL_EDGES)
    search.select(attention)
    assert search.best().active == (*[2] * 5, *[1] * 5, *[0] * 5)


def test_only_the_rows_of_the_cell_that_is_measured_are_read():
    def attention(gates):
        measured = torch.tensor(gates.active) == MIXED
        return liking().masked_fill(~measured[:, None], torch.nan)

    search = ASMStrategy(ALL_EDGES)
    search.select(attention)
    torch.testing.assert_close(search.scores(), liking().float())


def test_the_edges_whose_option_is_attended_to_most_stay():
    liked = torch.zeros(15, 3)
    liked[:, 1] = torch.tensor([0.1, 0.2, 0.3, 0.5, 0.4] * 3)  # nodes of 2 and 3 edges
    liked[0, 0] = 0.9  # of `none`, which does not count
    search = ASMStrategy(SPACE)
    search.select(lambda gates: liked)
    assert search.best().active == (1, 1, PRUNED, 1, 1) * 3
    one = ASMStrategy(SPACE, edges_per_node=1)
    one.select(lambda gates: liked)
    assert one.best().active == (PRUNED, 1, PRUNED, 1, PRUNED) * 3


def test_exact_ties_go_to_the_lowest_option_and_edge():
    search = ASMStrategy(SPACE)
    search.select(lambda gates: torch.full((15, 3), 0.25))
    assert search.best().active == (1, 1, 1, 1, PRUNED, *(0, 0, 0, 0, PRUNED) * 2)


@pytest.mark.parametrize("allowed", ["option", "space"])
def test_none_is_selected_where_it_is_allowed(allowed):
    by_space = dataclasses.replace(CELL, none_allowed=True)
    cells = LayeredSpace.of(by_space, 3, attention=True) if allowed == "space" else SPACE
    search = ASMStrategy(cells, allow_none=allowed == "option", edges_per_node=None)
    search.select(lambda gates: torch.tensor([0.5, 0.3, 0.2]).expand(15, 3))
    assert search.best().active == (0,) * 15


def test_no_loss_moves_it():
    search = strategy("asm", SPACE)
    before = search.state_dict()
    weights = torch.ones(3, requires_grad=True)
    loss = search.step(lambda gates: (gates.weight @ weights).sum())
    assert loss.item() == pytest.approx(15)
    after = search.state_dict()
    assert torch.equal(before["attention"], after["attention"])
    assert before["active"] == after["active"]
    assert weights.grad is None


def test_attention_that_is_no_number_is_refused():
    search = ASMStrategy(SPACE)
    with pytest.raises(ValueError, match="finite attention for rows 0 to 4"):
        search.select(lambda gates: torch.full((15, 3), torch.nan))


@pytest.mark.parametrize("found", [space("darts"), LayeredSpace.of(CELL, 3)])
def test_a_space_without_attention_is_refused(found):
    with pytest.raises(ValueError, match=f"mixed by attention, got '{found.name}'"):
        strategy("asm", found)


def test_a_state_restores_what_was_selected():
    search, twin = ASMStrategy(SPACE), ASMStrategy(SPACE)
    search.select(lambda gates: liking(7))
    twin.load_state_dict(search.state_dict())
    assert twin.best().active == search.best().active != ASMStrategy(SPACE).best().active
    assert torch.equal(twin.scores(), search.scores())
