# SPDX-License-Identifier: MIT
"""The CUDA side of every operator against the CPU operators, bit for bit, and against the reference.

Each test runs in the emulator, in several orders of threads, and on a GPU where there is one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from nasp_ext import ops

CPU = torch.ops.nasp_ext
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
DARTS = (0, 2, 5, 9, 14, 16, 19, 23, 28)


def coarse(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Multiples of 1/4 in [-1, 2]: ties and both clips are frequent."""
    return torch.randint(-4, 9, shape).to(dtype) / 4


def layouts(dtype: torch.dtype) -> list[Tensor]:
    return [
        coarse(14, 8, dtype=dtype),
        coarse(1, 1, dtype=dtype),
        coarse(2, 3, 5, dtype=dtype),
        coarse(0, 8, dtype=dtype),
        coarse(8, 14, dtype=dtype).T,
        coarse(14, 9, dtype=dtype)[:, 1:],
        coarse(3, 300, dtype=dtype)[:, ::2],
        coarse(15 * 8 + 1, dtype=dtype)[1:].view(15, 8),
    ]


def same(actual: Tensor, expected: Tensor) -> bool:
    """The same bits; `actual` may be on another device."""
    return actual.dtype == expected.dtype and torch.equal(actual.cpu(), expected)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["prox_c", "prox_c1"])
def test_projection_has_the_bits_of_the_cpu(device: torch.device, name: str, dtype: torch.dtype) -> None:
    for a in layouts(dtype):
        for mask in (None, torch.rand(a.shape) < 0.7, torch.rand(a.shape[-1]) < 0.7):
            values, index = getattr(ops, name)(a.to(device), None if mask is None else mask.to(device))
            rows = None if mask is None else mask.expand(a.shape)
            expected = getattr(CPU, name)(a, rows, None)
            assert same(values, expected[0])
            assert same(index, expected[1])
            reference = getattr(ops.reference, name)(a, mask)
            assert same(values, reference[0])
            assert same(index, reference[1])


