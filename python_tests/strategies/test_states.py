# SPDX-License-Identifier: MIT
"""States of strategies that no file should hold, but memory may: tensors without numbers in place."""

import copy

import pytest
import torch
from strategy_cases import NAMES, SMALL, advance, build
from test_contract import loss_fn, same


def tensors(value, path=()):
    """The places of the tensors of a state."""
    if isinstance(value, torch.Tensor):
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from tensors(value[key], (*path, key))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, lambda t: t.to("meta")], ids=["sparse", "meta"])
def test_tensors_without_numbers_in_place_are_refused_and_nothing_changes(name, change):
    search = build(name, SMALL, 1)
    for number in range(2):
        advance(search, loss_fn, number)
    before = copy.deepcopy(search.state_dict())
    places = list(tensors(before))
    assert places
    for path in places:
        state = copy.deepcopy(before)
        holder = state
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = change(holder[path[-1]])
        with pytest.raises(ValueError, match=r"expected .*tensor"):
            search.load_state_dict(state)
        assert same(search.state_dict(), before)
