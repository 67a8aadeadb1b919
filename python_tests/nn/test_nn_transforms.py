# SPDX-License-Identifier: MIT
"""torch.func, forward mode, torch.jit.trace, torch.compile: right values on every path, or a refusal."""

import copy
import warnings

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from nn_drawn import mixture, random_gates
from nn_fused import images, shuffled
from torch import nn
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap

from nasp_ext import ops
from nasp_ext.arch.gates import Gates
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.published import GENOTYPES
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.nn import MixedOp
from nasp_ext.ops.program_values import Geometry
from nasp_ext.optim import NASP

# PyTorch's own jvp compiles its decompositions by torch.jit.script, which it says is old.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

EXACT = {"rtol": 1e-9, "atol": 1e-11}
ROWS = {
    "dense": (torch.linspace(0.1, 0.8, 8).double(), None),
    "one-hot": (torch.eye(8)[4].double(), 4),
    "zero": (torch.zeros(8).double(), -1),
}


@pytest.fixture
def op():
    return shuffled(MixedOp(4, 1)).eval()


@pytest.fixture
def x():
    return images(2, 4, 5, 5)


def outputs(op, x):
    return torch.stack([branch(x) for branch in op._ops]).detach()


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("row", list(ROWS))
def test_forward_mode_gives_the_tangent_of_every_option(op, x, row, told):
    weights, active = ROWS[row]
    tangent = images(8, seed=9)
    arguments = {"active": active} if told else {}
    expected = torch.einsum("k,k...->...", tangent, outputs(op, x))
    _, found = jvp(lambda w: op(x, w, **arguments), (weights,), (tangent,))
    torch.testing.assert_close(found, expected, **EXACT)
    with forward_ad.dual_level():
        out = op(x, forward_ad.make_dual(weights, tangent), **arguments)
        torch.testing.assert_close(forward_ad.unpack_dual(out).tangent, expected, **EXACT)


def test_forward_mode_goes_through_the_input_and_the_parameters_of_a_supernet():
    darts = space("darts")
    net = shuffled(supernet(darts, 2, 3, 4)).eval()
    gates = random_gates(darts, torch.Generator().manual_seed(1), mixed=0.3)
    x, parameters = images(2, 3, 8, 8), dict(net.named_parameters())

    def run(x, weight, parameters):
        return functional_call(net, parameters, (x, Gates(weight, gates.active, gates.unit)))

    start = (x, gates.weight, {name: p.detach() for name, p in parameters.items()})
    tangent = (images(2, 3, 8, 8, seed=2), images(28, 8, seed=3), {n: p.sign() for n, p in start[2].items()})
    _, found = jvp(run, start, tangent)
    step = 1e-6

    def moved(s):
        parameters = {name: p + s * tangent[2][name] for name, p in start[2].items()}
        return functional_call(net, parameters, (start[0] + s * tangent[0], Gates(start[1] + s * tangent[1])))

    with torch.no_grad():
        sides = moved(step), moved(-step)
    expected = (sides[0] - sides[1]) / (2 * step)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("row", list(ROWS))
def test_gradients_of_torch_func_are_those_of_autograd(op, x, row, told):
    weights, active = ROWS[row]
    arguments = {"active": active} if told else {}

    def loss(w):
        return op(x, w, **arguments).square().sum()

    leaf = weights.clone().requires_grad_()
    (expected,) = torch.autograd.grad(mixture(op, x, leaf).square().sum(), leaf)
    torch.testing.assert_close(grad(loss)(weights), expected, **EXACT)
    torch.testing.assert_close(jacrev(loss)(weights), expected, **EXACT)
    products = torch.einsum("i...,k...->ik", outputs(op, x), outputs(op, x))
    torch.testing.assert_close(hessian(loss)(weights), 2 * products, **EXACT)


