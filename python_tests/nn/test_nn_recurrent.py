# SPDX-License-Identifier: MIT
"""Recurrent networks against the formulas of Liu et al. 2019 and Yao et al. 2020, word by word."""

import math

import pytest
import torch
import torch.nn.functional as F

from nasp_ext.arch import Gates, space
from nasp_ext.arch.family import family_of
from nasp_ext.families.derivation import derive
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.families.recurrent.dropout import mask
from nasp_ext.families.recurrent.genotype import RecurrentGenotype
from nasp_ext.families.recurrent.published import GENOTYPES
from nasp_ext.families.recurrent.space import RecurrentSpace
from nasp_ext.nn import plain_modules
from nasp_ext.strategies import strategy

DARTS_RNN = space("darts-rnn")
SMALL = RecurrentSpace("small", DARTS_RNN.activations, steps=3)
ALL_DROPOUTS = {"dropout": 0.4, "dropouth": 0.25, "dropoutx": 0.3, "dropouti": 0.2, "dropoute": 0.1}
VOCABULARY, SIZE, STEPS, BATCH = 11, 6, 7, 5
ACTIVATION = {"tanh": math.tanh, "relu": lambda v: max(v, 0.0), "identity": lambda v: v}
ACTIVATION["sigmoid"] = lambda v: 1 / (1 + math.exp(-v))


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


def by_hand(net, words, weight, hidden=None):
    """Logits of a supernet without dropout, in evaluation mode, by loops over numbers.

    The new hidden state is the mean over all steps; weight: (R, K).
    """
    of = net.space
    cell, size = net.cell, net.embedding
    h0 = torch.zeros(words.shape[1], size).tolist() if hidden is None else hidden.tolist()
    mean, rstd = cell.norm.running_mean, (cell.norm.running_var + cell.norm.eps).rsqrt()
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
            states[0] = [(v - m) * r for v, m, r in zip(states[0], mean.tolist(), rstd.tolist(), strict=True)]
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
                states.append(
                    [(v - m) * r for v, m, r in zip(total, mean.tolist(), rstd.tolist(), strict=True)]
                )
            h0[b] = [sum(values) / of.steps for values in zip(*states[1:], strict=True)]
        outputs.append(torch.tensor(h0, dtype=torch.float64))
    return F.linear(torch.stack(outputs), net.encoder.weight, net.decoder.bias), outputs[-1]


def seeded(seed, function):
    torch.manual_seed(seed)
    return function()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("DARTS_V1_rnn", 22_960_000), ("DARTS_V2_rnn", 22_960_000), ("ENAS_rnn", 27_295_000)],
)
def test_published_cells_have_their_number_of_parameters(name, parameters):
    with torch.device("meta"):
        net = derived_network(name, vocabulary=10_000, embedding=850)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_start_values_are_those_of_the_paper():
    net = supernet(DARTS_RNN, vocabulary=500, embedding=50)
    for p in (net.encoder.weight, net.cell.entry, *net.cell.weights):
        assert p.abs().max() <= 0.04
        assert p.std().item() == pytest.approx(0.04 / math.sqrt(3), rel=0.05)
    assert not net.decoder.bias.any()
    assert net.decoder.weight is net.encoder.weight
    assert not net.cell.norm.affine


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("kind", ["one predecessor", "all predecessors", "values", "mixture", "nothing"])
def test_a_supernet_computes_the_formulas(kind, plain):
    net = network().eval()
    with torch.no_grad():
        net.cell.norm.running_mean.normal_()
        net.cell.norm.running_var.uniform_(0.5, 2)
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


