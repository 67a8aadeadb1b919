# SPDX-License-Identifier: MIT
"""Finding the active option of a row: right after every kind of change, one host copy per matrix."""

import pytest
import torch
from nn_drawn import mixture
from torch import nn

from nasp_ext.nn import DARTS_PRIMITIVES, MixedOp
from nasp_ext.nn.dispatch import host_rows
from nasp_ext.nn.dispatch.host_rows import active_option

EDGES = ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))


@pytest.fixture
def copies(monkeypatch):
    """The tensors that were copied to the host."""
    found = []
    original = host_rows._copy_to_host

    def counted(memory):
        found.append(memory)
        return original(memory)

    monkeypatch.setattr(host_rows, "_copy_to_host", counted)
    return found


class DartsStyleCell(nn.Module):
    """A cell as DARTS code writes it: it knows MixedOp's constructor and call, nothing else."""

    def __init__(self, C, reduction):
        super().__init__()
        self._steps = 2
        self._ops = nn.ModuleList()
        for i in range(self._steps):
            for j in range(2 + i):
                stride = 2 if reduction and j < 2 else 1
                self._ops.append(MixedOp(C, stride))

    def forward(self, s0, s1, weights):
        states = [s0, s1]
        offset = 0
        for _ in range(self._steps):
            s = sum(self._ops[offset + j](h, weights[offset + j]) for j, h in enumerate(states))
            offset += len(states)
            states.append(s)
        return torch.cat(states[-self._steps :], dim=1)


class DartsStyleNetwork(nn.Module):
    def __init__(self, discrete):
        super().__init__()
        self.cells = nn.ModuleList([DartsStyleCell(4, False), DartsStyleCell(4, False)])
        self.narrow = nn.Conv2d(8, 4, 1)
        self.reduce = DartsStyleCell(4, True)
        shape = (len(EDGES), len(DARTS_PRIMITIVES))
        self.alphas_normal = nn.Parameter(1e-3 * torch.randn(shape))
        self.alphas_reduce = nn.Parameter(1e-3 * torch.randn(shape))
        self.discrete = discrete

    def weights(self, alphas):
        if not self.discrete:
            return torch.softmax(alphas, dim=-1)
        return alphas

    def forward(self, x):
        s0 = s1 = x
        for cell in self.cells:
            s0, s1 = s1, self.narrow(cell(s0, s1, self.weights(self.alphas_normal)))
        return self.reduce(s0, s1, self.weights(self.alphas_reduce)).mean((1, 2, 3))


def test_softmaxed_rows_of_darts_code_cost_one_copy_per_matrix(copies):
    net = DartsStyleNetwork(discrete=False)
    net(torch.randn(2, 4, 6, 6)).sum().backward()
    assert len(copies) == 3  # softmax makes a new matrix in each of the three cells
    assert all(len(memory) == 40 for memory in copies)


def test_discrete_rows_of_darts_code_cost_one_copy_per_matrix_and_change(copies):
    net = DartsStyleNetwork(discrete=True)
    for iteration in range(1, 4):
        with torch.no_grad():
            for alphas in (net.alphas_normal, net.alphas_reduce):
                alphas.copy_(torch.eye(8)[torch.randint(8, (5,))])
        for _ in range(2):  # the architecture step and the weight step
            net(torch.randn(2, 4, 6, 6)).sum().backward()
        assert len(copies) == 2 * iteration


def test_gradient_of_darts_code_is_that_of_the_mixture():
    net = DartsStyleNetwork(discrete=True).double()
    with torch.no_grad():
        net.alphas_normal.copy_(torch.eye(8)[[4, 1, 0, 3, 7]])
        net.alphas_reduce.copy_(torch.eye(8)[[3, 5, 2, 6, 0]])
        net.alphas_reduce[4] = 0
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    alphas = (net.alphas_normal, net.alphas_reduce)
    found = torch.autograd.grad(net(x).pow(2).sum(), alphas)
    for module in net.modules():
        if isinstance(module, MixedOp):
            module.forward = lambda x, weights, op=module: mixture(op, x, weights)
    expected = torch.autograd.grad(net(x).pow(2).sum(), alphas)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_case_of_a_row_is_read_from_its_values():
    rows = torch.tensor([[0, 1.0, 0], [0, 0, 0.5], [0, 0, 0], [0.2, 0, 0.8], [0, -1, 0]])
    assert [active_option(row) for row in rows] == [
        *((1, True), (2, False), (-1, False)),
        *((None, False), (1, False)),
    ]