def test_rows_are_mapped_over(op, x):
    rows = torch.cat([torch.eye(8), torch.full((1, 8), 0.3), torch.zeros(1, 8)]).double()
    found = vmap(lambda w: op(x, w))(rows)
    torch.testing.assert_close(found, torch.einsum("rk,k...->r...", rows, outputs(op, x)), **EXACT)
    found = vmap(grad(lambda w: op(x, w).square().sum()))(rows)
    expected = torch.stack([grad(lambda w: mixture(op, x, w).square().sum())(row) for row in rows])
    torch.testing.assert_close(found, expected, **EXACT)


def test_inputs_are_mapped_over_beside_a_fixed_row(op):
    many, row = images(3, 2, 4, 5, 5), torch.eye(8)[4].double()
    found = vmap(lambda x: op(x, row))(many)
    torch.testing.assert_close(found, torch.stack([op._ops[4](x) for x in many]), **EXACT)


@pytest.mark.parametrize("fused", [True, False])
def test_backward_runs_with_the_parameters_of_a_functional_call(x, fused):
    if fused:
        op = shuffled(MixedOp(4, 1))
    else:
        op = MixedOp.from_modules([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Tanh()]).double()
    other = shuffled(copy.deepcopy(op), seed=5)
    row = torch.zeros(len(op._ops)).double()
    row[-1] = 1.0
    found, expected = (row.clone().requires_grad_() for _ in range(2))
    functional_call(op, dict(other.state_dict()), (x, found)).square().sum().backward()
    mixture(other, x, expected).square().sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, **EXACT)


