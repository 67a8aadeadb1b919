# SPDX-License-Identifier: MIT
"""Language models around recurrent cells: dropout, states, strategies, the LSTM, mistakes."""

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
    VOCABULARY,
    network,
    network_of_lstm,
    one_hot,
    one_hot_genotype,
    seeded,
    tokens,
)

from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.families.recurrent.dropout import mask
from nasp_ext.families.recurrent.genotype import RecurrentGenotype
from nasp_ext.families.recurrent.published import GENOTYPES
from nasp_ext.nn import plain_modules
from nasp_ext.strategies import strategy


def test_start_values_are_those_of_the_paper():
    net = supernet(DARTS_RNN, vocabulary=500, embedding=50)
    for p in (net.encoder.weight, net.cell.entry, *net.cell.weights):
        assert p.abs().max() <= 0.04
        assert p.std().item() == pytest.approx(0.04 / math.sqrt(3), rel=0.05)
    assert not net.decoder.bias.any()
    assert net.decoder.weight is net.encoder.weight
    assert not any(norm.affine for norm in net.cell.norms)


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
