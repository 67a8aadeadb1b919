# SPDX-License-Identifier: MIT
"""A saved NASP goes on bit for bit: state_dict, deepcopy, pickle."""

import copy
import io
import pickle

import pytest
import torch

from nasp_ext.optim import NASP


def make(seed=7, dtype=torch.float32, **options):
    torch.manual_seed(0)
    # Few different values, so that ties are broken all the time.
    a = (torch.randint(0, 3, (14, 8)).to(dtype) / 4).requires_grad_()
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    return a, NASP([a], lr=0.25, generator=generator, nodes="darts", **options)


def walk(a, optimizer, steps):
    seen = []
    for _ in range(steps):
        gates = optimizer.gates()[0]
        a.grad = torch.where(gates.weight > 0, 1.0, -0.5).to(a.dtype)
        optimizer.step()
        seen.append((gates.active, a.detach().clone()))
    return seen


def assert_same_walk(one, two):
    assert [active for active, _ in one] == [active for active, _ in two]
    assert all(torch.equal(x, y) for (_, x), (_, y) in zip(one, two, strict=True))


@pytest.mark.parametrize("preset", ["official", "paper"])
@pytest.mark.parametrize("state_first", [False, True])
def test_state_dict_resumes_bit_for_bit_with_seeded_ties(preset, state_first):
    a, optimizer = make(preset=preset)
    walk(a, optimizer, 5)
    file = io.BytesIO()
    torch.save({"a": a.detach(), "optimizer": optimizer.state_dict()}, file)
    expected = walk(a, optimizer, 5)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    b, resumed = make(seed=99, preset=preset)
    if state_first:
        resumed.load_state_dict(saved["optimizer"])
    with torch.no_grad():
        b.copy_(saved["a"])
    if not state_first:
        resumed.load_state_dict(saved["optimizer"])
    assert_same_walk(walk(b, resumed, 5), expected)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_go_on_as_the_original(duplicate):
    a, optimizer = make()
    walk(a, optimizer, 4)
    twin = duplicate(optimizer)
    b = twin.param_groups[0]["params"][0]
    assert b is not a
    assert_same_walk(walk(a, optimizer, 4), walk(b, twin, 4))


def test_state_of_another_shape_is_refused():
    a, optimizer = make(seed=None)
    walk(a, optimizer, 1)
    other = NASP([torch.rand(5, 8, requires_grad=True)], nodes=(2, 3), generator=None)
    with pytest.raises(
        ValueError, match=r"expected exp_avg of parameter 0 to be \(5, 8\).*another search space"
    ):
        other.load_state_dict(optimizer.state_dict())


def test_state_without_the_generator_is_refused():
    _, seeded = make()
    _, plain = make(seed=None)
    with pytest.raises(ValueError, match="tie-break generator"):
        seeded.load_state_dict(plain.state_dict())
    with pytest.raises(ValueError, match="tie-break generator"):
        plain.load_state_dict(seeded.state_dict())
