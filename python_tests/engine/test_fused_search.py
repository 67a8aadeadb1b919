# SPDX-License-Identifier: MIT
"""A search with the fused engine finds what a search with plain modules finds."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from nasp_ext.arch.registry import space
from nasp_ext.families.derivation import genotype_of
from nasp_ext.families.networks import supernet
from nasp_ext.nn import plain_modules
from nasp_ext.strategies import strategy


def searched(name: str, preset: str, plain: bool):
    """Genotype, A and weights after a few iterations in float64."""
    torch.manual_seed(0)
    cells = space(name)
    net = supernet(cells, 2, 3, 4).double()
    found = strategy("nasp", cells, preset=preset, lr=0.1, seed=1, dtype=torch.float64)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, weight_decay=3e-4)
    with plain_modules(plain):
        for _ in range(3):
            for architecture in (True, False):
                x, y = torch.randn(4, 3, 9, 8, dtype=torch.float64), torch.randint(4, (4,))
                if architecture:
                    found.step(lambda gates, x=x, y=y: cross_entropy(net(x, gates), y))
                else:
                    optimizer.zero_grad()
                    cross_entropy(net(x, found.propose()), y).backward()
                    optimizer.step()
    return genotype_of(cells, found.best()), found.scores(), net.state_dict()


@pytest.mark.parametrize("name, preset", [("darts", "official"), ("nasp", "paper")])
def test_fused_search_finds_the_genotype_of_plain_modules(name, preset):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # others would only wait for such small images
    fused, plain = (searched(name, preset, switched) for switched in (False, True))
    torch.set_num_threads(threads)
    assert fused[0] == plain[0]
    torch.testing.assert_close(fused[1], plain[1], rtol=0, atol=1e-9)
    torch.testing.assert_close(fused[2], plain[2], rtol=1e-9, atol=1e-9)
    assert len(fused[1].unique()) > 20  # it has moved
