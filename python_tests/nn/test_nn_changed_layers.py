# SPDX-License-Identifier: MIT
"""Layers changed after the first run, in whatever way: every path gives what PyTorch gives with them."""

import copy
import types

import pytest
import torch
from nn_fused import assert_same, images, observed, shuffled
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils import weight_norm as old_weight_norm

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.published import GENOTYPES
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.nn import MixedOp, plain_modules
from nasp_ext.nn.fused.chains import Projection
from nasp_ext.nn.primitives import Chain

SEPARABLE, MAX_POOL = 4, 1  # options of the DARTS space
SEED = 4  # with others the changed layers may send nothing through the next ReLU


def derived():
    net = shuffled(derived_network(GENOTYPES["DARTS_V1"], 2, 3, 4), SEED)
    block = next(op for op in net.cells[0]._ops if len(getattr(op, "op", ())) == 8).op
    pool = next(op for op in net.cells[2]._ops if isinstance(op, nn.MaxPool2d))
    return net, None, [images(2, 3, 8, 8).requires_grad_()], block, pool


def searched():
    darts = space("darts")
    net = shuffled(supernet(darts, 2, 3, 4, affine=True), SEED)
    active = (SEPARABLE, MAX_POOL) * 14
    weight = torch.zeros(28, 8).double().scatter_(1, torch.tensor(active)[:, None], 1.0)
    ops = net.cells[0]._ops
    call = lambda net, x, weight: net(x, Gates(weight, active, unit=True))  # noqa: E731
    return (
        net,
        call,
        [images(2, 3, 8, 8), weight.requires_grad_()],
        ops[0]._ops[SEPARABLE].op,
        ops[1]._ops[1][0],
    )


def unselected():
    """The changed layers belong to options that do not run forward."""
    net, _, inputs, *layers = searched()
    active = (3,) * 28
    weight = torch.zeros(28, 8).double()
    weight[:, 3] = 1.0
    call = lambda net, x, weight: net(x, Gates(weight, active, unit=True))  # noqa: E731
    return net, call, [inputs[0], weight.requires_grad_()], *layers


def edge():
    op = shuffled(MixedOp(4, 1, affine=True))
    weight = torch.eye(8)[SEPARABLE].double()
    return op, None, [images(2, 4, 8, 8), weight.requires_grad_()], op._ops[SEPARABLE].op, op._ops[1][0]


def mixture():
    op, _, (x, _), *layers = edge()
    return op, None, [x, torch.linspace(0.1, 0.8, 8).double().requires_grad_()], *layers


PATHS = [derived, searched, unselected, edge, mixture]


class Doubled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def dilated(block, pool):
    block[1].padding, block[1].dilation = (2, 2), (2, 2)


def pooled_wider(block, pool):
    pool.kernel_size, pool.padding = 5, 2


def with_bias(block, pool):
    block[6].bias = nn.Parameter(torch.ones(block[6].out_channels).double())


def circular(block, pool):
    block[1].padding_mode = "circular"
    block[1]._reversed_padding_repeated_twice = [1, 1, 1, 1]


def of_another_class(block, pool):
    block[6].__class__ = Doubled


def of_another_activation(block, pool):
    block[0].__class__ = nn.Tanh


def with_its_own_forward(block, pool):
    block[6].forward = types.MethodType(lambda self, x: 3 * nn.Conv2d.forward(self, x), block[6])


def with_its_own_convolution(block, pool):
    inner = block[6]._conv_forward
    block[6]._conv_forward = lambda *arguments: 3 * inner(*arguments)


def sequence_with_its_own_forward(block, pool):
    block.forward = types.MethodType(lambda self, x: -nn.Sequential.forward(self, x), block)


def spectral(block, pool):
    torch.manual_seed(0)
    parametrizations.spectral_norm(block[6]).eval()


def orthogonal(block, pool):
    torch.manual_seed(0)
    parametrizations.orthogonal(block[6])


def weight_norm(block, pool):
    parametrizations.weight_norm(block[6])
    with torch.no_grad():
        block[6].parametrizations.weight.original0.mul_(2)


def weight_norm_of_before(block, pool):
    with pytest.warns(FutureWarning):
        old_weight_norm(block[6])
    with torch.no_grad():
        block[6].weight_g.mul_(2)


def without_statistics(block, pool):
    norm = block[7]
    norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    norm.track_running_stats = False


def without_affine(block, pool):
    block[7].weight = block[7].bias = None
    block[7].affine = False


def averaging(block, pool):
    block[7].momentum = None


def of_other_settings(block, pool):
    block[7].eps, block[3].momentum = 0.5, 0.9