def test_projection_breaks_ties_as_the_cpu_does(device: torch.device) -> None:
    for shape in ((200, 8), (200, 5)):
        a = torch.full(shape, 0.5, device=device)
        index = ops.prox_c(a, generator=seeded())[1]
        assert same(index, ops.reference.prox_c(a.cpu(), generator=seeded())[1])
        assert len(set(index.tolist())) == shape[1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_has_the_bits_of_the_cpu(device: torch.device, dtype: torch.dtype) -> None:
    for a in layouts(dtype):
        assert same(ops.prox_c2(a.to(device)), CPU.prox_c2(a, None))
        mask = torch.rand(a.shape) < 0.7
        assert same(ops.prox_c2(a.to(device), mask.to(device)), ops.reference.prox_c2(a, mask))


@pytest.mark.parametrize("options", [8, 5])
def test_nan_marks_its_row_and_no_other(device: torch.device, options: int) -> None:
    a = coarse(6, options).to(device)
    a[4, 2] = float("nan")
    values, index = ops.prox_c(a)
    weight, active = ops.select_active(a, (0, 3, 6), 1)
    assert index[4] == active[4] == ops.NAN_ROW
    assert values[4].isnan().all()
    assert weight[4].isnan().all()
    assert (index >= 0).sum() == 5
    assert ops.prox_c2(a).isnan().sum() == 1
    with pytest.raises(ValueError, match="found NaN in row 4"):
        ops.check_selection(active.tolist())


def test_gradient_of_the_projection_reaches_the_kept_entry(device: torch.device) -> None:
    a = torch.tensor([[0.2, 0.7], [1.5, 0.3]], device=device, requires_grad=True)
    ops.prox_c(a)[0].sum().backward()
    assert a.grad is not None
    assert a.grad.tolist() == [[0.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("edges", [None, 1, 2, 9])
@pytest.mark.parametrize("keep_value", [False, True])
def test_selection_is_that_of_the_reference(
    device: torch.device, dtype: torch.dtype, edges: int | None, keep_value: bool
) -> None:
    for a in (coarse(28, 8, dtype=dtype), coarse(28, 5, dtype=dtype), coarse(8, 28, dtype=dtype).T):
        for mask in (None, torch.rand(a.shape) < 0.6):
            for generator in (None, seeded()):
                arguments: dict[str, Any] = {"keep_value": keep_value}
                expected = ops.reference.select_active(
                    a, DARTS, edges, mask=mask, **arguments, generator=generator and seeded()
                )
                weight, active = ops.select_active(
                    a.to(device),
                    DARTS,
                    edges,
                    mask=None if mask is None else mask.to(device),
                    **arguments,
                    generator=generator,
                )
                assert same(weight, expected[0])
                assert same(active, expected[1])


def state(dtype: torch.dtype, layout: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The tensors that nasp_step_ changes."""
    names = ("a", "weight", "exp_avg", "exp_avg_sq")
    tensors = {name: layout(torch.rand(28, 8, dtype=dtype)) for name in names}
    return {**tensors, "active": torch.zeros(28, dtype=torch.int32)}


def steps(state: dict[str, Tensor], grads: Sequence[Tensor], adam: bool, **options: Any) -> dict[str, Tensor]:
    """A copy of ``state`` after a step for every gradient."""
    device = grads[0].device
    own = {name: x.to(device).clone(memory_format=torch.preserve_format) for name, x in state.items()}
    moments = (own["exp_avg"], own["exp_avg_sq"]) if adam else (None, None)
    for count, grad in enumerate(grads, 1):
        ops.nasp_step_(own["a"], grad, own["weight"], own["active"], *moments, step=count, lr=0.1, **options)
    return own


def transposed(x: Tensor) -> Tensor:
    return x.T.contiguous().T


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("adam", [True, False])
@pytest.mark.parametrize("edges", [None, 2])
@pytest.mark.parametrize("layout", [torch.clone, transposed])
def test_step_has_the_bits_of_the_cpu(
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    adam: bool,
    edges: int | None,
    layout: Callable[[Tensor], Tensor],
) -> None:
    start = state(dtype, layout)
    grads = [torch.randn(28, 8, dtype=dtype) for _ in range(3)]
    mask, cost = torch.rand(28, 8) < 0.7, torch.rand(8, dtype=dtype)
    for options in ({}, {"cost": cost, "eta": 0.1, "mask": mask, "keep_value": True, "weight_decay": 1e-3}):
        common: dict[str, Any] = {"node_offsets": DARTS, "edges_per_node": edges}
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in options.items()}
        actual = steps(start, [g.to(device) for g in grads], adam, **common, **moved)
        with monkeypatch.context() as patch:
            patch.setattr("nasp_ext.ops.step._NASP_STEP", CPU.nasp_step_.default)
            expected = steps(start, grads, adam, **common, **options)
        assert all(same(actual[name], expected[name]) for name in start)


def test_step_along_a_gradient_that_is_not_finite_changes_nothing_in_its_row(device: torch.device) -> None:
    start = state(torch.float32, torch.clone)
    for bad in (float("nan"), float("inf")):
        grad = torch.randn(28, 8, device=device)
        grad[3, 5] = bad
        after = steps(start, [grad], adam=True)
        assert after["active"][3] == ops.NAN_ROW
        for name in ("a", "exp_avg", "exp_avg_sq"):
            assert same(after[name][3], start[name][3])
            assert not same(after[name][4], start[name][4])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (0, 3), (33,), (2, 16, 9, 9), (3, 4097)])
@pytest.mark.parametrize("options", [1, 8, 11])
def test_dots_and_mixtures_have_the_bits_of_the_cpu(
    device: torch.device,
    assert_close: Callable[[Tensor, Tensor], None],
    dtype: torch.dtype,
    shape: tuple[int, ...],
    options: int,
) -> None:
    grad = torch.randn(shape).to(dtype)
    outputs = [torch.randn(shape).to(dtype) for _ in range(options)]
    arithmetic = torch.float64 if dtype == torch.float64 else torch.float32
    weights = torch.randn(options, dtype=arithmetic)
    moved = [y.to(device).requires_grad_() for y in outputs]
    row = weights.to(device).requires_grad_()

    mixture = ops.mixed_sum(moved, row)
    mixture.backward(grad.to(device))
    grad_outputs, grad_weights = CPU.mixed_sum_backward(grad, outputs, weights)
    assert same(mixture.detach(), CPU.mixed_sum(outputs, weights))
    assert row.grad is not None
    assert same(row.grad, grad_weights)
    for y, expected in zip(moved, grad_outputs, strict=True):
        assert y.grad is not None
        assert same(y.grad, expected)

    dots = ops.branch_dots(grad.to(device), [y.detach() for y in moved])
    assert same(dots, CPU.branch_dots(grad, outputs))
    if dtype == torch.float64:
        assert_close(dots.cpu(), ops.reference.branch_dots(grad, outputs))
        assert_close(mixture.detach().cpu(), ops.reference.mixed_sum(outputs, weights))


def test_dense_layouts_are_kept_and_mixed_layouts_agree(device: torch.device) -> None:
    x = torch.randn(2, 8, 5, 5, device=device)
    last = x.contiguous(memory_format=torch.channels_last)
    weights = torch.tensor([0.25, 0.5], device=device)
    mixture = ops.mixed_sum([last, last], weights)
    assert mixture.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(mixture, ops.mixed_sum([x, x], weights))
    assert torch.equal(mixture, ops.mixed_sum([x, last], weights))
    odd = torch.randn(2 * 8 * 25 + 1, device=device)[1:].view(2, 8, 5, 5)  # not 16-byte aligned
    assert torch.equal(ops.mixed_sum([odd], weights[:1]), odd * 0.25)


def test_sixty_four_branches_fit_one_launch(device: torch.device) -> None:
    outputs = [torch.full((40,), float(k), device=device) for k in range(64)]
    assert ops.branch_dots(torch.ones(40, device=device), outputs).tolist() == [40.0 * k for k in range(64)]
    assert ops.mixed_sum(outputs, torch.ones(64, device=device)).tolist() == [2016.0] * 40


def test_bad_arguments_raise_what_they_raise_on_the_cpu(device: torch.device) -> None:
    a = torch.rand(4, 3, device=device)
    with pytest.raises(ValueError, match="at least one option"):
        ops.prox_c(a[:, :0])
    with pytest.raises(ValueError, match="node_offsets"):
        ops.select_active(a, (0, 3), 1)
    half, active = a.half(), torch.zeros(4, dtype=torch.int32, device=device)
    with pytest.raises(ValueError, match="float32 or float64"):
        ops.nasp_step_(half, half, half, active, step=1, lr=0.1)
    with pytest.raises(ValueError, match="every output"):
        ops.branch_dots(a, [a, a.double()])


@pytest.mark.cuda
def test_kernels_join_a_captured_graph() -> None:
    """A launch on another stream than PyTorch's current one would not be recorded."""
    a, grad = torch.rand(28, 8, device="cuda"), torch.randn(28, 8, device="cuda")
    weight, active = torch.empty_like(a), torch.zeros(28, dtype=torch.int32, device="cuda")
    expected = steps({"a": a, "weight": weight, "active": active}, [grad], adam=False)["a"]
    ops.prox_c(a)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ops.nasp_step_(a, grad, weight, active, step=1, lr=0.1)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(a, expected)
