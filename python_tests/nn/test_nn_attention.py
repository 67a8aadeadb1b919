# SPDX-License-Identifier: MIT
"""Architecture self-attention: hand arithmetic, gradients, and what the gates do to it."""

import math

import pytest
import torch
from torch import nn

from nasp_ext.nn import ArchitectureAttention, AttentionOp, MixedOp, recorded_attention

OPTIONS = ("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3")


def set_layers(attention: ArchitectureAttention, *matrices) -> None:
    linear = [layer for layer in attention.layers if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, matrix in zip(linear, matrices, strict=True):
            layer.weight.copy_(torch.tensor(matrix))


def attention_op(stride=1, options=OPTIONS) -> AttentionOp:
    return AttentionOp(4, stride, options).double()


def written_out(op: AttentionOp, x: torch.Tensor) -> torch.Tensor:
    """Eq. 4.2 to 4.5, term by term, one image after the other."""
    outputs = [branch(x) for branch in op._ops]
    theta = [layer.weight for layer in op.attention.layers if isinstance(layer, nn.Linear)]
    images = []
    for b in range(len(x)):
        z = torch.stack([y[b].sum() / y[b].numel() for y in outputs])
        for matrix in theta[:-1]:
            z = torch.relu(matrix @ z)
        z = 1 / (1 + torch.exp(-(theta[-1] @ z)))
        a = torch.exp(z) / torch.exp(z).sum()
        images.append(sum(a[k] * y[b] for k, y in enumerate(outputs)))
    return torch.stack(images)


def test_the_four_layers_by_hand():
    attention = ArchitectureAttention(2)
    identity = [[1.0, 0.0], [0.0, 1.0]]
    set_layers(
        attention, [[1.0, 0.0], [-1.0, 0.0]], [[2.0, 0.0], [0.0, 1.0]], identity, [[1.0, 0.0], [0.0, -1.0]]
    )
    # e = (3, 7): relu(3, -3) = (3, 0), (6, 0), (6, 0), z = (σ(6), σ(0)).
    # e = (-1, 5): relu(-1, 1) = (0, 1), (0, 1), (0, 1), z = (σ(0), σ(-1)).
    sigmoid = {value: 1 / (1 + math.exp(-value)) for value in (6, 0, -1)}
    expected = [sigmoid[6] - sigmoid[0], sigmoid[0] - sigmoid[-1]]
    a = attention(torch.tensor([[3.0, 7.0], [-1.0, 5.0]]), torch.ones(2))
    torch.testing.assert_close((a[:, 0] / a[:, 1]).log(), torch.tensor(expected))
    torch.testing.assert_close(a.sum(1), torch.ones(2))


def test_an_edge_by_hand():
    # Outputs x and 2x of an image of mean 1: e = (1, 2). Θ passes only e₂ on: z = (σ(2), σ(0)).
    double = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(double.weight, 2.0)
    op = AttentionOp.from_modules([nn.Identity(), double])
    set_layers(op.attention, [[0.0, 1.0], [0.0, 0.0]], *[[[1.0, 0.0], [0.0, 1.0]]] * 3)
    x = torch.tensor([[[[0.0, 2.0]]]])
    odds = math.exp(1 / (1 + math.exp(-2)) - 0.5)
    expected = (odds * 1 + 2) / (odds + 1) * x
    torch.testing.assert_close(op(x, torch.ones(2)), expected)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_dense_rows_are_mixed_image_by_image(stride, batch):
    op = attention_op(stride).eval()
    x = torch.randn(batch, 4, 5, 6, dtype=torch.float64)
    found = op(x, torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(found, written_out(op, x), rtol=1e-12, atol=1e-12)
    assert found.shape == (batch, 4, -(-5 // stride), -(-6 // stride))


def test_images_differ_in_attention():
    op = attention_op().eval()
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64) * torch.tensor([1.0, 9.0]).double()[:, None, None, None]
    with recorded_attention([(0, op)]) as one, torch.no_grad():
        op(x[:1], torch.ones(4).double())
    with recorded_attention([(0, op)]) as other, torch.no_grad():
        op(x[1:], torch.ones(4).double())
    assert (one.matrix(1, 4) - other.matrix(1, 4)).abs().max() > 1e-3


def test_gradients_of_input_gates_and_all_weights():
    op = AttentionOp(2, 1, ("none", "skip_connect", "conv_1x1"), affine=True)
    op.attention = ArchitectureAttention(3, hidden=8)  # so wide that the ReLUs let something through
    op.double().eval()
    names, values = zip(*op.named_parameters(), strict=True)

    def run(x, gates, *parameters):
        return torch.func.functional_call(
            op, dict(zip(names, parameters, strict=True)), (x, gates), {"active": None}
        )

    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    gates = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, gates, *values))


def test_theta_is_trained_with_the_weights():
    op = attention_op()
    op(torch.randn(3, 4, 5, 5, dtype=torch.float64), torch.ones(4).double()).square().sum().backward()
    for name, parameter in op.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("option", range(4))
def test_a_one_hot_prior_is_the_option_alone(option):
    op = attention_op().eval()
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    row = torch.eye(4, dtype=torch.float64)[option]
    alone = op._ops[option](x)
    torch.testing.assert_close(op(x, row, active=None), alone)
    torch.testing.assert_close(op(x, row, active=option, unit=True), alone)


def test_the_prior_multiplies_the_odds():
    attention, e = ArchitectureAttention(3).double(), torch.randn(5, 3, dtype=torch.float64)
    plain = attention(e, torch.ones(3).double())
    weighted = attention(e, torch.tensor([2.0, 1.0, 0.0]).double())
    torch.testing.assert_close(weighted[:, 0] / weighted[:, 1], 2 * plain[:, 0] / plain[:, 1])
    assert not weighted[:, 2].any()


def test_a_prior_of_zeros_gives_zeros():
    assert not ArchitectureAttention(3)(torch.randn(2, 3), torch.zeros(3)).any()


def test_attention_leaves_the_mixture_of_a_mixed_op():
    op = attention_op().eval()
    plain = MixedOp(4, 1, OPTIONS).double().eval()
    plain.load_state_dict({k: v for k, v in op.state_dict().items() if not k.startswith("attention")})
    x, quarter = torch.randn(2, 4, 5, 5, dtype=torch.float64), torch.full((4,), 0.25, dtype=torch.float64)
    for layer in op.attention.layers:
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.weight)
    torch.testing.assert_close(op(x, quarter), plain(x, quarter))  # without a preference both are the mean


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_summed_in_float(dtype):
    op = AttentionOp.from_modules([nn.Identity()] * 12)
    for layer in op.attention.layers:
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.weight)
    x = torch.randn(2, 3, 5, 5).to(dtype)
    out = op(x, torch.ones(12))
    assert out.dtype == dtype
    assert torch.equal(out, x)  # twelve twelfths; summed in half types they are not


