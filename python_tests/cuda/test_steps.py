# SPDX-License-Identifier: MIT
"""Whole steps of a search through the CUDA side of the fused operators, and how many launches they take."""

import ctypes
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

import nasp_ext
from nasp_ext.arch.gates import MIXED, PRUNED, Gates
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.ops import cells

OPERATORS = ("cell_forward", "cell_backward")
NODES = (0, 2, 5, 9, 14)  # the edges of a cell that end in each node
NO_LAUNCH = {  # operators of PyTorch that only describe memory
    *("view", "expand", "t", "transpose", "slice", "select", "narrow", "alias", "permute", "detach"),
    *("as_strided", "as_strided_", "unsqueeze", "squeeze", "unbind", "_unsafe_view", "lift_fresh"),
    *("empty", "empty_like", "new_empty", "empty_strided"),
}
FOREACH_TENSORS = {1: 110, 2: 64, 3: 48}  # of a launch, by how many lists its parameters hold


def drawn(space: CellSpace, edges_per_node: int, seed: int) -> tuple[int, ...]:
    """A random option for ``edges_per_node`` edges of every node."""
    generator = torch.Generator().manual_seed(seed)
    selectable = space.selectable()
    active = []
    for first in range(0, space.rows, NODES[-1]):
        for begin, end in pairwise(NODES):
            kept = torch.randperm(end - begin, generator=generator)[:edges_per_node]
            for row in range(begin, end):
                options = [k for k in range(space.options) if selectable[first + row, k]]
                option = options[int(torch.randint(len(options), (), generator=generator))]
                active.append(option if row - begin in kept else PRUNED)
    return tuple(active)


def mixture(space: CellSpace, dtype: torch.dtype) -> tuple[Tensor, tuple[int, ...]]:
    """Weights of all options, as DARTS has them, and what is active then."""
    scores = torch.linspace(-1, 1, space.rows * space.options, dtype=dtype).view(space.rows, -1)
    return scores.masked_fill(~space.mask(), -torch.inf).softmax(-1), (MIXED,) * space.rows


def gates_of(space: CellSpace, active: Sequence[int], dtype: torch.dtype) -> Tensor:
    weight = torch.zeros(space.rows, space.options, dtype=dtype)
    for row, option in enumerate(active):
        if option != PRUNED:
            weight[row, option] = 1
    return weight


class Launches(TorchDispatchMode):
    """Counts launches: ours as the emulator does, PyTorch's by its operators."""

    def __init__(self, emulator: ctypes.CDLL) -> None:
        super().__init__()
        self._emulator = emulator
        self.ours: Counter[str] = Counter()
        self.torch: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self._emulator.nasp_launches()
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[1]
        if func.namespace == "nasp_emulated":
            self.ours[name] += self._emulator.nasp_launches() - before
        elif name.startswith("_foreach"):
            lists = sum(isinstance(a, (list, tuple)) for a in args)
            lists += not name.endswith("_") and name != "_foreach_norm"  # the result
            self.torch[name] += -(-len(args[0]) // FOREACH_TENSORS[lists])
        elif name not in NO_LAUNCH and not name.startswith("_record_function"):
            self.torch[name] += 1
        return result

    def total(self) -> int:
        return sum(self.ours.values()) + sum(self.torch.values())


def architecture_step(
    net: nn.Module, x: Tensor, y: Tensor, weight: Tensor, active: tuple[int, ...]
) -> Tensor:
    weight = weight.clone().requires_grad_()
    loss = F.cross_entropy(net(x, Gates(weight, active, True)), y)
    (grad,) = torch.autograd.grad(loss, [weight])
    return grad


def weight_step(
    net: nn.Module, x: Tensor, y: Tensor, weight: Tensor, active: tuple[int, ...], optimizer: Optimizer
) -> None:
    """As the search does it, on clipped gradients."""
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x, Gates(weight, active, True)), y)
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 5.0, foreach=True)
    optimizer.step()


def sgd(net: nn.Module) -> Optimizer:
    return torch.optim.SGD(net.parameters(), 0.025, momentum=0.9, weight_decay=3e-4, foreach=True)


