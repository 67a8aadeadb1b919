# SPDX-License-Identifier: MIT
"""Published cells: exact parameters in the setting of DARTS, and a training step of each."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from nasp_ext import GENOTYPES, derived_network

# Counted with the network classes of the authors' own code (quark0/darts, also for NASNet and AmoebaNet;
# yuhuixu1993/PC-DARTS; xujinfan/NASP-codes) at C = 36, 20 cells, 10 classes: without and with auxiliary head.
PARAMETERS = {
    "NASNet": (3_830_950, 4_288_944),
    "AmoebaNet": (3_145_078, 3_603_072),
    "DARTS_V1": (3_169_414, 3_645_840),
    "DARTS_V2": (3_349_342, 3_825_768),
    "PC_DARTS_CIFAR": (3_634_678, 4_111_104),
    "PC_DARTS_IMAGENET": (3_721_510, 4_197_936),
    "NASP": (7_363_486, 7_839_912),
}


def test_each_published_cell_has_its_numbers():
    assert set(PARAMETERS) == set(GENOTYPES)


@pytest.mark.parametrize("auxiliary", [False, True])
@pytest.mark.parametrize("name", PARAMETERS)
def test_the_network_has_the_parameters_of_the_authors_network(name, auxiliary):
    with torch.device("meta"):
        net = derived_network(name, auxiliary=auxiliary)
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[name][auxiliary]


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_network_lowers_its_loss_in_training_steps(name):
    net = derived_network(name, 4, 3, auxiliary=True)
    x, target = torch.randn(8, 3, 16, 16), torch.arange(8)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    losses = []
    for _ in range(3):
        logits, others = net(x)
        loss = cross_entropy(logits, target) + 0.4 * cross_entropy(others, target)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_column_after_the_row_of_amoebanet_runs_fused(fused_runs):
    derived_network("AmoebaNet", 4, 3)(torch.randn(2, 3, 16, 16))
    assert fused_runs == ["network", "cell", "cell", "cell"]
