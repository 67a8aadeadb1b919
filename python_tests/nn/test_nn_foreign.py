# SPDX-License-Identifier: MIT
"""Checkpoints of the DARTS, PC-DARTS and NASP authors' networks: they load, and compute the same here."""

import nn_theirs as theirs
import pytest
import torch
from torch import nn

from nasp_ext import GENOTYPES, Gates, Genotype, derived_network, supernet
from nasp_ext.arch.registry import space
from nasp_ext.nn import build_primitive

PC_DARTS = GENOTYPES["PC_DARTS_CIFAR"]
NASP_CELLS = (  # Yao et al. 2020, under the names of their code
    [
        *(("conv_3x1_1x3", 0), ("conv 3x3", 1), ("dil_conv_3x3", 2), ("conv 3x3", 1)),
        *(("dil_conv_3x3", 2), ("conv 3x3", 0), ("skip_connect", 0), ("dil_conv_3x3", 3)),
    ],
    [
        *(("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_5x5", 1)),
        *(("skip_connect", 2), ("skip_connect", 3), ("skip_connect", 0), ("skip_connect", 1)),
    ],
)
CONCAT = (2, 3, 4, 5)
NASP = Genotype(NASP_CELLS[0], CONCAT, NASP_CELLS[1], CONCAT)


def cells_of(genotype):
    return [(genotype.pairs(cell), genotype.output(cell)) for cell in ("normal", "reduce")]


NETWORKS = {
    "DARTS": (GENOTYPES["DARTS_V2"], cells_of(GENOTYPES["DARTS_V2"]), theirs.DARTS_OPS),
    "PC-DARTS": (PC_DARTS, cells_of(PC_DARTS), theirs.DARTS_OPS),
    "NASP": (NASP, [(edges, CONCAT) for edges in NASP_CELLS], theirs.NASP_OPS),
}


def moved(net):
    """The network with statistics and affine weights other than those it starts with."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return net.double()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("name", sorted(theirs.DARTS_OPS | theirs.NASP_OPS))
def test_weights_of_every_operation_load_and_compute_the_same(name, affine, stride, assert_close):
    ops = theirs.DARTS_OPS | theirs.NASP_OPS
    original = moved(ops[name](4, stride, affine)).eval()
    ours = build_primitive(name, 4, stride, affine=affine).double().eval()
    ours.load_state_dict(original.state_dict())
    x = torch.randn(2, 4, 8, 6, dtype=torch.float64)
    assert_close(ours(x), original(x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_retrained_network_loads_and_computes_the_same(name, training, assert_close):
    genotype, cells, ops = NETWORKS[name]
    original = moved(theirs.derived(cells, ops, 4, 6, auxiliary=True)).train(training)
    ours = derived_network(genotype, 4, 6, auxiliary=True).double().train(training)
    ours.load_state_dict(original.state_dict())
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    logits, auxiliary = original(x)
    found = ours(x)
    assert_close(found[0] if training else found, logits)
    if training:
        torch.testing.assert_close(found[1], auxiliary, rtol=1e-9, atol=1e-9)  # BN over two images
    else:
        assert auxiliary is None


@pytest.mark.parametrize("name, operations", [("darts", theirs.DARTS_OPS), ("nasp", theirs.NASP_OPS)])
def test_a_supernet_loads_and_computes_the_same(name, operations, assert_close):
    found = space(name)
    by_our_names = {Genotype([(n, 0)] * 2, [2], [(n, 0)] * 2, [2]).normal[0][0]: n for n in operations}
    kinds = [
        {by_our_names[n]: operations[by_our_names[n]] for n in names}
        for names in (found.normal, found.reduce)
    ]
    original = moved(theirs.searched(*kinds, 2, 4)).eval()
    ours = supernet(found, 2, 4).double().eval()
    ours.load_state_dict(original.state_dict())
    weight = torch.rand(found.rows, found.options, dtype=torch.float64) * found.mask()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    half = found.rows // 2
    rows = (weight[:half, : len(found.normal)], weight[half:, : len(found.reduce)])
    assert_close(ours(x, Gates(weight)), original(x, rows)[0])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_a_checkpoint_of_a_wrapped_network_loads(prefix):
    net, other = (derived_network(GENOTYPES["DARTS_V1"], 2, 3, auxiliary=True) for _ in range(2))
    state = {prefix + name: value for name, value in net.state_dict().items()}
    other.load_state_dict(state)
    assert list(state) == [prefix + name for name in net.state_dict()]  # the user's own stays as it is
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_network_that_is_wrapped_itself_loads_one_or_two_prefixes(prefix):
    wrapped = nn.ModuleDict({"module": derived_network(GENOTYPES["DARTS_V1"], 2, 3)})
    wrapped.load_state_dict({prefix + name: torch.ones_like(v) for name, v in wrapped.state_dict().items()})
    assert all((p == 1).all() for p in wrapped.parameters())


def test_a_checkpoint_from_before_batch_norms_counted_loads():
    state = {
        name: value
        for name, value in theirs.derived(*NETWORKS["NASP"][1:], 2, 3).state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    derived_network(NASP, 2, 3).load_state_dict(state)


def test_own_checkpoints_load_as_before():
    net, other = (derived_network(NASP, 2, 3) for _ in range(2))
    assert any(name.startswith("cells.0._ops.0.op.1.") for name in net.state_dict())
    other.load_state_dict(net.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_a_checkpoint_of_another_genotype_is_refused():
    original = theirs.derived(cells_of(PC_DARTS), theirs.DARTS_OPS, 2, 3)
    with pytest.raises(RuntimeError, match="Missing key"):
        derived_network(GENOTYPES["DARTS_V1"], 2, 3).load_state_dict(original.state_dict())
    partly = {f"module.{name}" if i else name: v for i, (name, v) in enumerate(original.state_dict().items())}
    with pytest.raises(RuntimeError, match="Missing key"):
        derived_network(PC_DARTS, 2, 3).load_state_dict(partly)