CHANGES = [
    dilated,
    pooled_wider,
    with_bias,
    circular,
    of_another_class,
    of_another_activation,
    with_its_own_forward,
    with_its_own_convolution,
    sequence_with_its_own_forward,
    spectral,
    orthogonal,
    weight_norm,
    weight_norm_of_before,
    without_statistics,
    without_affine,
    averaging,
    of_other_settings,
]


CALLS = [(path, True) for path in PATHS] + [(derived, False), (searched, False)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("path", "training"), CALLS)
def test_change_after_the_first_run_counts(path, change, training):
    module, call, inputs, block, pool = path()
    module.train(training)
    call = call or (lambda module, *inputs: module(*inputs))
    before = observed(copy.deepcopy(module), call, inputs)
    call(module, *(x.detach().requires_grad_(x.requires_grad) for x in inputs)).sum().backward()
    module.zero_grad()
    change(block, pool)
    after = compared_in_place(module, call, inputs)
    if change is not averaging or training:  # a momentum counts in training alone
        differs = [name for name, tensor in after.items() if not same(tensor, before.get(name))]
        assert differs


def same(one, other):
    return one is other if one is None or other is None else one.equal(other)


def compared_in_place(module, call, inputs):
    """As ``compared``, in the module itself: a copy would have no plan."""
    state = copy.deepcopy(module.state_dict())
    found = observed(module, call, inputs)
    module.load_state_dict(state)
    with plain_modules():
        assert_same(found, observed(module, call, inputs))
    return found


REPLACED = {
    "forward": (nn.Conv2d, "forward"),
    "inherited forward": (nn.modules.batchnorm._BatchNorm, "forward"),
    "convolution": (nn.Conv2d, "_conv_forward"),
    "call": (nn.Module, "__call__"),
    "function": (nn.functional, "conv2d"),
    "chain": (Chain, "forward"),
}


@pytest.mark.parametrize("name", REPLACED)
@pytest.mark.parametrize("path", [derived, searched, unselected, mixture])
def test_code_replaced_after_the_first_run_counts(path, name, monkeypatch):
    module, call, inputs, *_ = path()
    call = call or (lambda module, *inputs: module(*inputs))
    state = copy.deepcopy(module.state_dict())
    before = observed(module, call, inputs)
    module.load_state_dict(state)
    holder, attribute = REPLACED[name]
    own = getattr(holder, attribute)

    def other(first, *arguments, **named):
        out = own(first, *arguments, **named)
        return 3 * out if attribute != "__call__" or isinstance(first, nn.Conv2d) else out

    monkeypatch.setattr(holder, attribute, other)
    found = compared_in_place(module, call, inputs)
    assert any(not same(tensor, before[key]) for key, tensor in found.items())


@pytest.mark.parametrize("kind", ["full_backward_hook", "full_backward_pre_hook"])
def test_global_backward_hook_sees_every_layer(kind):
    module, call, inputs, *_ = searched()
    inputs[0].requires_grad_()

    def seen():
        found = []
        register = getattr(nn.modules.module, f"register_module_{kind}")
        handle = register(lambda module, *_: found.append(type(module).__name__))
        call(module, *inputs).sum().backward()
        handle.remove()
        return sorted(found)

    call(module, *inputs).sum().backward()
    found = seen()
    with plain_modules():
        assert found == seen()
    assert found.count("Conv2d") > 20


def with_bias_of_projection(op):
    op[1].bias = nn.Parameter(torch.ones(op[1].out_channels).double())


PROJECTIONS = {
    "bias": with_bias_of_projection,
    "class": lambda op: setattr(op[1], "__class__", Doubled),
    "hook": lambda op: op[1].register_forward_hook(lambda module, inputs, out: 3 * out),
    "stride": lambda op: setattr(op[1], "stride", (2, 2)),
    "pruned": lambda op: prune.l1_unstructured(op[1], "weight", 0.5),
    "longer": lambda op: op.append(nn.Tanh()),
}


@pytest.mark.parametrize("name", PROJECTIONS)
def test_changed_projection_runs_its_layers_with_zeros_for_other_nodes(name):
    post = shuffled(Projection(3, 2, True)).eval()
    x = images(2, 4, 5, 5)
    post(x, (0, 2))
    PROJECTIONS[name](post.op)
    whole = torch.cat([x[:, :2], torch.zeros(2, 2, 5, 5).double(), x[:, 2:]], 1)
    expected = post.op(whole)
    for plain in (False, True):
        with plain_modules(plain):
            torch.testing.assert_close(post(x, (0, 2)), expected)


def test_unselected_weights_changed_before_backward_are_refused():
    op = shuffled(MixedOp(4, 1))
    row = torch.eye(8)[3].double().requires_grad_()
    out = op(images(2, 4, 5, 5), row).sum()
    with torch.no_grad():
        op._ops[SEPARABLE].op[1].weight.mul_(2)
    with pytest.raises(RuntimeError, match="found some changed in place: call backward before the step"):
        out.backward()