A = torch.tensor([[0.2, 0.9, 1.4], [-0.3, 0.0, 0.4]]).double()
OPERATORS = {
    "prox_c": (lambda a: ops.prox_c(a)[0], [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
    "prox_c1": (lambda a: ops.prox_c1(a)[0], [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
    "prox_c2": (ops.prox_c2, [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]),
}


@pytest.mark.parametrize("name", list(OPERATORS))
def test_projections_have_tangents(name):
    function, passed = OPERATORS[name]
    tangent = images(2, 3)
    value, found = jvp(function, (A,), (tangent,))
    torch.testing.assert_close(value, function(A), rtol=0, atol=0)
    torch.testing.assert_close(found, tangent * torch.tensor(passed).double(), rtol=0, atol=0)
    torch.testing.assert_close(grad(lambda a: function(a).sum())(A), torch.tensor(passed).double())
    with pytest.raises(RuntimeError, match=rf"{name} takes leading dimensions .*instead of torch.vmap"):
        vmap(function)(A)


def test_sums_have_tangents_and_are_mapped_over():
    ys, w, g = list(images(3, 4, 5)), images(3, seed=1), images(4, 5, seed=2)
    v = images(3, seed=4)
    _, found = jvp(lambda w: ops.mixed_sum(ys, w), (w,), (v,))
    torch.testing.assert_close(found, sum(a * y for a, y in zip(v, ys, strict=True)), **EXACT)
    _, found = jvp(lambda g: ops.branch_dots(g, ys), (g,), (ys[0],))
    torch.testing.assert_close(found, torch.stack([(ys[0] * y).sum() for y in ys]), **EXACT)
    rows = images(6, 3, seed=7)
    torch.testing.assert_close(
        vmap(lambda w: ops.mixed_sum(ys, w))(rows),
        torch.einsum("rk,kij->rij", rows, torch.stack(ys)),
        **EXACT,
    )


def test_operators_without_derivatives_refuse_tangents_and_batches():
    x, weight = images(1, 2, 4, 4).to(memory_format=torch.channels_last), images(2, 2, 1, 1)
    for call in (
        lambda x: ops.block_forward(x, None, None, [weight], Geometry(), False)[0],
        lambda x: ops.pool_forward(x, True, 3, 1)[0],
    ):
        with pytest.raises(RuntimeError, match=r"no gradient|neither a forward-mode derivative"):
            jvp(call, (x,), (x,))
        with pytest.raises(RuntimeError, match="neither a forward-mode derivative nor a batching rule"):
            vmap(call)(x[None])
    with pytest.raises(RuntimeError, match="neither a forward-mode derivative"):
        jvp(lambda a: ops.select_active(a)[0], (A,), (A,))


def traced(call, *inputs):
    with warnings.catch_warnings():  # the tracer warns of every size that Python looks at, and that it is old
        warnings.simplefilter("ignore")
        return torch.jit.trace(call, inputs)


def test_trace_of_a_derived_network_has_its_outputs():
    net = shuffled(derived_network(GENOTYPES["DARTS_V2"], 2, 3, 4)).eval()
    x, other = images(2, 3, 8, 8), images(2, 3, 8, 8, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(traced(net, x)(other), net(other), **EXACT)


class Edge(nn.Module):
    """An edge with its row."""

    def __init__(self, op, row, wanted):
        super().__init__()
        self.op, self.row = op, nn.Parameter(row, requires_grad=wanted)

    def forward(self, x):
        return self.op(x, self.row)


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("row", list(ROWS))
def test_trace_of_an_edge_has_its_outputs(op, x, row, wanted):
    edge = Edge(op, ROWS[row][0].clone(), wanted)
    program = traced(edge, x)
    other = images(2, 4, 5, 5, seed=4)
    expected = mixture(op, other, edge.row)
    torch.testing.assert_close(program(other), expected, **EXACT)
    if wanted:
        found = torch.autograd.grad(program(other).square().sum(), edge.row)
        torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), edge.row), **EXACT)


def compiled_steps():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 5)
    edges = {
        "fused": (MixedOp(4, 1), torch.eye(8)[4]),
        "dense": (MixedOp(4, 1), torch.full((8,), 0.125)),
        "plain": (MixedOp.from_modules([nn.Conv2d(4, 4, 1), nn.Tanh()]), torch.tensor([1.0, 0.0])),
    }
    return {name: (op, row, x) for name, (op, row) in edges.items()}


# torch's tracer itself reads .grad of non-leaf tensors that enter a resumed frame, and warns of it.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["fused", "dense", "plain"])
def test_compiled_step_with_its_backward_is_the_eager_one(name):
    op, row, x = compiled_steps()[name]

    def step(op, row):
        loss = op(x, row).square().sum()
        loss.backward()
        return loss

    torch.compiler.reset()
    pairs = [(copy.deepcopy(op), row.clone().requires_grad_()) for _ in range(2)]
    losses = [torch.compile(step, backend="eager")(*pairs[0]), step(*pairs[1])]
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(pairs[0][1].grad, pairs[1][1].grad)
    for one, other in zip(*(op.parameters() for op, _ in pairs), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
def test_compiled_search_step_is_the_eager_one():
    torch.compiler.reset()
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        op, x = MixedOp(4, 1), torch.randn(2, 4, 5, 5)
        alphas = torch.rand(2, 8).requires_grad_()
        optimizer = NASP([alphas], nodes=(2,), lr=0.1)

        def step(op=op, x=x, alphas=alphas, optimizer=optimizer):
            with optimizer.discrete():
                loss = (op(x, alphas[0]) + op(x, alphas[1])).square().sum()
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        run = torch.compile(step, backend="eager") if compiled else step
        for _ in range(3):
            run()
        found.append(alphas.detach())
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("operator", [ops.mixed_sum, lambda outputs, row: ops.branch_dots(row, outputs)])
def test_mixtures_give_gradients_in_batches(operator):
    row = images(3, seed=9).requires_grad_()
    tensors = [row, *(images(3, seed=i).requires_grad_() for i in range(3))]
    out, upstream = operator(tensors[1:], row), images(5, 3, seed=4)
    found = torch.autograd.grad(out, tensors, upstream, is_grads_batched=True, retain_graph=True)
    single = [torch.autograd.grad(out, tensors, one, retain_graph=True) for one in upstream]
    torch.testing.assert_close(found, tuple(map(torch.stack, zip(*single, strict=True))), **EXACT)
