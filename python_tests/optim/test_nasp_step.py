# SPDX-License-Identifier: MIT
"""NASP walks as Alg. 2 says: against a slow replica in plain PyTorch, and in small hand-made cases."""

import math

import pytest
import torch
from torch import Tensor

from nasp_ext.optim import NASP

NODES = (2, 3, 4, 5)


def slow_selection(a: Tensor, keep: int | None, keep_value: bool, mask: Tensor | None = None) -> Tensor:
    """Ā by loops: per row the first largest entry, per node the rows of the largest selected value."""
    rows, options = a.shape
    chosen = []
    for r in range(rows):
        allowed = [k for k in range(options) if mask is None or bool(mask[r, k])]
        chosen.append(max(allowed, key=lambda k: (float(a[r, k]), -k)))
    kept = list(range(rows))
    if keep is not None:
        kept, first = [], 0
        for count in NODES:
            node = sorted(range(first, first + count), key=lambda r: (-float(a[r, chosen[r]]), r))
            kept += node[:keep]
            first += count
    discrete = torch.zeros_like(a)
    for r in kept:
        discrete[r, chosen[r]] = a[r, chosen[r]].clamp(0, 1) if keep_value else 1.0
    return discrete


def slow_adam(a: Tensor, g: Tensor, moments: tuple[Tensor, Tensor], step: int, lr: float) -> Tensor:
    """Adam of Kingma & Ba with the betas (0.5, 0.999), an operation at a time; updates the moments."""
    first, second = moments
    first.copy_(g - (g - first) * 0.5)
    second.copy_(second * 0.999 + (1 - 0.999) * g * g)
    # apply_: torch.sqrt of MKL builds is not correctly rounded in about 1 % of the cases.
    root = second.clone().apply_(math.sqrt) / math.sqrt(1 - 0.999**step) + 1e-8
    return a + -(lr / (1 - 0.5**step)) * first / root


def loss_at(weight: Tensor, target: Tensor) -> Tensor:
    return ((weight - target) ** 2).sum() + (weight * target.roll(1, 0)).sum().sin()


def gradient_at(weight: Tensor, target: Tensor) -> Tensor:
    leaf = weight.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_at(leaf, target), leaf)
    return gradient


@pytest.mark.parametrize("preset", ["official", "paper"])
@pytest.mark.parametrize("masked", [False, True])
def test_thirty_steps_are_bit_equal_to_plain_pytorch(preset, masked, assert_close):
    a = torch.rand(14, 8, dtype=torch.float64, requires_grad=True)
    target = torch.randn(14, 8, dtype=torch.float64) * 2
    mask = (torch.arange(8) < 5).expand(14, 8).clone() if masked else None
    if mask is not None:
        mask[3, 0] = False
    cost = torch.rand(14, 8, dtype=torch.float64)
    official = preset == "official"
    optimizer = NASP([a], lr=0.05, preset=preset, eta=0.3, cost=cost, mask=mask, nodes=NODES, generator=None)

    slow = a.detach().clone()
    plain = torch.optim.Adam([slow.clone()], lr=0.05, betas=(0.5, 0.999), weight_decay=1e-3)
    (theirs,) = plain.param_groups[0]["params"]
    moments = torch.zeros_like(a), torch.zeros_like(a)
    share = cost if mask is None else cost * mask
    share = share / (share.sum() / 14)  # p̄: one number for the 14 rows
    visited = set()
    for step in range(1, 31):
        discrete = slow_selection(slow, 2 if official else None, not official, mask)
        gates = optimizer.gates()[0]
        assert torch.equal(gates.weight, discrete)
        visited.add(gates.active)
        a.grad = gradient_at(gates.weight, target)
        optimizer.step()
        before, gradient = slow, gradient_at(discrete, target) + 2 * 0.3 * share * discrete
        if official:
            slow = slow_adam(slow, gradient + 1e-3 * slow, moments, step, lr=0.05)
        else:
            slow = slow - 0.05 * gradient
        slow = slow.clamp(0, 1)
        if mask is not None:
            slow[~mask] = before[~mask]  # an option that does not exist stays as it is
        assert torch.equal(a, slow)
        if official and mask is None:
            theirs.grad = gradient
            plain.step()
            assert_close(theirs.clamp_(0, 1), slow)
    assert len(visited) > 3, "the walk must change its selection, or the test shows little"


