# SPDX-License-Identifier: MIT
"""When the fused engine runs: plans that follow their modules, and calls that PyTorch runs."""

import copy
import pickle

import pytest
import torch
from nn_drawn import mixture, random_gates
from nn_fused import assert_same, compared, images, observed, shuffled
from torch import nn
from torch.optim.swa_utils import update_bn

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.registry import space
from nasp_ext.families.cells.published import GENOTYPES
from nasp_ext.families.networks import derived_network, supernet
from nasp_ext.nn import MixedOp, plain_modules, why_not_fused

DARTS = space("darts")


@pytest.fixture
def net():
    """A derived network that has run once, so that it has its plans."""
    found = shuffled(derived_network(GENOTYPES["DARTS_V2"], 2, 3, 4))
    found(images(2, 3, 8, 8))
    return found


def run(net, x):
    return net(x)


def inputs():
    return [images(2, 3, 8, 8, seed=5).requires_grad_()]


def changed_block(net):
    """The last block of a separable convolution: ReLU, depthwise, 1×1, BN."""
    return next(op.op for op in net.cells[0]._ops if len(getattr(op, "op", ())) == 8)


def new_layer(net):
    block = changed_block(net)
    block[6] = nn.Conv2d(block[6].in_channels, block[6].out_channels, 1, bias=False).double()


def new_edge(net):
    net.cells[0]._ops[0] = nn.Identity()


def new_preprocessing(net):
    net.cells[1].preprocess1 = copy.deepcopy(net.cells[1].preprocess1)


def new_stem(net):
    net.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)).double()


def new_weight(net):
    changed_block(net)[6].weight = nn.Parameter(torch.randn_like(changed_block(net)[6].weight))


def weight_in_place(net):
    with torch.no_grad():
        changed_block(net)[6].weight.mul_(2)


def new_settings(net):
    norm = changed_block(net)[7]
    norm.momentum, norm.eps = 0.7, 0.5
    norm.eval()


CHANGES = [new_layer, new_edge, new_preprocessing, new_stem, new_weight, weight_in_place, new_settings]


@pytest.mark.parametrize("change", CHANGES)
def test_plan_follows_a_change(net, change, fused_runs):
    before = net(*inputs()).detach()
    torch.manual_seed(1)
    change(net)
    fused_runs.clear()
    found = compared(net, run, inputs())["out"]
    assert not found.equal(before) or change is new_preprocessing
    assert fused_runs == ["network", "cell", "cell", "cell"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copy_has_a_plan_of_its_own(net, copied, fused_runs):
    twin = copied(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert not twin(*inputs()).equal(net(*inputs()))
    compared(twin, run, inputs())
    assert set(fused_runs) == {"network", "cell"}


def test_plan_is_made_once(net, monkeypatch):
    plans = [cell._fusion._state[3] for cell in net.cells]
    assert None not in plans
    net(*inputs())
    assert [cell._fusion._state[3] for cell in net.cells] == plans


def test_hook_added_later_is_run_and_after_its_removal_the_cell_is_fused_again(net, fused_runs):
    seen = []
    handle = changed_block(net)[7].register_forward_hook(lambda module, args, out: seen.append(out.shape))
    net(*inputs())
    assert len(seen) == 1
    assert fused_runs == ["network", "cell", "cell"]
    assert "BatchNorm2d has hooks" in net.cells[0]._fusion.reason
    handle.remove()
    fused_runs.clear()
    net(*inputs())
    assert len(seen) == 1
    assert fused_runs == ["network", "cell", "cell", "cell"]
    assert net.cells[0]._fusion.reason is None


def test_global_hook_sees_every_layer(net):
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, out: seen.append(module))
    try:
        net(*inputs())
    finally:
        handle.remove()
    assert set(net.modules()) - set(seen) == {net.cells, *(cell._ops for cell in net.cells)}


def test_recomputed_statistics_are_those_of_plain_modules(net, fused_runs):
    loader = [images(2, 3, 8, 8, seed=seed) for seed in range(3)]
    twin = copy.deepcopy(net)
    update_bn(loader, net)
    with plain_modules():
        update_bn(loader, twin)
    assert_same(net.state_dict(), twin.state_dict())
    assert fused_runs == []
    net(*inputs())
    assert fused_runs == ["network", "cell", "cell", "cell"]


@pytest.mark.parametrize("update", [True, False])
def test_whether_unselected_statistics_move_may_change_after_the_first_run(update, fused_runs):
    gates = random_gates(DARTS, torch.Generator().manual_seed(0))

    def step(net, weight):
        return net(images(2, 3, 8, 8), Gates(weight, gates.active, gates.unit))

    found = shuffled(supernet(DARTS, 2, 3, 4, update_unselected_stats=not update))
    weight = gates.weight.requires_grad_()
    step(found, weight).sum().backward()
    for module in found.modules():
        if isinstance(module, MixedOp):
            module.update_unselected_stats = update
    fresh = shuffled(supernet(DARTS, 2, 3, 4, update_unselected_stats=update))
    fresh.load_state_dict(found.state_dict())
    expected = observed(fresh, step, [weight])
    assert_same(observed(found, step, [weight]), expected)
    assert set(fused_runs) == {"network", "cell"}


def test_parameters_of_functional_call_take_the_place_of_the_modules(net):
    parameters = {name: (p.detach() + 1).requires_grad_() for name, p in net.named_parameters()}

    def call(net, x):
        return torch.func.functional_call(net, parameters, (x,))

    results = []
    for plain in (False, True):
        with plain_modules(plain):
            out = call(copy.deepcopy(net), *inputs())
            results.append([out, *torch.autograd.grad(out.sum(), list(parameters.values()))])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)