def test_running_statistics_move_once_for_each_state():
    """The same norm follows every state of every time step, in this order; the gradient moves nothing."""
    networks = [network(**ALL_DROPOUTS) for _ in range(2)]
    for net, plain in zip(networks, (False, True), strict=True):
        with plain_modules(plain):
            for seed in range(2):
                weight = one_hot(seed=seed).weight.requires_grad_()
                logits, _ = seeded(
                    seed, lambda n=net, s=seed, w=weight: n(tokens(s), Gates(w, one_hot(seed=s).active, True))
                )
                logits.sum().backward()
    mine, theirs = (net.cell.norm for net in networks)
    assert int(mine.num_batches_tracked) == 2 * STEPS * (SMALL.steps + 1) == int(theirs.num_batches_tracked)
    torch.testing.assert_close(mine.running_mean, theirs.running_mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(mine.running_var, theirs.running_var, rtol=1e-10, atol=1e-12)
    for momentum in (None, 0.5):
        for net, plain in zip(networks, (False, True), strict=True):
            net.cell.norm.reset_running_stats()
            net.cell.norm.momentum = momentum
            with plain_modules(plain), torch.no_grad():
                for seed in range(2):
                    seeded(seed, lambda n=net, s=seed: n(tokens(s), one_hot(seed=s)))
        torch.testing.assert_close(mine.running_mean, theirs.running_mean, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(mine.running_var, theirs.running_var, rtol=1e-10, atol=1e-12)


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


def test_the_state_goes_on_from_segment_to_segment():
    net = network(GENOTYPES["DARTS_V1_rnn"], scale=2.0).eval()
    words = tokens(steps=9)
    whole, last = net(words)
    first, hidden = net(words[:4])
    second, end = net(words[4:], hidden.detach())
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(end, last, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", list(ALL_DROPOUTS))
def test_every_dropout_drops_for_a_whole_sequence(name):
    """Where each falls, told by what is zero: one mask for all time steps."""
    net = network(one_hot_genotype(), scale=2.0, **{name: 0.5})
    calls = {}
    net.cell.register_forward_hook(lambda module, inputs, out: calls.update(inputs=inputs))
    reading = seeded(0, lambda: net.read(tokens()))
    x, _, _, x_mask, h_mask = calls["inputs"]
    found = {
        "dropout": (reading.dropped == 0) & (reading.raw != 0),
        "dropouth": h_mask == 0 if h_mask is not None else torch.zeros(1, dtype=bool),
        "dropoutx": x_mask == 0 if x_mask is not None else torch.zeros(1, dtype=bool),
        "dropouti": x == 0,
        "dropoute": (x == 0).all(-1),
    }
    for other, zeros in found.items():
        if other == name:
            assert 0.1 < zeros.float().mean() < 0.9
            if zeros.dim() == 3:
                assert (zeros == zeros[:1]).all(), "one mask for all time steps"
        elif {name, other} != {"dropoute", "dropouti"}:
            assert not zeros.any()
    words = tokens()
    if name == "dropoute":
        gone = {int(word) for word in words[found[name]]}
        assert gone.isdisjoint({int(word) for word in words[~found[name]]}), "whole words"
    assert torch.equal(net.eval().read(words).raw, net.read(words).dropped), "none in evaluation"


@pytest.mark.parametrize("plain", [True, False])
def test_masks_stand_in_front_of_every_product_and_nowhere_else(plain):
    net = network(RecurrentGenotype((("relu", 0), ("tanh", 1)), (1, 2)), scale=8.0)
    cell, size = net.cell, net.embedding
    x, x_mask, h_mask = (torch.rand(3, BATCH, size, dtype=torch.float64) for _ in range(3))
    x_mask, h_mask = x_mask[0], h_mask[0]
    before = hidden = torch.rand(BATCH, size, dtype=torch.float64)
    with plain_modules(plain):
        found = cell(x, hidden, net._wired(None), x_mask, h_mask)

    def through(state, product, activation):
        c, h = product[:, :size], product[:, size:]
        return state + torch.sigmoid(c) * (activation(h) - state)

    for step, out in zip(x, found, strict=True):
        entry = torch.cat([step * x_mask, before * h_mask], 1) @ cell.entry
        s0 = through(before, entry, torch.tanh)
        s1 = through(s0, (s0 * h_mask) @ cell.weights[0], torch.relu)
        s2 = through(s1, (s1 * h_mask) @ cell.weights[1], torch.tanh)
        before = (s1 + s2) / 2
        torch.testing.assert_close(out, before, rtol=1e-12, atol=1e-12)


def test_masks_keep_the_mean():
    like = torch.zeros(())
    drawn = mask(like, (40_000,), 0.3)
    assert set(drawn.unique().tolist()) == {0.0, 1 / torch.tensor(0.7).item()} or len(drawn.unique()) == 2
    assert drawn.mean() == pytest.approx(1, abs=0.02)
    assert mask(like, (3,), 0.0) is None


def one_hot_genotype():
    return SMALL.genotype(one_hot())


@pytest.mark.parametrize("name", ["nasp", "pa", "pa-lazy", "darts", "gdas", "asng", "random"])
def test_every_strategy_searches_the_space(name):
    found = (
        strategy(name, DARTS_RNN, seed=0)
        if name not in ("pa", "pa-lazy", "darts")
        else strategy(name, DARTS_RNN)
    )
    net = network(DARTS_RNN, **ALL_DROPOUTS).float()

    def loss(gates):
        return F.cross_entropy(net(tokens(), gates)[0].flatten(0, 1), tokens(1).flatten())

    for _ in range(2):
        assert torch.isfinite(found.step(loss))
    genotype = DARTS_RNN.genotype(found.best())
    assert "none" not in genotype.operations
    assert genotype.nodes is None, "one predecessor for each step"
    assert derived_network(genotype, vocabulary=VOCABULARY, embedding=SIZE)(tokens())[0].shape == (
        STEPS,
        BATCH,
        VOCABULARY,
    )


def test_the_lstm_is_torchs():
    net = network_of_lstm()
    words = tokens()
    whole = torch.nn.LSTM(SIZE, SIZE, num_layers=2).double()
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    whole.load_state_dict(
        {
            name.replace("l0", f"l{k}"): getattr(layer, name)
            for k, layer in enumerate(net.layers)
            for name in names
        }
    )
    expected, (h, c) = whole(net.encoder(words))
    logits, (found_h, found_c) = net(words)
    torch.testing.assert_close(logits, net.decode(expected), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found_h, h, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found_c, c, rtol=1e-12, atol=1e-12)
    again, _ = net(words, (h, c))
    torch.testing.assert_close(
        again, net.decode(whole(net.encoder(words), (h, c))[0]), rtol=1e-12, atol=1e-12
    )


def network_of_lstm(**options):
    torch.manual_seed(0)
    return derived_network("LSTM", vocabulary=VOCABULARY, embedding=SIZE, **options).double()


def test_bad_input_is_told_in_one_error():
    net, derived = network(), network(one_hot_genotype())
    with pytest.raises(ValueError, match=r"expected tokens \(T, B\) int64.*float32"):
        net(torch.rand(3, 4), one_hot())
    with pytest.raises(ValueError, match=r"expected tokens \(T, B\) int64, one or more, got \(0, 5\)"):
        net(tokens()[:0], one_hot())
    with pytest.raises(ValueError, match=r"expected a hidden state \(5, 6\), got \(4, 6\)"):
        net(tokens(), one_hot(), torch.zeros(4, 6))
    with pytest.raises(ValueError, match=r"expected Gates with weight \(6, 5\), got NoneType"):
        net(tokens())
    with pytest.raises(ValueError, match=r"expected gates of space 'small', \(6, 5\), got \(36, 5\)"):
        net(tokens(), one_hot(DARTS_RNN))
    with pytest.raises(ValueError, match=r"expected no gates for a derived network"):
        derived.read(tokens(), one_hot())
    with pytest.raises(TypeError, match=r"expected tokens and hidden"):
        derived(tokens(), None, None)
    with pytest.raises(ValueError, match=r"expected dropouth to be in \[0, 1\), got 1"):
        supernet(SMALL, vocabulary=3, embedding=2, dropouth=1)
    with pytest.raises(TypeError, match="expected sizes among vocabulary, embedding"):
        supernet(SMALL, channels=3)
    with pytest.raises(ValueError, match=r"expected coefficients \(3,\)"):
        network(one_hot_genotype(), coefficients=torch.ones(2))
    with pytest.raises(ValueError, match="expected a state of two"):
        network_of_lstm()(tokens(), (torch.zeros(2, 4, 6), torch.zeros(2, 4, 6)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activations": ("tanh", "tanh")}, "without repetition"),
        ({"activations": ("tanh", "gelu")}, "among tanh, relu, sigmoid, identity"),
        ({"activations": ("none",)}, "among tanh"),
        ({"steps": 0}, "expected steps >= 1"),
        ({"steps": 65}, "expected steps <= 64"),
        ({"edges_per_node": 0}, "expected edges_per_node >= 1"),
    ],
)
def test_spaces_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        RecurrentSpace(**{"name": "x", "activations": ("tanh",), **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recurrent": (("tanh", 1),)}, "expected a predecessor 0 … 0 of step 1"),
        ({"recurrent": (("none", 0),)}, "activations among"),
        ({"recurrent": (("tanh", 0), ("relu", 0)), "nodes": (2,)}, "ascending predecessors, each once"),
        ({"nodes": (1, 1)}, "expected nodes to say"),
        ({"recurrent": ()}, "expected 1 to 64 steps"),
        ({"concat": ()}, "expected concat to be states 0 … 1"),
        ({"concat": (1, 1)}, "expected concat"),
        ({"concat": (2,)}, "expected concat"),
        ({"recurrent": "tanh"}, "expected recurrent to be a list"),
    ],
)
def test_genotypes_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        RecurrentGenotype(**{"recurrent": (("tanh", 0),), "concat": (1,), **fields})


@pytest.mark.parametrize("kept", [1, 2])
def test_genotypes_are_read_back(kept):
    genotype = SMALL.genotype(one_hot(kept=kept))
    assert RecurrentGenotype.from_json(genotype.to_json()) == genotype
    assert len(genotype.terms) == 2 * kept + 1


def test_a_cell_that_reads_nothing_is_told():
    dead = RecurrentGenotype((("tanh", 1),), (2,), (0, 1))
    assert not family_of(dead).depends_on_input(dead, 1)
    alive = RecurrentGenotype((("tanh", 0),), (1, 2), (1, 0))
    assert family_of(alive).depends_on_input(alive, 1)