@pytest.mark.parametrize(
    "matrix",
    [
        torch.zeros(4, 3),
        torch.zeros(3, 4).t(),
        torch.zeros(2, 4, 3)[1],
        torch.zeros(4, 6)[:, ::2],
        torch.zeros(3, 4).t().requires_grad_(),
        torch.zeros(4, 3, dtype=torch.bfloat16),
    ],
    ids=["plain", "transposed", "part", "strided", "leaf", "half"],
)
def test_rows_are_found_in_any_layout(matrix, copies):
    with torch.no_grad():
        matrix[2, 1] = 1
        matrix[0, 2] = 1
    for _ in range(2):
        assert [active_option(matrix[row])[0] for row in range(4)] == [2, -1, 1, -1]
        assert [active_option(row)[0] for row in matrix.unbind(0)] == [2, -1, 1, -1]
    assert len(copies) == 1


def change_in_place(matrix):
    with torch.no_grad():
        matrix[0, 2] = 1


def change_through_data(matrix):
    matrix.data[0, 2] = 1


def replace_data(matrix):
    matrix.data = torch.tensor([[1.0, 0, 1]])


@pytest.mark.parametrize("change", [change_in_place, change_through_data, replace_data])
def test_change_of_the_matrix_is_seen(change):
    matrix = nn.Parameter(torch.tensor([[1.0, 0, 0]]))
    assert active_option(matrix[0]) == (0, True)
    change(matrix)
    assert active_option(matrix[0]) == (None, False)


@pytest.mark.parametrize("change", [change_in_place, replace_data])
def test_change_is_seen_without_reading_the_device(change, monkeypatch):
    matrix = nn.Parameter(torch.tensor([[1.0, 0, 0]]))
    monkeypatch.setattr(host_rows, "_differs", lambda *_: False)
    assert active_option(matrix[0]) == (0, True)
    change(matrix)
    assert active_option(matrix[0]) == (None, False)


def test_matrix_inside_a_larger_memory_is_read_at_its_place(copies):
    memory = torch.tensor([0.0, 2, 3, 0, 1, 0, 0, 0, 1])
    matrix = torch.empty(0).set_(memory.untyped_storage(), 3, (2, 3))
    assert [active_option(row)[0] for row in matrix] == [1, 2]
    assert len(copies) == 1
    assert active_option(matrix.as_strided((3,), (1,), 0)) == (None, False)


def test_copy_goes_with_its_matrix():
    matrix = torch.eye(3)
    before = len(host_rows._COPIES)
    active_option(matrix[0])
    assert len(host_rows._COPIES) == before + 1
    del matrix
    assert len(host_rows._COPIES) == before


def test_rows_without_a_matrix_are_read_one_by_one(copies):
    assert [active_option(torch.eye(3)[i].clone())[0] for i in range(3)] == [0, 1, 2]
    assert active_option(torch.ones(1).expand(4)) == (None, False)
    assert len(copies) == 4


def test_rows_in_inference_mode_are_read_anew(copies):
    normal = torch.eye(3)
    with torch.inference_mode():
        matrix = torch.eye(3)
        assert active_option(matrix[1]) == (1, True)
        matrix[1, 0] = 1
        assert active_option(matrix[1]) == (None, False)
        assert len(copies) == 2
        assert [active_option(normal[i])[0] for i in range(3)] == [0, 1, 2]
        assert len(copies) == 3
    assert active_option(matrix[1]) == (None, False)


def test_row_read_as_another_dtype_is_copied_itself():
    pairs = torch.zeros(2, 2, dtype=torch.complex64)
    pairs[0, 1] = 1j
    assert active_option(torch.view_as_real(pairs)[0].flatten()) == (3, True)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        active_option(torch.tensor([[0.0, float("nan")]])[0])
