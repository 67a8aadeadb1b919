# SPDX-License-Identifier: MIT
"""Parameters and multiply-adds of derived networks, counted from their layers."""

import pytest
import torch

from nasp_ext.arch.registry import space
from nasp_ext.families.cells.genotype import Genotype
from nasp_ext.families.cells.published import GENOTYPES
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.nn import layer_costs, total_cost

CONV = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
EXAMPLE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
EDGES = (("sep_conv_5x5", 0), ("skip_connect", 1))


def parameters(net):
    return sum(p.numel() for p in net.parameters())


# The benchmark of Dong & Yang 2020 reports 220.12 M and 113.95 M for CIFAR-10.
@pytest.mark.parametrize("arch, millions, convolutions", [(CONV, 220.12, 6), (EXAMPLE, 113.95, 3)])
def test_networks_have_their_published_multiply_adds(arch, millions, convolutions):
    net = derived_network(Genotype.from_arch(arch), channels=16, cells=17)
    found = total_cost(layer_costs(net, 32))
    stem, classifier = 3 * 16 * 9 * 32 * 32, 64 * 10
    # Twice the channels at half the height and width: a 3x3 convolution costs the same in each stage.
    convolution = 16 * 16 * 9 * 32 * 32
    block = convolution // 2 + convolution + 16 * 32 * 16 * 16
    expected = stem + 15 * convolutions * convolution + 2 * block + classifier
    assert found == (parameters(net), expected)
    assert round(found[1] / 1e6, 2) == millions


def test_depthwise_convolutions_count_one_channel_each():
    net = derived_network(Genotype(EDGES, (2,), EDGES, (2,)), 4, 3)
    layers = {cost.name: cost for cost in layer_costs(net, 8, 6)}
    depthwise, pointwise = layers["cells.0._ops.0.op.1"], layers["cells.0._ops.0.op.2"]
    assert (depthwise.shape, depthwise.multiply_adds) == ((4, 8, 6), 4 * 25 * 8 * 6)
    assert (pointwise.parameters, pointwise.multiply_adds) == (16, 16 * 8 * 6)
    assert (layers["stem.1"].parameters, layers["stem.1"].multiply_adds) == (24, 0)
    assert layers["cells.1._ops.0.op.1"].shape == (8, 4, 3)


@pytest.mark.parametrize("projected", [True, False])
def test_parameters_are_all_those_of_the_network(projected):
    genotype = Genotype(2 * EDGES[:1], (2,), EDGES, (2,), projected=projected)
    net = derived_network(genotype, 4, 4)
    assert total_cost(layer_costs(net, 8))[0] == parameters(net)


def test_an_auxiliary_head_is_not_counted():
    with_head, without = (
        derived_network(GENOTYPES["DARTS_V2"], 4, 3, auxiliary=flag) for flag in (True, False)
    )
    assert layer_costs(with_head, 32) == layer_costs(without, 32)


def test_a_module_that_runs_twice_has_its_parameters_once():
    net = derived_network(Genotype(EDGES, (2,), EDGES, (2,)), 4, 1)
    net.stem = torch.nn.Sequential(net.stem[0], net.stem[1], net.stem[1])
    costs = [cost for cost in layer_costs(net, 8) if cost.kind == "BatchNorm2d" and "stem" in cost.name]
    assert [cost.parameters for cost in costs] == [24, 0]


def test_counting_leaves_the_network_as_it_is():
    net = derived_network(GENOTYPES["DARTS_V2"], 4, 3).double()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    layer_costs(net, 8)
    assert net.training
    assert all(before[name].equal(value) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_a_supernet_is_refused():
    with pytest.raises(ValueError, match="expected a derived network to count, got a supernet"):
        layer_costs(supernet(space("darts"), 2, 3), 8)
