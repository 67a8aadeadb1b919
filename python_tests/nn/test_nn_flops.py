# SPDX-License-Identifier: MIT
"""FLOPs of fused networks, as PyTorch's counters see them, against those of the plain modules."""

import pytest
import torch
from nn_drawn import random_gates
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, flop_registry

from nasp_ext.arch.gates import MIXED, Gates
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.cell import Cell
from nasp_ext.families.cells.genotype import Genotype
from nasp_ext.families.cells.layout import CellLayout, EdgeLayout, Norms, Place
from nasp_ext.families.cells.published import GENOTYPES
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.nn import MixedOp, layer_costs, plain_modules, total_cost

aten = torch.ops.aten
ARCH = Genotype.from_arch(
    "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|"
)


def convolution(x, weight, *_, out_val):
    return conv_flop_count(x.shape, weight.shape, out_val.shape)


def convolution_backward(grad, x, weight, *arguments, out_val):
    """PyTorch's own formula multiplies the gradient of a depthwise weight by the channels."""
    wanted = arguments[-1]
    return (wanted[0] + wanted[1]) * conv_flop_count(x.shape, weight.shape, grad.shape)


def depthwise(x, weight, *_, out_val):
    return conv_flop_count(x.shape, weight.shape, out_val.shape) if weight.shape[1] < x.shape[1] else 0


RIGHT = flop_registry | {aten.convolution: convolution, aten.convolution_backward: convolution_backward}


class Counter(TorchDispatchMode):
    """Counts by formulas as FlopCounterMode does, without its module hooks, for which cells run plain."""

    def __init__(self, formulas=RIGHT):
        super().__init__()
        self.formulas, self.total = formulas, 0

    def __torch_dispatch__(self, operator, types, arguments=(), named=None):
        out = operator(*arguments, **(named or {}))
        formula = self.formulas.get(operator._overloadpacket)
        if formula is not None:
            self.total += formula(*arguments, **(named or {}), out_val=out)
        return out


def counted(call, formulas=RIGHT) -> int:
    with Counter(formulas) as counter:
        call()
    return counter.total


def plain(call, formulas=RIGHT) -> int:
    with plain_modules():
        return counted(call, formulas)


DERIVED = {"DARTS_V2": GENOTYPES["DARTS_V2"], "one input": ARCH}


@pytest.mark.parametrize("name", DERIVED)
def test_derived_network_counts_twice_its_multiply_adds(name, fused_runs):
    net, x = derived_network(DERIVED[name], 4, 3), torch.rand(2, 3, 9, 8)
    found = counted(lambda: net.eval()(x))
    assert "cell" in fused_runs
    assert found == 2 * len(x) * total_cost(layer_costs(net, 9, 8))[1] == plain(lambda: net(x))


@pytest.mark.parametrize("name", DERIVED)
def test_training_step_counts_the_gradients_and_the_depthwise_outputs_twice(name, fused_runs):
    net, x = derived_network(DERIVED[name], 4, 3), torch.rand(2, 3, 9, 8)
    again = plain(lambda: net(x), {aten.convolution: depthwise})
    expected = plain(lambda: net(x).sum().backward()) + again
    assert not fused_runs
    assert counted(lambda: net(x).sum().backward()) == expected
    assert fused_runs


def drawn(name, mixed, seed=0):
    searched = space(name)
    net = supernet(searched, 2, 3, 4)
    edges = None if name == "nas-bench-201" else 2
    generator = torch.Generator().manual_seed(seed)
    gates = random_gates(searched, generator, edges=edges, mixed=mixed, dtype=torch.float32)
    weight = gates.weight.requires_grad_()
    return net, torch.rand(2, 3, 8, 7), Gates(weight, gates.active, gates.unit)


def of_mixed_edges(net, x, gates) -> int:
    """What the options of mixed edges count forward: they run once more in backward."""
    without = tuple(-1 if option == MIXED else option for option in gates.active)
    weight = gates.weight.detach()
    with torch.no_grad():
        return plain(lambda: net(x, Gates(weight, gates.active))) - plain(
            lambda: net(x, Gates(weight, without))
        )


