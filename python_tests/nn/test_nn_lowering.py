# SPDX-License-Identifier: MIT
"""Which modules have a fused form, that it computes what they do, and why the others have none."""

import pytest
import torch
from nn_fused import compared, images, shuffled
from torch import nn
from torch.nn.utils import prune

from nasp_ext.nn import PRIMITIVES, MixedOp, build_primitive
from nasp_ext.nn.fused.lowering import NotFusedError, lower
from nasp_ext.nn.primitives import Chain, FactorizedReduce, Zero

CASES = [(name, stride) for name in PRIMITIVES for stride in (1, 2)]


@pytest.mark.parametrize("affine, pool_norm", [(False, True), (True, False)])
@pytest.mark.parametrize("name, stride", CASES)
def test_every_primitive_runs_fused_as_it_does_plain(name, stride, affine, pool_norm, fused_runs):
    op = MixedOp.from_modules([build_primitive(name, 4, stride, affine=affine, pool_norm=pool_norm)])
    x = images(2, 4, 7, 6).requires_grad_(name != "none")
    for training in (True, False):
        compared(
            shuffled(op).train(training),
            lambda op, x: op(x, torch.ones(1, dtype=x.dtype), active=0, unit=True),
            [x],
        )
    assert fused_runs == ["mixed_op"] * 2


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("active", [-1, 0, 4])
def test_gradient_of_every_primitive_at_once_is_that_of_plain_modules(active, stride, fused_runs):
    op = shuffled(MixedOp(4, stride, tuple(PRIMITIVES), affine=True))
    weights = torch.zeros(len(PRIMITIVES), dtype=torch.float64)
    weights[active] = 0.7 * (active >= 0)
    found = compared(
        op, lambda op, x, w: op(x, w, active=active), [images(2, 4, 6, 7), weights.requires_grad_()]
    )
    assert int((found["gradient of input 1"] != 0).sum()) == len(PRIMITIVES) - 1  # all but none
    assert fused_runs == ["mixed_op"]


def conv(*arguments, **options):
    return nn.Conv2d(*arguments, bias=False, **options)


class Halved(nn.MaxPool2d):
    def forward(self, x):
        return super().forward(x) / 2


class Twice(nn.Identity):
    def forward(self, x):
        return 2 * x


class Ones(Zero):
    def forward(self, x):
        return super().forward(x) + 1


class OtherReduce(FactorizedReduce):
    pass


def with_hook(module, register):
    getattr(module, register)(lambda *_: None)
    return module


def with_forward(module):
    module.forward = module.forward
    return module


def depthwise(**options):
    return Chain(nn.ReLU(), conv(4, 4, 3, padding=1, groups=4), *options.get("behind", (conv(4, 4, 1),)))


def group_norm_of(reduction):
    reduction.bn = nn.GroupNorm(1, 4)
    return reduction


def one_sided(norm):
    norm.bias = None
    return norm


