# SPDX-License-Identifier: MIT
"""Small language models with recurrent cells, and architectures for them."""

import torch
import torch.nn.functional as F

from nasp_ext.arch import Gates, space
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.families.recurrent.space import RecurrentSpace

DARTS_RNN = space("darts-rnn")
SMALL = RecurrentSpace("small", DARTS_RNN.activations, steps=3)
ALL_DROPOUTS = {"dropout": 0.4, "dropouth": 0.25, "dropoutx": 0.3, "dropouti": 0.2, "dropoute": 0.1}
VOCABULARY, SIZE, STEPS, BATCH = 11, 6, 7, 5


def tokens(seed=0, steps=STEPS, batch=BATCH):
    return torch.randint(VOCABULARY, (steps, batch), generator=torch.Generator().manual_seed(seed))


def network(of=SMALL, seed=0, scale=12.0, **options):
    """In float64, with weights large enough that activations bend."""
    torch.manual_seed(seed)
    build = supernet if isinstance(of, RecurrentSpace) else derived_network
    net = build(of, vocabulary=VOCABULARY, embedding=SIZE, **options).double()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(scale)
        net.decoder.bias.normal_()
    return net


def one_hot(of=SMALL, seed=0, *, kept=1, value=None):
    """Random gates that keep so many predecessors of each step."""
    generator = torch.Generator().manual_seed(seed)
    active = torch.randint(1, 5, (of.rows,), generator=generator).tolist()
    for low, high in zip(of.node_offsets, of.node_offsets[1:], strict=False):
        order = torch.randperm(high - low, generator=generator).tolist()
        for row in order[kept:]:
            active[low + row] = -1
    weight = torch.zeros(of.rows, of.options, dtype=torch.float64)
    for row, option in enumerate(active):
        if option >= 0:
            weight[row, option] = 1 if value is None else value * (1 + row / 10)
    return Gates(weight, tuple(active), unit=value is None)


def seeded(seed, function):
    torch.manual_seed(seed)
    return function()


def language_loss(net, *arguments, seed=3):
    """The cross-entropy of the next words behind ``tokens``, with masks of this seed."""
    logits, _ = seeded(seed, lambda: net(tokens(), *arguments))
    return F.cross_entropy(logits.flatten(0, 1), tokens(1).flatten())


def one_hot_genotype():
    return SMALL.genotype(one_hot())


def network_of_lstm(**options):
    torch.manual_seed(0)
    return derived_network("LSTM", vocabulary=VOCABULARY, embedding=SIZE, **options).double()
