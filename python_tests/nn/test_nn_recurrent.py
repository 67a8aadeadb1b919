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


def by_hand(net, words, weight, hidden):
    """Logits and last hidden states of a supernet without dropout, by loops over numbers; weight: (R, K)."""
    of, cell = net.space, net.cell
    entry, products = cell.entry.tolist(), [w.tolist() for w in cell.weights]
    rows, outputs = hidden.tolist(), []
    for line in words.tolist():
        embedded = net.encoder.weight[line].tolist()
        first = [sent(h, product([*x, *h], entry), "tanh") for x, h in zip(embedded, rows, strict=True)]
        states, row = [normed(first, cell.norm.eps)], 0
        for step in range(1, of.steps + 1):
            total = [[0.0] * SIZE for _ in rows]
            for source in range(step):
                for b, s in enumerate(states[source]):
                    ch = product(s, products[step - 1])
                    for option, name in enumerate(of.activations):
                        if name != "none":
                            share = float(weight[row, option])
                            total[b] = [
                                t + share * v for t, v in zip(total[b], sent(s, ch, name), strict=True)
                            ]
                row += 1
            states.append(normed(total, cell.norm.eps))
        rows = [
            [sum(values) / of.steps for values in zip(*(state[b] for state in states[1:]), strict=True)]
            for b in range(len(rows))
        ]
        outputs.append(torch.tensor(rows, dtype=torch.float64))
    return F.linear(torch.stack(outputs), net.encoder.weight, net.decoder.bias), outputs[-1]


def product(x, matrix):
    return [sum(v * matrix[i][o] for i, v in enumerate(x)) for o in range(len(matrix[0]))]


def sent(state, ch, name):
    """s + sigmoid(c) (f(h) - s)."""
    c, h = ch[: len(state)], ch[len(state) :]
    return [
        s + ACTIVATION["sigmoid"](gate) * (ACTIVATION[name](v) - s)
        for s, gate, v in zip(state, c, h, strict=True)
    ]


def normed(rows, eps):
    """Of each unit the mean over the batch 0, the variance 1."""
    columns = []
    for values in zip(*rows, strict=True):
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        columns.append([(v - mean) / math.sqrt(variance + eps) for v in values])
    return [list(row) for row in zip(*columns, strict=True)]


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


def test_the_norm_has_the_statistics_of_the_batch_in_evaluation_too():
    """Those of each state and time step: a network that is not trained any more stays bounded."""
    net = network(dropout=0.0)
    assert not list(net.cell.buffers())
    with torch.no_grad():
        logits = net(tokens(), one_hot())[0]
        assert torch.equal(net.eval()(tokens(), one_hot())[0], logits)
        long = net.read(tokens(steps=200), one_hot()).raw
    assert long.abs().max() <= (BATCH - 1) ** 0.5


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
    assert fresh.cell.norm is None
    assert fresh.coefficients is None
    assert fresh.genotype == SMALL.genotype(gates) == derived.genotype
    assert fresh.dropouts == net.dropouts