@pytest.mark.parametrize("mixed", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", ["darts", "nasp", "nas-bench-201"])
def test_supernet_counts_forward_what_plain_modules_count(name, mixed):
    net, x, gates = drawn(name, mixed)
    assert counted(lambda: net(x, gates)) == plain(lambda: net(x, gates)) > 0


@pytest.mark.parametrize("mixed", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", ["darts", "nasp", "nas-bench-201"])
def test_architecture_step_counts_unselected_options_and_mixed_ones_twice(name, mixed):
    net, x, gates = drawn(name, mixed)
    step = lambda: torch.autograd.grad(net(x, gates).square().sum(), gates.weight)  # noqa: E731
    assert counted(step) == plain(step) + of_mixed_edges(net, x, gates)


@pytest.mark.parametrize("mixed", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", ["darts", "nasp", "nas-bench-201"])
def test_step_of_weights_and_gates_counts_all_of_it(name, mixed):
    net, x, gates = drawn(name, mixed)
    step = lambda: net(x, gates).square().sum().backward()  # noqa: E731
    with torch.no_grad():  # of the options that run
        again = plain(lambda: net(x, gates), {aten.convolution: depthwise})
    assert counted(step) == plain(step) + again + of_mixed_edges(net, x, gates)


def test_what_no_gradient_reaches_is_not_counted_backward(fused_runs):
    options = ("sep_conv_3x3", "nor_conv_3x3")
    edges = (EdgeLayout(0, 0, options, 0), EdgeLayout(1, 1, options, 1))  # nothing reads the second node
    cell = Cell(CellLayout(edges, 2, (2,)), Place((3, 5), 4, False, False), Norms(True, True))
    x0, x1 = torch.rand(2, 3, 6, 5), torch.rand(2, 5, 6, 5, requires_grad=True)
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    gates = Gates(weight, (0, 1), unit=True)
    step = lambda: cell(x0, x1, gates.choices(), gates=weight).square().sum().backward()  # noqa: E731
    again = 2 * (2 * 2 * 4 * 9 * 30)  # two depthwise convolutions
    assert counted(step) == plain(step) + again
    assert fused_runs == ["cell"]


@pytest.mark.parametrize("weights", [[0, 0, 0, 0, 1.0, 0, 0, 0], [0.5] * 8, [0] * 8])
def test_mixed_op_counts_what_plain_modules_count(weights, fused_runs):
    op, x, row = MixedOp(4, 2), torch.rand(2, 4, 7, 6), torch.tensor(weights, dtype=torch.float32)
    assert counted(lambda: op(x, row)) == plain(lambda: op(x, row))
    assert fused_runs == ["mixed_op"]


def test_backward_inside_the_counter_of_a_forward_outside_is_counted():
    """FlopCounterMode hooks into every module, for which a forward inside runs plain; a backward does not."""
    net, x = derived_network(GENOTYPES["DARTS_V2"], 4, 3), torch.rand(2, 3, 8, 8)
    loss = net(x).sum()
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    assert torch.ops.nasp_ext.cell_backward in counter.get_flop_counts()["Global"]
    forward = plain(lambda: net(x))
    # Every convolution has two gradients, but the image has none.
    first = 2 * 2 * 12 * 27 * 64
    again = plain(lambda: net(x), {aten.convolution: depthwise})
    assert counter.get_total_flops() == 2 * forward - first + again


def flops_of_convolutions(call) -> int:
    with profile(with_flops=True) as found:
        call()
    return sum(event.flops for event in found.events() if event.name == "aten::conv2d")


@pytest.mark.parametrize("kind", ["forward", "architecture step"])
def test_profiler_counts_the_convolutions_of_plain_modules(kind, fused_runs):
    net, x, gates = drawn("darts", 0.0)
    calls = {
        "forward": lambda: net(x, gates),
        "architecture step": lambda: torch.autograd.grad(net(x, gates).sum(), gates.weight),
    }
    with plain_modules():
        expected = flops_of_convolutions(calls[kind])
    assert not fused_runs
    assert flops_of_convolutions(calls[kind]) == expected > 0
    assert fused_runs