@pytest.fixture
def emulated(emulator: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    """The networks run through the emulated kernels."""
    emulator.nasp_set_order(ctypes.c_uint64(0))
    for name in OPERATORS:
        monkeypatch.setattr(cells, f"_{name.upper()}", getattr(torch.ops.nasp_emulated, name).default)
    return emulator


@pytest.mark.parametrize(
    "name, mixed, options",
    [
        ("darts", False, {}),
        ("nasp", False, {"affine": True, "pool_norm": False}),
        ("darts", True, {}),
        ("nasp", True, {"affine": True, "pool_norm": False}),
    ],
    ids=["darts", "nasp_affine", "darts_mixture", "nasp_affine_mixture"],
)
def test_both_steps_give_what_they_give_on_the_cpu(
    emulated: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, name: str, mixed: bool, options: dict[str, bool]
) -> None:
    """In float64: float32 networks differ through the kinks of ReLU alone."""
    space = nasp_ext.space(name)
    x, y = torch.randn(2, 3, 7, 7).double(), torch.randint(10, (2,))
    active = drawn(space, 2, seed=1)
    weight = gates_of(space, active, x.dtype)
    if mixed:
        weight, active = mixture(space, x.dtype)
    start = nasp_ext.supernet(space, channels=2, cells=3, **options).double()
    found: list[list[Tensor]] = []
    for operators in ("nasp_emulated", "nasp_ext"):
        for operator in OPERATORS:
            native = getattr(getattr(torch.ops, operators), operator).default
            monkeypatch.setattr(cells, f"_{operator.upper()}", native)
        net = nasp_ext.supernet(space, channels=2, cells=3, **options).double()
        net.load_state_dict(start.state_dict())
        grads = [architecture_step(net, x, y, weight, active)]
        weight_step(net, x, y, weight, active, sgd(net))
        grads.append(architecture_step(net.eval(), x, y, weight, active))
        found.append([*grads, *net.state_dict().values()])
    for actual, expected in zip(*found, strict=True):
        # Some running means are 0 but for rounding.
        scale = max(float(expected.abs().max()), 1e-6)
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("name", ["darts", "nasp"])
@pytest.mark.parametrize("edges, most", [(2, (800, 600)), (5, (1000, 700))], ids=["two_edges", "all_edges"])
def test_steps_of_eight_cells_take_few_launches(
    emulated: ctypes.CDLL, name: str, edges: int, most: tuple[int, int]
) -> None:
    """With two edges for each node, as NASP keeps them, against 16,389 and 3,037 in the authors' style."""
    space = nasp_ext.space(name)
    net = nasp_ext.supernet(space, channels=2, cells=8)
    x, y = torch.randn(2, 3, 8, 8), torch.randint(10, (2,))
    active = drawn(space, edges, seed=0)
    weight = gates_of(space, active, x.dtype)
    optimizer = sgd(net)
    weight_step(net, x, y, weight, active, optimizer)  # makes the momenta
    with Launches(emulated) as of_architecture:
        architecture_step(net, x, y, weight, active)
    with Launches(emulated) as of_weights:
        weight_step(net, x, y, weight, active, optimizer)
    assert of_architecture.total() <= most[0], (of_architecture.ours, of_architecture.torch)
    assert of_weights.total() <= most[1], (of_weights.ours, of_weights.torch)


def test_steps_of_a_mixture_take_few_launches(emulated: ctypes.CDLL) -> None:
    """All 8 options of all 14 edges of eight cells, forward, backward and once more for the backward."""
    space = nasp_ext.space("darts")
    net = nasp_ext.supernet(space, channels=2, cells=8)
    x, y = torch.randn(2, 3, 8, 8), torch.randint(10, (2,))
    weight, active = mixture(space, x.dtype)
    with Launches(emulated) as of_architecture:
        architecture_step(net, x, y, weight, active)
    assert of_architecture.total() <= 2300, (of_architecture.ours, of_architecture.torch)