def test_regulariser_gradient_is_taken_at_the_discrete_matrix():
    # Ā = (0, 0.75), p̄ = 4: only entry 1 is pulled, by 2 · 1 · (3/4) · 0.75 = 1.125.
    a = torch.tensor([[0.5, 0.75]], dtype=torch.float64, requires_grad=True)
    optimizer = NASP([a], lr=0.5, preset="paper", eta=1.0, cost=torch.tensor([1.0, 3.0]))
    a.grad = torch.zeros_like(a)
    optimizer.step()
    assert a.tolist() == [[0.5, 0.75 - 0.5 * 1.125]]


def test_rows_share_one_mean_cost_so_that_the_dear_row_is_pulled_more():
    # Rows cost 1 + 3 and 0 + 12 (the 100 is masked): p̄ = 8. Selected are p = 3 and p = 12, at 0.75 each.
    a = torch.tensor([[0.5, 0.75, 0.0], [0.5, 0.75, 0.25]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    cost = torch.tensor([[1.0, 3.0, 0.0], [0.0, 12.0, 100.0]])
    optimizer = NASP([a], lr=0.25, preset="paper", eta=1.0, cost=cost, mask=mask)
    a.grad = torch.zeros_like(a)
    optimizer.step()
    pulled = [0.75 - 0.25 * 2 * (p / 8) * 0.75 for p in (3, 12)]
    assert a.tolist() == [[0.5, pulled[0], 0.0], [0.5, pulled[1], 0.25]]


def test_each_group_follows_its_own_options():
    first = torch.full((2, 2), 0.5, requires_grad=True)
    second = torch.full((5, 2), 0.5, requires_grad=True)
    optimizer = NASP(
        [
            {"params": [first], "preset": "paper", "lr": 0.25},
            {"params": second, "lr": 0.125, "edges_per_node": 1, "nodes": (2, 3), "weight_decay": 0.0},
        ],
        generator=None,
    )
    first.grad, second.grad = torch.ones(2, 2), torch.ones(5, 2)
    optimizer.step()
    assert first.tolist() == [[0.25, 0.25]] * 2
    torch.testing.assert_close(second, torch.full((5, 2), 0.375))  # Adam's first step has length lr
    one, two = optimizer.gates()
    assert one.active == (0, 0)
    assert two.active == (0, -1, 0, -1, -1)
    assert one.unit is False
    assert two.unit is True


def test_cost_of_a_masked_option_does_not_count():
    a = torch.full((1, 3), 0.5, requires_grad=True)
    mask = torch.tensor([True, True, False])
    cost = torch.tensor([1.0, 1.0, 1e9])
    optimizer = NASP([a], lr=1.0, preset="paper", eta=0.5, cost=cost, mask=mask, generator=None)
    a.grad = torch.zeros_like(a)
    optimizer.step()
    assert a[0, 0].item() == pytest.approx(0.5 - 0.5 * 0.5)  # 2 · 0.5 · (1/2) · 0.5


@pytest.mark.parametrize(
    "change",
    [{"cost": torch.tensor([3.0, 1.0])}, {"mask": torch.tensor([True, False])}],
    ids=["cost", "mask"],
)
def test_regulariser_follows_an_option_that_is_changed_later(change):
    options = {"cost": torch.tensor([1.0, 1.0]), "mask": torch.ones(2, dtype=torch.bool)}
    steps = []
    for given in (options, options | change):
        a = torch.full((1, 2), 0.5, requires_grad=True)
        optimizer = NASP([a], lr=0.1, preset="paper", eta=1.0, **given)
        for _ in range(2):  # changed after the first step, or given from the beginning
            with torch.no_grad():
                a.fill_(0.5)
            a.grad = torch.zeros_like(a)
            optimizer.step()
            optimizer.param_groups[0].update(change)
        steps.append(a.detach().clone())
    assert torch.equal(*steps)


def test_a_step_without_gradient_changes_nothing():
    a = torch.rand(2, 3, requires_grad=True)
    before = a.detach().clone()
    NASP([a]).step()
    assert torch.equal(a, before)


def test_scheduler_changes_the_step_length():
    a = torch.full((2, 2), 0.5, requires_grad=True)
    optimizer = NASP([a], lr=0.25, preset="paper")
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for expected in (0.25, 0.125):
        a.grad = torch.ones(2, 2)
        optimizer.step()
        scheduler.step()
        assert a[0, 0].item() == expected


def test_closure_runs_with_gradients_and_gives_the_loss():
    a = torch.full((2, 2), 0.5, requires_grad=True)
    optimizer = NASP([a], lr=0.25, preset="paper")

    def closure():
        optimizer.zero_grad()
        loss = a.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert a.tolist() == [[0.25, 0.25]] * 2
    optimizer.zero_grad()
    assert a.grad is None


def test_seeded_ties_differ_from_the_lowest_index_and_repeat():
    def active(seed):
        a = torch.full((14, 8), 0.5, requires_grad=True)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return NASP([a], edges_per_node=None, generator=generator).gates()[0].active

    assert active(None) == (0,) * 14
    assert active(1) == active(1) != active(2)
    assert len(set(active(1))) > 1


@pytest.mark.filterwarnings("ignore:the gradient of an architecture matrix")
@pytest.mark.parametrize("generator", [torch.Generator().manual_seed(1), "seeded"])
def test_seeded_ties_are_broken_anew_after_each_step(generator):
    a = torch.full((14, 8), 0.5, requires_grad=True)
    optimizer = NASP([a], preset="paper", generator=generator)
    seen = set()
    for _ in range(4):
        a.grad = torch.zeros_like(a)
        optimizer.step()
        seen.add(optimizer.gates()[0].active)
    assert len(seen) == 4


def test_one_host_copy_gives_the_gates_of_all_parameters(monkeypatch):
    copies = []
    tolist = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda self: copies.append(self.shape) or tolist(self))
    params = [torch.rand(14, 8, requires_grad=True) for _ in range(3)]
    gates = NASP(params, nodes="darts").gates()
    assert len(copies) == 1
    assert [len(g.active) for g in gates] == [14, 14, 14]


def test_gates_follow_a_parameter_changed_outside():
    a = torch.full((2, 2), 0.5, requires_grad=True)
    optimizer = NASP([a], generator=None)
    assert optimizer.gates()[0].active == (0, 0)
    with torch.no_grad():
        a[1, 1] = 0.75
    assert optimizer.gates()[0].active == (0, 1)


def test_strided_parameters_walk_as_contiguous_ones():
    base = torch.rand(8, 14, dtype=torch.float64)
    strided, plain = base.t().requires_grad_(), base.t().contiguous().requires_grad_()
    for a in (strided, plain):
        optimizer = NASP([a], lr=0.1, nodes=NODES)
        for _ in range(3):
            a.grad = (a.detach() - 0.7).sin()
            optimizer.step()
    assert torch.equal(strided, plain)


def test_training_step_works_under_autocast_and_with_a_compiled_loss():
    a = torch.full((14, 8), 0.5, requires_grad=True)
    layer = torch.nn.Linear(8, 4)
    optimizer = NASP([a], lr=0.1, nodes=NODES, weight_optimizer=torch.optim.SGD(layer.parameters(), lr=0.1))
    loss_fn = torch.compile(lambda weight: layer(weight).float().pow(2).mean(), backend="eager")
    before = a.detach().clone()
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16), optimizer.discrete():
            loss_fn(a).backward()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            optimizer.step()
        optimizer.zero_grad()
    assert a.dtype == torch.float32
    assert not torch.equal(a, before)
    assert 0 <= a.min() <= a.max() <= 1