NOT_FUSED = {
    "forward hook": (with_hook(conv(4, 4, 1), "register_forward_hook"), "Conv2d has hooks"),
    "forward pre-hook": (
        Chain(with_hook(nn.ReLU(), "register_forward_pre_hook"), conv(4, 4, 1)),
        "ReLU has hooks",
    ),
    "backward hook": (with_hook(nn.BatchNorm2d(4), "register_full_backward_hook"), "BatchNorm2d has hooks"),
    "hook of a container": (
        with_hook(Chain(conv(4, 4, 1)), "register_full_backward_pre_hook"),
        "Chain has hooks",
    ),
    "forward of its own": (with_forward(nn.Identity()), "Identity has a forward of its own"),
    "weight norm": (nn.utils.parametrizations.weight_norm(conv(4, 4, 1)), "ParametrizedConv2d is not among"),
    "pruned weights": (prune.identity(conv(4, 4, 1), "weight"), "Conv2d has hooks"),
    "bias": (nn.Conv2d(4, 4, 1), "a bias"),
    "reflected borders": (conv(4, 4, 3, padding=1, padding_mode="reflect"), "padding of another kind"),
    "padding by name": (conv(4, 4, 3, padding="same"), "padding of another kind"),
    "groups": (
        Chain(conv(4, 4, 3, groups=2), conv(4, 4, 1)),
        "not a depthwise convolution of the fused kinds",
    ),
    "more channels": (Chain(conv(4, 8, 3, groups=4), conv(8, 4, 1)), "not a depthwise convolution"),
    "depthwise 9x9": (Chain(conv(4, 4, 9, groups=4), conv(4, 4, 1)), "not a depthwise convolution"),
    "depthwise 3x5": (Chain(conv(4, 4, (3, 5), groups=4), conv(4, 4, 1)), "not a depthwise convolution"),
    "depthwise alone": (depthwise(behind=()), "not a depthwise convolution"),
    "depthwise, then 3x3": (depthwise(behind=(conv(4, 4, 3),)), "not followed by a 1x1"),
    "depthwise, then BN": (depthwise(behind=(nn.BatchNorm2d(4),)), "BatchNorm2d is not among"),
    "group norm": (Chain(conv(4, 4, 1), nn.GroupNorm(1, 4)), "GroupNorm is not among the fused layers"),
    "another BatchNorm": (Chain(conv(4, 4, 1), nn.SyncBatchNorm(4)), "SyncBatchNorm is not among"),
    "averaged statistics": (Chain(conv(4, 4, 1), nn.BatchNorm2d(4, momentum=None)), "momentum=None"),
    "BatchNorm without bias": (Chain(conv(4, 4, 1), one_sided(nn.BatchNorm2d(4))), "a weight without a bias"),
    "ReLU at the end": (Chain(conv(4, 4, 1), nn.ReLU()), "a ReLU is its last layer"),
    "ReLU alone": (nn.ReLU(), "a ReLU is its last layer"),
    "another activation": (Chain(nn.GELU(), conv(4, 4, 1)), "GELU is not among"),
    "dropout": (Chain(conv(4, 4, 1), nn.Dropout()), "Dropout is not among"),
    "another convolution": (nn.Conv1d(4, 4, 1, bias=False), "Conv1d is not among"),
    "linear": (nn.Linear(4, 4), "Linear is not among"),
    "pool without padding": (nn.MaxPool2d(3, 1), "not padded to keep the size"),
    "even pool": (nn.AvgPool2d(2, 2, 1, count_include_pad=False), "not padded to keep the size"),
    "oblong pool": (nn.MaxPool2d((3, 5), 1, (1, 2)), r"its window \(3, 5\) is not square"),
    "dilated pool": (nn.MaxPool2d(3, 1, 1, dilation=2), "not padded to keep the size"),
    "rounded up pool": (nn.MaxPool2d(3, 2, 1, ceil_mode=True), "not padded to keep the size"),
    "pool with indices": (nn.MaxPool2d(3, 1, 1, return_indices=True), "not padded to keep the size"),
    "average over the padding": (nn.AvgPool2d(3, 1, 1), "not padded to keep the size"),
    "divisor": (nn.AvgPool2d(3, 1, 1, count_include_pad=False, divisor_override=2), "not padded to keep"),
    "pool, then more": (nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(4, 4, 1)), "a pool is followed by Conv2d"),
    "subclass of a pool": (Halved(3, 1, 1), "Halved is not among"),
    "subclass of the identity": (Twice(), "Twice is not among"),
    "subclass of none": (Ones(1), "Ones is not among"),
    "subclass of a reduction": (OtherReduce(4, 4), "OtherReduce is not the FactorizedReduce"),
    "reduction with a group norm": (group_norm_of(FactorizedReduce(4, 4)), "GroupNorm is not among"),
}


@pytest.mark.parametrize("case", NOT_FUSED)
def test_what_has_no_fused_form_says_why(case):
    module, text = NOT_FUSED[case]
    with pytest.raises(NotFusedError, match=text):
        lower(module)


IMAGE_CASES = [
    "subclass of a pool",
    "subclass of the identity",
    "subclass of none",
    "reflected borders",
    "group norm",
]


@pytest.mark.parametrize("case", IMAGE_CASES)
def test_mixed_op_of_what_has_no_fused_form_runs_it_plain(case, fused_runs):
    op = MixedOp.from_modules([NOT_FUSED[case][0].double(), nn.Identity()])
    x, weights = images(2, 4, 6, 6), torch.tensor([1.0, 0.0], dtype=torch.float64).requires_grad_()
    found = compared(op, lambda op, x, w: op(x, w, active=0), [x, weights])
    torch.testing.assert_close(found["out"], op._ops[0](x).detach())
    assert fused_runs == []
