# SPDX-License-Identifier: MIT
"""examples/frozen_transformer.py, with few steps."""

import importlib.util
from pathlib import Path

import pytest
import torch

from nasp_ext.nn import MixedOp

FILE = Path(__file__).parents[2] / "examples" / "frozen_transformer.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("frozen_transformer", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def net(example):
    return example.trained(steps=3)


def test_search_moves_the_architecture_and_leaves_the_frozen_weights(example, net):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    optimizer = example.search(net, steps=3)
    (gates,), (rows,) = optimizer.gates(), optimizer.param_groups[0]["params"]
    assert gates.weight.shape == (4, 3)
    assert gates.weight.sum(1).eq(1).all()
    assert gates.weight.count_nonzero() == 4
    assert rows.ne(0.5).all()
    assert rows.grad.ne(0).all()  # every option of every layer has its gradient
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())
    assert all(tensor.equal(before[name]) for name, tensor in net.state_dict().items())
    assert example.loss_of(net, example.phrases(torch.Generator()), gates.weight).isfinite()


def test_gradient_of_every_option_is_that_of_the_mixture(example, net):
    tokens = example.phrases(torch.Generator().manual_seed(3), 4)
    chosen = torch.eye(3)[[0, 1, 2, 0]].requires_grad_()
    (found,) = torch.autograd.grad(example.loss_of(net, tokens, chosen), chosen)
    every = [layer.attend.forward for layer in net.layers]
    try:
        for layer, forward in zip(net.layers, every, strict=True):
            layer.attend.forward = lambda *args, forward=forward, **kwargs: forward(
                *args, active=None, **kwargs
            )
        (expected,) = torch.autograd.grad(example.loss_of(net, tokens, chosen), chosen)
    finally:
        for layer in net.layers:
            del layer.attend.forward
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_options_agree_where_they_must(example):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 12, 8)
    mask = torch.arange(12) < torch.tensor([[12], [5]])
    for option in (example.SoftmaxAttention(), example.SoftmaxAttention(4), example.LinearAttention()):
        out, nothing = option(q, k, v, mask=mask)
        assert nothing is None
        torch.testing.assert_close(out[:, :, 0], v[:, :, 0])  # the first place sees itself alone
        changed = v.clone()
        changed[:, :, 7:] += 1  # later places, and of the second sequence padding
        again, _ = option(q, k, changed, mask=mask)
        torch.testing.assert_close(again[:, :, :7], out[:, :, :7])
    full, _ = example.SoftmaxAttention()(q, k, v, mask=mask)
    windowed, _ = example.SoftmaxAttention(4)(q, k, v, mask=mask)
    torch.testing.assert_close(windowed[:, :, :4], full[:, :, :4])
    assert not torch.allclose(windowed[0, :, 4:], full[0, :, 4:])


def test_example_prints_what_it_found(example, capsys):
    example.main(training_steps=2, search_steps=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines[0].removeprefix("found: ").split(", ")) == 4
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["found", "full", "window", "linear"]
    assert isinstance(example.Transformer(1).layers[0].attend, MixedOp)
