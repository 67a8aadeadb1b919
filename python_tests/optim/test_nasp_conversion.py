# SPDX-License-Identifier: MIT
"""A matrix or a state that changes its dtype, shape or memory under the optimizer: followed, or refused."""

import pytest
import torch

from nasp_ext.optim import NASP

COST = torch.arange(1.0, 9.0)
OPTIONS = {
    "official": {"nodes": "darts"},
    "paper": {"preset": "paper"},
    "masked": {"nodes": "darts", "mask": torch.arange(8) > 0},
    "regularised": {"nodes": "darts", "eta": 0.1, "cost": COST},
}


def gradients(steps):
    generator = torch.Generator().manual_seed(4)
    return torch.randn(steps, 14, 8, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("before", [torch.float32, torch.float64])
def test_state_follows_a_converted_module(options, before):
    after = torch.float64 if before == torch.float32 else torch.float32
    start = torch.rand(14, 8, generator=torch.Generator().manual_seed(5))  # no ties that rounding makes
    module = torch.nn.Module()
    module.alphas = torch.nn.Parameter(start.to(before))
    twin = start.double().requires_grad_()  # never converted
    one, two = (NASP([a], lr=0.01, **options) for a in (module.alphas, twin))
    for step, gradient in enumerate(gradients(6)):
        if step == 3:
            module.to(after)
        module.alphas.grad, twin.grad = gradient.to(module.alphas.dtype), gradient.clone()
        one.step()
        two.step()
    assert module.alphas.dtype == after
    assert [m.dtype for m in one.state[module.alphas].values() if isinstance(m, torch.Tensor)] == [
        after for m in two.state[twin].values() if isinstance(m, torch.Tensor)
    ]
    torch.testing.assert_close(module.alphas.double(), twin, rtol=0, atol=1e-5)
    assert one.gates()[0].active == two.gates()[0].active


def test_conversion_without_a_step_gives_gates_of_the_new_dtype():
    module = torch.nn.Module()
    module.alphas = torch.nn.Parameter(torch.rand(14, 8))
    optimizer = NASP([module.alphas], nodes="darts")
    active = optimizer.gates()[0].active
    module.double()
    gates = optimizer.gates()[0]
    assert (gates.active, gates.weight.dtype) == (active, torch.float64)
    with optimizer.discrete():
        assert torch.equal(module.alphas, gates.weight)


def started():
    a = torch.full((14, 8), 0.5, requires_grad=True)
    optimizer = NASP([a], lr=0.01, nodes="darts")
    a.grad = gradients(1)[0].float()
    optimizer.step()
    return a, optimizer


def shrunk(a, state):
    state["exp_avg"].data = state["exp_avg"][:7]


def other_numbers(a, state):
    state["exp_avg"].data = state["exp_avg"].view(torch.int32)


def half_matrix(a, state):
    a.data = a.half()


def gradient_of_another_dtype(a, state):
    a.grad.data = a.grad.double()


def reshaped(a, state):
    a.data = a.detach().view(8, 14)


DAMAGE = {
    "small": (lambda a, state: state.update(exp_avg=torch.zeros(1)), r"exp_avg .*\(14, 8\), found \(1,\)"),
    "none": (lambda a, state: state.update(exp_avg_sq=None), "exp_avg_sq .* found NoneType"),
    "gone": (lambda a, state: state.pop("exp_avg"), "exp_avg .* found NoneType"),
    "list": (lambda a, state: state.update(exp_avg=[0.0]), "exp_avg .* found list"),
    "shrunk": (shrunk, r"exp_avg .*found \(7, 8\)"),
    "integers": (other_numbers, r"exp_avg .*found torch\.int32"),
    "sparse": (lambda a, state: state.update(exp_avg=torch.zeros(14, 8).to_sparse()), "exp_avg .*dense"),
    "on meta": (
        lambda a, state: state.update(exp_avg=torch.zeros(14, 8, device="meta")),
        "exp_avg .*on meta",
    ),
    "negative": (lambda a, state: state["exp_avg_sq"].fill_(-1.0), "exp_avg_sq >= 0, found -1"),
    "nan moment": (
        lambda a, state: state["exp_avg"][3].fill_(float("nan")),
        "finite exp_avg, found -?nan in row 3",
    ),
    "shared": (
        lambda a, state: state.update(exp_avg_sq=state["exp_avg"].zero_()),
        "exp_avg and exp_avg_sq in the same",
    ),
    "half matrix": (half_matrix, r"float32 or float64, got torch\.float16"),
    "reshaped matrix": (reshaped, "got 8 rows"),
    "gradient": (gradient_of_another_dtype, r"gradient .*found \(14, 8\) torch\.float64"),
    "step": (lambda a, state: state.update(step=-1), "step of the state.* found -1"),
    "step of words": (lambda a, state: state.update(step="1"), "step of the state.* found '1'"),
    "endless step": (
        lambda a, state: state.update(step=2**63 - 1),
        "step of the state.* found 9223372036854775807",
    ),
    "seed": (lambda a, state: state.update(tie_seed=2**70), "tie_seed .* below"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_state_is_one_error_and_nothing_is_written(damage, message):
    a, optimizer = started()
    state = optimizer.state[a]
    damage(a, state)
    kept = dict(state)
    copies = {name: t.clone() for name, t in state.items() if isinstance(t, torch.Tensor) and t.is_cpu}
    before = a.detach().clone()
    with pytest.raises((ValueError, TypeError), match=message):
        optimizer.step()
    assert torch.equal(a, before)
    assert all(state[name] is value for name, value in kept.items())
    for name, copy in copies.items():
        torch.testing.assert_close(state[name], copy, rtol=0, atol=0, equal_nan=True)


def test_moments_that_were_resized_in_place_are_refused():
    a, optimizer = started()
    optimizer.state[a]["exp_avg"].resize_(7, 8)
    with pytest.raises(ValueError, match=r"exp_avg .*found \(7, 8\)"):
        optimizer.step()


def test_gradient_in_the_memory_of_the_matrix_is_refused():
    a, optimizer = started()
    a.grad = a.detach()
    before = a.detach().clone()
    with pytest.raises(ValueError, match="grad and a in the same"):
        optimizer.step()
    assert torch.equal(a, before)


def test_matrix_on_meta_is_refused():
    a = torch.empty(14, 8, device="meta", requires_grad=True)
    optimizer = NASP([a], nodes="darts")
    a.grad = torch.empty_like(a)
    for use in (optimizer.step, optimizer.gates):
        with pytest.raises(ValueError, match=r"holds numbers, found .* on meta"):
            use()


def test_mask_that_shrank_in_place_is_refused():
    mask = torch.ones(14, 8, dtype=torch.bool)
    a = torch.full((14, 8), 0.5, requires_grad=True)
    optimizer = NASP([a], nodes="darts", mask=mask)
    a.grad = torch.ones_like(a)
    optimizer.step()
    mask.data = mask[:3]
    with pytest.raises(ValueError, match=r"mask to fit the matrix \(14, 8\).*got \(3, 8\)"):
        optimizer.step()


@pytest.mark.parametrize(("steps", "count"), [(0, 0), (0, 4), (2, 0)])
@pytest.mark.parametrize("what", ["matrix", "gradient", "exp_avg", "exp_avg_sq"])
def test_tensor_whose_storage_was_resized_is_refused(what, steps, count):
    a = torch.rand(14, 8).requires_grad_()
    optimizer = NASP([a], nodes="darts")
    for _ in range(steps):
        a.grad = torch.rand(14, 8)
        optimizer.step()
    a.grad = torch.rand(14, 8)
    if not steps:  # a state, but no step by its addresses yet
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    named = {"matrix": a, "gradient": a.grad, **optimizer.state[a]}
    named[what].untyped_storage().resize_(count)
    with pytest.raises(ValueError, match="to have memory for its elements, found a storage of"):
        optimizer.step()
    if what == "matrix":
        for use in (optimizer.gates, optimizer.discrete().__enter__):
            with pytest.raises(ValueError, match="to have memory for its elements"):
                use()
