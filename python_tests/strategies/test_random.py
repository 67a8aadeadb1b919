# SPDX-License-Identifier: MIT
"""Random search compares on one batch, confirms on others, and is not fooled by an easy batch."""

import pytest
import torch

from nasp_ext.arch.gates import PRUNED
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.strategies import strategy

OPTIONS = ("skip_connect", "conv_1x1", "max_pool_3x3", "avg_pool_3x3")
CELLS = CellSpace("race", OPTIONS, OPTIONS, nodes=1)


def quality(active) -> float:
    """The true loss of an architecture, different for each."""
    return sum(option * 4.0**row for row, option in enumerate(active))


class Batches:
    """A loss of its own for each step: the true one, plus what ``noise(step, active)`` says."""

    def __init__(self, noise=lambda step, active: 0.0) -> None:
        self.noise, self.number, self.calls = noise, 0, 0

    def step(self, search):
        def loss(gates):
            self.calls += 1
            return torch.tensor(quality(gates.active) + self.noise(self.number, gates.active))

        search.step(loss)
        self.number += 1


def test_the_difficulty_of_a_batch_does_not_count():
    def hard(step, active):
        return 1e4 * ((step * 37) % 101)

    plain, shifted = strategy("random", CELLS, seed=1), strategy("random", CELLS, seed=1)
    easy, uneven = Batches(), Batches(hard)
    for _ in range(200):
        easy.step(plain)
        uneven.step(shifted)
    assert plain.best().active == shifted.best().active
    assert quality(plain.best().active) < 20  # of 0 … 255
    assert uneven.calls <= 3 * 200


def test_one_lucky_batch_makes_no_champion():
    search = strategy("random", CELLS, seed=1, batches=4)
    first = search.best().active
    luck = Batches(lambda step, active: -1e6 if step == 0 and active != first else 1e6 * (active != first))
    search.redraw()  # the first proposal is the first champion
    for _ in range(30):
        luck.step(search)
    assert search.best().active == first


def test_a_challenger_wins_by_its_losses_together():
    search = strategy("random", CELLS, seed=1, batches=3)
    first = search.best().active
    search.redraw()
    challenger = search.propose().active
    differences = [-1.0, 5.0, 5.0, -11.0]  # challenger - champion: the first only chooses it; the sum is -1

    def noise(step, active):
        return differences[step] - quality(active) if active == challenger else -quality(active)

    batches = Batches(noise)
    for champion in (first, first, first, challenger):
        batches.step(search)
        assert search.best().active == champion
    assert batches.calls == 2 + 3 * 3


def test_a_comparison_that_was_cut_goes_on():
    for cut in (1, 2, 3):
        search, twin = (strategy("random", CELLS, seed=seed, batches=3) for seed in (1, 2))
        first = search.best().active
        search.redraw()
        challenger, differences = search.propose().active, [-1.0, -11.0, 5.0, 5.0]

        def noise(step, active, of=differences, of_challenger=challenger):
            return (of[step] if active == of_challenger else 0.0) - quality(active)

        batches = Batches(noise)
        for step in range(4):
            if step == cut:
                twin.load_state_dict(search.state_dict())
                search = twin
            assert search.best().active == first
            batches.step(search)
        assert search.best().active == challenger


def test_options_and_edges_are_uniform():
    search = strategy("random", space("nasp"), seed=1, edges_per_node=None)
    counts = torch.zeros(8)
    for _ in range(100):
        search.redraw()
        counts += torch.bincount(torch.tensor(search.propose().active[:14]), minlength=8)
    expected = 1400 / 8
    assert ((counts - expected) ** 2 / expected).sum() < 18.5  # chi², 7 degrees of freedom, 1 %


@pytest.mark.parametrize("edges", [0, -1, "all", 1.5])
def test_edges_that_are_no_number_are_refused(edges):
    with pytest.raises(ValueError, match="expected edges_per_node to be"):
        strategy("random", space("darts"), edges_per_node=edges)


def test_all_edges_and_none_are_options():
    assert PRUNED not in strategy("random", space("darts"), edges_per_node=None).propose().active
    search, drawn = strategy("random", space("darts"), allow_none=True, edges_per_node=None), set()
    for _ in range(10):
        search.redraw()
        drawn |= set(search.propose().active)
    assert drawn == set(range(8))
    with pytest.raises(ValueError, match="expected batches >= 1"):
        strategy("random", space("darts"), batches=0)
