# SPDX-License-Identifier: MIT
"""Recurrent networks against the formulas of Liu et al. 2019 and Yao et al. 2020, word by word."""

import math

import pytest
import torch
import torch.nn.functional as F
from nn_recurrent import (
    ALL_DROPOUTS,
    BATCH,
    DARTS_RNN,
    SIZE,
    SMALL,
    STEPS,
    network,
    one_hot,
    seeded,
    tokens,
)

from nasp_ext.arch import Gates
from nasp_ext.families.derivation import derive
from nasp_ext.families.networks import derived_network
from nasp_ext.nn import plain_modules

ACTIVATION = {"tanh": math.tanh, "relu": lambda v: max(v, 0.0), "identity": lambda v: v}
ACTIVATION["sigmoid"] = lambda v: 1 / (1 + math.exp(-v))


def by_hand(net, words, weight, hidden=None):
    """Logits of a supernet without dropout, in evaluation mode, by loops over numbers.

    The new hidden state is the mean over all steps; weight: (R, K).
    """
    of = net.space
    cell, size = net.cell, net.embedding
    h0 = torch.zeros(words.shape[1], size).tolist() if hidden is None else hidden.tolist()
    norms = [
        (norm.running_mean.tolist(), (norm.running_var + norm.eps).rsqrt().tolist()) for norm in cell.norms
    ]
    entry, products = cell.entry.tolist(), [w.tolist() for w in cell.weights]
    outputs = []
    for line in words:
        for b, word in enumerate(line.tolist()):
            x = net.encoder.weight[word].tolist()
            both = [*x, *h0[b]]
            raw = [sum(v * entry[i][o] for i, v in enumerate(both)) for o in range(2 * size)]
            states = [
                [
                    h + ACTIVATION["sigmoid"](raw[i]) * (math.tanh(raw[size + i]) - h)
                    for i, h in enumerate(h0[b])
                ]
            ]
            states[0] = [(v - m) * r for v, m, r in zip(states[0], *norms[0], strict=True)]
            row = 0
            for step in range(1, of.steps + 1):
                total = [0.0] * size
                for source in range(step):
                    s = states[source]
                    ch = [sum(v * products[step - 1][i][o] for i, v in enumerate(s)) for o in range(2 * size)]
                    for option, name in enumerate(of.activations):
                        for i in range(size if name != "none" else 0):
                            sent = s[i] + ACTIVATION["sigmoid"](ch[i]) * (
                                ACTIVATION[name](ch[size + i]) - s[i]
                            )
                            total[i] += float(weight[row, option]) * sent
                    row += 1
                states.append([(v - m) * r for v, m, r in zip(total, *norms[step], strict=True)])
            h0[b] = [sum(values) / of.steps for values in zip(*states[1:], strict=True)]
        outputs.append(torch.tensor(h0, dtype=torch.float64))
    return F.linear(torch.stack(outputs), net.encoder.weight, net.decoder.bias), outputs[-1]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("DARTS_V1_rnn", 22_960_000), ("DARTS_V2_rnn", 22_960_000), ("ENAS_rnn", 27_295_000)],
)
def test_published_cells_have_their_number_of_parameters(name, parameters):
    with torch.device("meta"):
        net = derived_network(name, vocabulary=10_000, embedding=850)
    assert sum(p.numel() for p in net.parameters()) == parameters


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("kind", ["one predecessor", "all predecessors", "values", "mixture", "nothing"])
def test_a_supernet_computes_the_formulas(kind, plain):
    net = network().eval()
    with torch.no_grad():
        for norm in net.cell.norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    gates = {
        "one predecessor": one_hot(),
        "all predecessors": one_hot(kept=9),
        "values": one_hot(kept=2, value=0.3),
        "mixture": Gates(torch.rand(SMALL.rows, SMALL.options, dtype=torch.float64)),
        "nothing": Gates(torch.zeros(SMALL.rows, SMALL.options, dtype=torch.float64), (-1,) * SMALL.rows),
    }[kind]
    hidden = torch.randn(BATCH, SIZE, dtype=torch.float64)
    with torch.no_grad(), plain_modules(plain):
        logits, after = net(tokens(), gates, hidden)
    expected, last = by_hand(net, tokens(), gates.weight, hidden)
    torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(after, last, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("of", [SMALL, DARTS_RNN], ids=["3 steps", "8 steps"])
@pytest.mark.parametrize(("kept", "value"), [(1, None), (2, 0.3), (9, None)])
def test_the_gradient_of_one_hot_gates_is_that_of_the_mixture(of, kept, value):
    """Through time, with dropout of all kinds and BatchNorm of the batch."""
    net = network(of, **ALL_DROPOUTS)
    gates = one_hot(of, kept=kept, value=value)
    target = tokens(1)
    hidden = torch.randn(BATCH, SIZE, dtype=torch.float64)
    found = []
    for active, unit in ((gates.active, gates.unit), (None, False)):
        weight = gates.weight.clone().requires_grad_()
        logits, _ = seeded(3, lambda w=weight, a=active, u=unit: net(tokens(), Gates(w, a, u), hidden))
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten())
        found.append([loss, *torch.autograd.grad(loss, [weight, *net.parameters()])])
    for mine, whole in zip(*found, strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-10, atol=1e-12)
    assert found[0][1][:, 1:].all()
    assert not found[0][1][:, 0].any(), "`none` sends nothing"


def test_running_statistics_move_once_in_each_time_step():
    """Each state has a norm of its own; the gradient moves nothing."""
    networks = [network(scale=2.0, **ALL_DROPOUTS) for _ in range(2)]
    for net, plain in zip(networks, (False, True), strict=True):
        with plain_modules(plain):
            for seed in range(2):
                weight = one_hot(seed=seed).weight.requires_grad_()
                logits, _ = seeded(
                    seed, lambda n=net, s=seed, w=weight: n(tokens(s), Gates(w, one_hot(seed=s).active, True))
                )
                logits.sum().backward()
    assert_same_statistics(*networks)
    assert all(int(norm.num_batches_tracked) == 2 * STEPS for norm in networks[0].cell.norms)
    for momentum in (None, 0.5):
        for net, plain in zip(networks, (False, True), strict=True):
            for norm in net.cell.norms:
                norm.reset_running_stats()
                norm.momentum = momentum
            with plain_modules(plain), torch.no_grad():
                for seed in range(2):
                    seeded(seed, lambda n=net, s=seed: n(tokens(s), one_hot(seed=s)))
        assert_same_statistics(*networks)


def assert_same_statistics(mine, theirs):
    states = [net.cell.norms.state_dict() for net in (mine, theirs)]
    assert len(states[0]) == 3 * (SMALL.steps + 1)
    for name, found in states[0].items():
        torch.testing.assert_close(found, states[1][name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kept", [1, 3])
@pytest.mark.parametrize("value", [None, 0.4])
def test_the_derived_network_with_inherited_weights_is_the_supernet(kept, value):
    net = network(**ALL_DROPOUTS)
    with torch.no_grad():
        net(tokens(5), one_hot(seed=5))
    gates = one_hot(kept=kept, value=value)
    derived = derive(net, gates, inherit_weights=True)
    assert derived.training
    for one in (net, derived):
        one.eval()
    torch.testing.assert_close(derived(tokens())[0], net(tokens(), gates)[0], rtol=1e-12, atol=1e-12)
    assert (derived.coefficients is None) == (value is None)
    fresh = derive(net, gates)
    assert not len(fresh.cell.norms)
    assert fresh.coefficients is None
    assert fresh.genotype == SMALL.genotype(gates) == derived.genotype
    assert fresh.dropouts == net.dropouts
