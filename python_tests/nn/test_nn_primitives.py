# SPDX-License-Identifier: MIT
"""Candidate operations: the definitions of the papers, checked by hand counts and small inputs."""

import pytest
import torch
from torch import nn

from nasp_ext.arch.registry import space
from nasp_ext.nn import PRIMITIVES, build_primitive, register_primitive
from nasp_ext.nn.primitives import FactorizedReduce

C = 6
# Weights of convolutions without bias, counted by hand from the definitions.
HAND_COUNTS = {
    "none": 0,
    "skip_connect": 0,
    "max_pool_3x3": 0,
    "max_pool_7x7": 0,
    "avg_pool_3x3": 0,
    "sep_conv_3x3": 2 * (9 * C + C * C),
    "sep_conv_5x5": 2 * (25 * C + C * C),
    "sep_conv_7x7": 2 * (49 * C + C * C),
    "dil_conv_3x3": 9 * C + C * C,
    "dil_conv_5x5": 25 * C + C * C,
    "conv_1x1": C * C,
    "conv_3x3": 9 * C * C,
    "conv_3x1_1x3": 2 * 3 * C * C,
}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", sorted(HAND_COUNTS))
def test_weights_of_a_primitive_match_the_hand_count(name):
    assert count(build_primitive(name, C, 1)) == HAND_COUNTS[name]


def test_spaces_name_known_primitives_only():
    for name in ("darts", "nasp"):
        assert set(space(name).normal + space(name).reduce) <= set(PRIMITIVES)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 2)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_every_primitive_divides_the_size_by_the_stride_rounding_up(name, stride, size):
    out = build_primitive(name, 4, stride, pool_norm=True)(torch.randn(3, 4, *size))
    assert out.shape == (3, 4, *(-(-edge // stride) for edge in size))


def test_average_does_not_count_the_padding():
    out = build_primitive("avg_pool_3x3", 1, 1)(torch.ones(1, 1, 4, 4))
    assert out.eq(1).all()


def test_max_pool_takes_the_maximum_of_its_window():
    x = torch.arange(25.0).reshape(1, 1, 5, 5)
    assert build_primitive("max_pool_3x3", 1, 2)(x).flatten().tolist() == [6, 8, 9, 16, 18, 19, 21, 23, 24]


def test_pools_are_normalised_in_a_mixture_only():
    x = torch.randn(4, 3, 5, 5)
    out = build_primitive("max_pool_3x3", 3, 1, pool_norm=True)(x)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(3), atol=1e-6, rtol=0)
    assert isinstance(build_primitive("max_pool_3x3", 3, 1), nn.MaxPool2d)
    assert count(build_primitive("max_pool_3x3", 3, 1, pool_norm=True, affine=True)) == 0


def test_affine_gives_each_batch_norm_a_scale_and_a_shift():
    plain, affine = (build_primitive("sep_conv_3x3", C, 1, affine=flag) for flag in (False, True))
    assert count(affine) - count(plain) == 2 * 2 * C


@pytest.mark.parametrize(
    "name, window",
    [
        ("dil_conv_3x3", (1, 3, 5)),
        ("conv_3x1_1x3", (2, 3, 4)),
        ("sep_conv_3x3", (1, 2, 3, 4, 5)),
        ("conv_1x1", (3,)),
    ],
)
def test_one_pixel_spreads_over_the_window_of_the_kernel(name, window):
    conv = build_primitive(name, 1, 1).eval()
    for weight in conv.parameters():
        nn.init.ones_(weight)
    x = torch.zeros(1, 1, 7, 7)
    x[0, 0, 3, 3] = 1
    out = conv(x)[0, 0]
    assert sorted(map(tuple, out.nonzero().tolist())) == [(r, c) for r in window for c in window]


def test_factorized_reduce_sees_every_second_pixel_and_its_diagonal_neighbour():
    reduce = FactorizedReduce(1, 2).eval()
    nn.init.ones_(reduce.conv_1.weight)
    nn.init.ones_(reduce.conv_2.weight)
    reduce.bn.eps = 0.0
    out = reduce(torch.arange(16.0).reshape(1, 1, 4, 4))
    assert out[0].flatten().tolist() == [0, 2, 8, 10, 5, 7, 13, 15]


def test_factorized_reduce_pads_odd_sizes_with_zeros():
    reduce = FactorizedReduce(1, 2).eval()
    nn.init.ones_(reduce.conv_2.weight)
    reduce.bn.eps = 0.0
    out = reduce(torch.arange(1.0, 10.0).reshape(1, 1, 3, 3))
    assert out[0, 1].tolist() == [[5, 0], [0, 0]]


@pytest.mark.parametrize(
    "name, channels, stride, message",
    [
        ("sep_conv_9x9", 4, 1, r"'sep_conv_3x3'.*got 'sep_conv_9x9'"),
        ("skip_connect", 5, 2, "even number of channels.*got 5"),
        ("conv_1x1", 0, 1, "channels=0"),
        ("conv_1x1", 4, 3, "stride=3"),
    ],
)
def test_impossible_primitive_is_refused(name, channels, stride, message):
    with pytest.raises(ValueError, match=message):
        build_primitive(name, channels, stride)


def test_own_primitive_is_found_by_its_name(monkeypatch):
    monkeypatch.setattr("nasp_ext.nn.primitives.PRIMITIVES", dict(PRIMITIVES))
    register_primitive("tanh", lambda channels, stride, affine: nn.Tanh())
    assert isinstance(build_primitive("tanh", 4, 1), nn.Tanh)
    with pytest.raises(ValueError, match="taken"):
        register_primitive("tanh", lambda channels, stride, affine: nn.Tanh())
