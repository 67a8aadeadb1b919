# SPDX-License-Identifier: MIT
"""Recurrent cells as data, and spaces of them."""

import pytest
import torch

from nasp_ext.arch import Gates, space
from nasp_ext.arch.family import family_of
from nasp_ext.families.recurrent.genotype import RecurrentGenotype
from nasp_ext.families.recurrent.space import RecurrentSpace

SMALL = RecurrentSpace("small", space("darts-rnn").activations, steps=3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activations": ("tanh", "tanh")}, "without repetition"),
        ({"activations": ("tanh", "gelu")}, "among tanh, relu, sigmoid, identity"),
        ({"activations": ("none",)}, "among tanh"),
        ({"steps": 0}, "expected steps >= 1"),
        ({"steps": 33}, "expected steps <= 32"),
        ({"edges_per_node": 0}, "expected edges_per_node >= 1"),
    ],
)
def test_spaces_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        RecurrentSpace(**{"name": "x", "activations": ("tanh",), **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recurrent": (("tanh", 1),)}, "expected a predecessor 0 … 0 of step 1"),
        ({"recurrent": (("none", 0),)}, "activations among"),
        ({"recurrent": (("tanh", 0), ("relu", 0)), "nodes": (2,)}, "ascending predecessors, each once"),
        ({"nodes": (1, 1)}, "expected nodes to say"),
        ({"recurrent": ()}, "expected 1 to 32 steps"),
        ({"concat": ()}, "expected concat to be states 0 … 1"),
        ({"concat": (1, 1)}, "expected concat"),
        ({"concat": (2,)}, "expected concat"),
        ({"recurrent": "tanh"}, "expected recurrent to be a list"),
    ],
)
def test_genotypes_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        RecurrentGenotype(**{"recurrent": (("tanh", 0),), "concat": (1,), **fields})


@pytest.mark.parametrize("kept", [1, 2])
def test_genotypes_are_read_back(kept):
    active = (1, 2, 3, 4, 2, 1) if kept == 2 else (1, 2, -1, 4, -1, -1)
    genotype = SMALL.genotype(Gates(torch.zeros(6, 5), active))
    assert RecurrentGenotype.from_json(genotype.to_json()) == genotype
    assert len(genotype.terms) == 3 * kept


def test_a_cell_that_reads_nothing_is_told():
    dead = RecurrentGenotype((("tanh", 1),), (2,), (0, 1))
    assert not family_of(dead).depends_on_input(dead, 1)
    alive = RecurrentGenotype((("tanh", 0),), (1, 2), (1, 0))
    assert family_of(alive).depends_on_input(alive, 1)