def test_autocast_runs_the_attention_and_keeps_the_dtype_of_the_options():
    op = AttentionOp(4, 1, OPTIONS[1:])
    x = torch.randn(2, 4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        out = op(x, torch.ones(3))
    torch.testing.assert_close(out, op(x, torch.ones(3)), rtol=0.05, atol=0.05)
    out.square().mean().backward()
    assert all(p.grad.isfinite().all() for p in op.parameters())


def test_means_are_over_images_and_edges_of_a_row():
    ops = [attention_op(options=OPTIONS[1:]) for _ in range(3)]
    x = torch.randn(5, 4, 4, 4, dtype=torch.float64)
    seen = []
    for op in ops[:2]:
        op.attention.register_forward_hook(lambda _, __, a: seen.append(a.detach()))
    with recorded_attention([(2, ops[0]), (2, ops[1]), (0, ops[2])]) as means:
        for op in ops[:2]:
            op(x[:2], torch.ones(3).double())
            op(x[2:], torch.ones(3).double())
        ops[2](
            x, torch.tensor([0.0, 1.0, 0.0]).double(), active=1, unit=True
        )  # one option: nothing to attend to
    ops[0](x, torch.ones(3).double())  # outside
    found = means.matrix(3, 4)
    torch.testing.assert_close(found[2, :3], torch.cat(seen[:4]).mean(0))
    assert not found[:2].any()
    assert found[2, 3] == 0


def test_recording_ends_even_if_something_raises():
    op = attention_op()
    with pytest.raises(KeyError), recorded_attention([(0, op)]):
        raise KeyError
    assert not op.attention._forward_hooks


def test_an_edge_without_attention_cannot_be_recorded():
    with (
        pytest.raises(ValueError, match="mixed by attention in row 7, found MixedOp"),
        recorded_attention([(7, MixedOp(4, 1))]),
    ):
        pass


def test_only_none_is_a_zero_output():
    out = AttentionOp(4, 2, ("none",))(torch.ones(2, 4, 5, 5), torch.ones(1))
    assert torch.equal(out, torch.zeros(2, 4, 3, 3))


def test_outputs_of_different_shapes_are_refused():
    op = AttentionOp.from_modules({"same": nn.Identity(), "half": nn.AvgPool2d(2)})
    with pytest.raises(ValueError, match=r"share one shape \(B, C, …\), got .*'half': \(1, 2, 2, 2\)"):
        op(torch.ones(1, 2, 4, 4), torch.ones(2))


@pytest.mark.parametrize("options, hidden", [(0, None), (3, 0)])
def test_widths_below_one_are_refused(options, hidden):
    with pytest.raises(ValueError, match="expected options and hidden >= 1"):
        ArchitectureAttention(options, hidden)


def test_hidden_sets_the_inner_widths():
    shapes = [tuple(p.shape) for p in ArchitectureAttention(3, 5).parameters()]
    assert shapes == [(5, 3), (5, 5), (5, 5), (3, 5)]
