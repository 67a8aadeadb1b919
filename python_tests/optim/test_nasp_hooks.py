# SPDX-License-Identifier: MIT
"""Whoever hooks into the steps of an optimizer hooks into those of NASP."""

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from nasp_ext.optim import NASP


@pytest.fixture
def optimizer():
    a = torch.full((14, 8), 0.5, requires_grad=True)
    a.grad = torch.ones_like(a)
    optimizer = NASP([a], 0.1, nodes="darts")
    optimizer.step()  # the hooks come after the first step, which chose the short way
    return optimizer


def test_hooks_of_the_optimizer_run_around_each_step(optimizer):
    seen = []
    before = optimizer.register_step_pre_hook(lambda *call: seen.append(("before", call)))
    after = optimizer.register_step_post_hook(lambda *call: seen.append(("after", call)))
    optimizer.step()
    assert [name for name, _ in seen] == ["before", "after"]
    assert all(call[0] is optimizer and call[1][0] is optimizer for _, call in seen)
    before.remove()
    after.remove()
    optimizer.step()
    assert len(seen) == 2


@pytest.mark.parametrize("register", [register_optimizer_step_pre_hook, register_optimizer_step_post_hook])
def test_global_hook_runs_at_each_step(optimizer, register):
    seen = []
    handle = register(lambda *call: seen.append(call[0]))
    optimizer.step()
    optimizer.step()
    handle.remove()
    optimizer.step()
    assert seen == [optimizer, optimizer]


def test_pre_hook_may_replace_the_closure(optimizer):
    handle = optimizer.register_step_pre_hook(lambda self, args, kwargs: ((self, lambda: "replaced"), {}))
    assert optimizer.step(lambda: "given") == "replaced"
    handle.remove()
    assert optimizer.step(closure=lambda: "given") == "given"


def test_step_is_a_range_of_the_profiler(optimizer):
    with torch.autograd.profiler.profile() as profile:
        optimizer.step()
    assert "Optimizer.step#NASP.step" in {event.name for event in profile.function_events}


def test_second_optimizer_of_the_same_matrix_is_refused(optimizer):
    (a,) = optimizer.param_groups[0]["params"]
    before = a.detach().clone()
    second = NASP([a], nodes="darts")
    with pytest.raises(ValueError, match="also in NASP"):
        second.step()
    with pytest.raises(ValueError, match="also in NASP"):
        optimizer.step()
    assert torch.equal(a, before)


def test_step_of_a_subclass_runs_the_hooks_once():
    class Counting(NASP):
        def step(self, closure=None):
            super().step(closure)

    seen = []
    a = torch.full((14, 8), 0.5, requires_grad=True)
    a.grad = torch.ones_like(a)
    optimizer = Counting([a], nodes="darts")
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    optimizer.step()
    assert seen == ["after"]