REASONS = {
    "three dimensions": (lambda: torch.zeros(3, 4, 4), r"\(N, C, H, W\)"),
    "no images": (lambda: torch.zeros(0, 3, 4, 4), "not empty"),
    "half precision": (lambda: torch.zeros(1, 3, 4, 4).half(), r"not in torch\.float16"),
    "bfloat16": (lambda: torch.zeros(1, 3, 4, 4).bfloat16(), r"not in torch\.bfloat16"),
    "no data": (lambda: torch.zeros(1, 3, 4, 4, device="meta"), "no kernels for meta"),
}


@pytest.mark.parametrize("case", REASONS)
def test_input_that_is_not_fused_says_why(case):
    make, text = REASONS[case]
    assert why_not_fused(torch.zeros(1, 3, 4, 4)) is None
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(why_not_fused(make()))


def test_subclass_of_tensor_is_not_fused():
    class Marked(torch.Tensor):
        pass

    assert "plain tensors" in why_not_fused(torch.zeros(1, 3, 4, 4).as_subclass(Marked))


def test_plain_modules_end_with_their_block():
    x = torch.zeros(1, 3, 4, 4)
    with plain_modules():
        with plain_modules(False):
            assert why_not_fused(x) is None
        assert "switched off" in why_not_fused(x)
    assert why_not_fused(x) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_runs_plain(dtype, fused_runs):
    net = derived_network(GENOTYPES["DARTS_V2"], 2, 3, 4)

    def call(net, x):
        with torch.autocast("cpu", dtype):
            return net(x)

    x = torch.randn(2, 3, 8, 8)
    found = observed(copy.deepcopy(net), call, [x])
    with plain_modules():
        expected = observed(copy.deepcopy(net), call, [x])
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert found["out"].dtype == dtype
    assert fused_runs == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_network_runs_plain(dtype, fused_runs):
    net = supernet(DARTS, 2, 3, 4).to(dtype)
    gates = random_gates(DARTS, torch.Generator().manual_seed(0), dtype=dtype)

    def call(net, x, weight):
        return net(x, Gates(weight, gates.active, True))

    x, weight = torch.randn(2, 3, 8, 8).to(dtype), gates.weight.requires_grad_()
    found = observed(copy.deepcopy(net), call, [x, weight])
    with plain_modules():
        expected = observed(copy.deepcopy(net), call, [x, weight])
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert fused_runs == []


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_transforms_of_torch_func_go_through_each_layer(net, fused_runs):
    net.eval()
    x = inputs()[0]
    (expected,) = torch.autograd.grad(net(x).sum(), x)
    fused_runs.clear()
    found = torch.func.grad(lambda x: net(x).sum())(x.detach())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    _, tangent = torch.func.jvp(net, (x.detach(),), (torch.ones_like(x),))
    torch.testing.assert_close(tangent.sum(), expected.sum(), rtol=1e-9, atol=1e-9)
    assert fused_runs == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_network_runs_plain(net, fused_runs):
    x = inputs()[0].detach()
    expected = net.eval()(x)
    fused_runs.clear()
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(net, backend="eager")(x), expected, rtol=1e-9, atol=1e-9)
    assert fused_runs == []


OTHER = {
    "Conv1d": ([nn.Conv1d(4, 4, 1), nn.Conv1d(4, 4, 3, padding=1)], (2, 4, 7)),
    "Linear": ([nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))], (2, 4)),
    "Linear of images": ([nn.Linear(4, 4), nn.Identity()], (2, 3, 5, 4)),
    "attention": ([nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Identity()], (2, 5, 4)),
}


@pytest.mark.parametrize("case", OTHER)
def test_mixed_op_of_other_modules_runs_them(case, fused_runs):
    modules, shape = OTHER[case]
    op = MixedOp.from_modules(modules).double().eval()
    x = images(*shape)
    weights = torch.tensor([0.0, 1.5], dtype=torch.float64)
    torch.testing.assert_close(op(x, weights), mixture(op, x, weights))
    found = torch.autograd.grad(op(x, weights.requires_grad_()).pow(2).sum(), weights)
    torch.testing.assert_close(found, torch.autograd.grad(mixture(op, x, weights).pow(2).sum(), weights))
    assert fused_runs == []
