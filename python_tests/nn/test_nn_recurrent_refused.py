# SPDX-License-Identifier: MIT
"""What recurrent networks refuse, and what a derived one takes over from a supernet that was changed."""

import copy

import pytest
import torch
from nn_recurrent import (
    BATCH,
    SIZE,
    language_loss,
    network,
    network_of_lstm,
    one_hot,
    one_hot_genotype,
    tokens,
)
from torch import nn

from nasp_ext.arch import Gates
from nasp_ext.families.derivation import derive
from nasp_ext.families.recurrent.genotype import RecurrentGenotype
from nasp_ext.families.recurrent.space import RecurrentSpace
from nasp_ext.nn import plain_modules


def _norms():
    yield "settings", nn.BatchNorm1d(SIZE, eps=0.5, momentum=None, affine=False)
    yield "no statistics", nn.BatchNorm1d(SIZE, affine=False, track_running_stats=False)
    yield "affine", nn.BatchNorm1d(SIZE)
    yield "another", nn.LayerNorm(SIZE)
    yield "frozen", nn.BatchNorm1d(SIZE, affine=False).eval()


@pytest.mark.parametrize("norm", [pytest.param(norm, id=name) for name, norm in _norms()])
def test_a_derived_network_inherits_the_norm_as_it_is(norm):
    net, gates = network(), one_hot()
    net.cell.norm = copy.deepcopy(norm).double()
    derived = derive(net, gates, inherit_weights=True)
    assert derived.cell.norm.training == norm.training
    assert derived.cell.norm is not net.cell.norm
    assert torch.equal(language_loss(derived), language_loss(net, gates))


def test_a_derived_network_inherits_a_decoder_of_its_own():
    net, gates = network(), one_hot()
    net.decoder.weight = nn.Parameter(net.decoder.weight.detach() * 2)
    assert torch.equal(language_loss(derive(net, gates, inherit_weights=True)), language_loss(net, gates))


def _refused():
    zeros = torch.zeros(BATCH, SIZE)
    yield "a list", TypeError, "expected tokens to be a tensor", lambda net: net([[1, 2]], one_hot())
    yield "dropouts", TypeError, "expected dropouts to be", lambda net: setattr(net, "dropouts", 0.5)
    yield "dtype", ValueError, "of torch.float64, as", lambda net: net(tokens(), one_hot(), zeros)
    far = zeros.to("meta", torch.float64)
    yield "device", ValueError, "on cpu, as the network, got meta", lambda net: net(tokens(), one_hot(), far)
    gates = Gates(one_hot().weight.to("meta"), one_hot().active)
    yield "gates", ValueError, "expected gates on cpu", lambda net: net(tokens(), gates)
    more = nn.Parameter(torch.zeros(SIZE, 2 * SIZE, dtype=torch.float64))

    def one_more(net):
        net.cell.weights.append(more)
        net(tokens(), one_hot())

    yield "weights", ValueError, r"expected an entry \(12, 12\) and 3 weights", one_more


@pytest.mark.parametrize("case", [pytest.param(case[1:], id=case[0]) for case in _refused()])
@pytest.mark.parametrize("plain", [False, True])
def test_what_does_not_fit_is_one_clear_error(case, plain):
    error, match, call = case
    with plain_modules(plain), pytest.raises(error, match=match):
        call(network())


@pytest.mark.parametrize("state", ["ab", 3, (torch.zeros(2, BATCH, SIZE),) * 3, (None, None)])
def test_a_state_of_an_lstm_that_is_no_pair_is_refused(state):
    with pytest.raises(ValueError, match="expected a state of two"):
        network_of_lstm()(tokens(), state)


def test_lists_and_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="at most 528 entries"):
        RecurrentGenotype((("tanh", 0),), concat=range(1, 10**6))
    with pytest.raises(ValueError, match="expected pairs"):
        RecurrentGenotype((("tanh", torch.tensor([0, 1])),), concat=(1,))
    with pytest.raises(ValueError, match="expected none_allowed to be bool"):
        RecurrentSpace("x", ("none", "tanh"), none_allowed="no")
    with pytest.raises(ValueError, match=r"expected coefficients \(3,\), .* got list"):
        network(one_hot_genotype(), coefficients=[1.0, 2.0, 3.0])
