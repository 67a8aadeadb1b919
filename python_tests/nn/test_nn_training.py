# SPDX-License-Identifier: MIT
"""MixedOp under autocast, checkpoint, torch.compile and DistributedDataParallel."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nn_drawn import mixture
from torch import nn
from torch.utils.checkpoint import checkpoint

from nasp_ext.nn import MixedOp


class Pair(nn.Module):
    """Two mixed edges in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = MixedOp(4, 1), MixedOp(4, 2)

    def forward(self, x, weights):
        hidden = torch.relu(self.first(x, weights[0]) + 1)
        return self.second(hidden, weights[1]).pow(2).mean()


class PlainPair(Pair):
    """The same with every branch run."""

    def forward(self, x, weights):
        hidden = torch.relu(mixture(self.first, x, weights[0]) + 1)
        return mixture(self.second, hidden, weights[1]).pow(2).mean()


def pairs():
    net, plain = Pair().double(), PlainPair().double()
    plain.load_state_dict(net.state_dict())
    return net, plain


def one_hot(*options):
    return torch.eye(8, dtype=torch.float64)[list(options)].requires_grad_()


def train(net, call=lambda net, x, weights: net(x, weights), options=((4, 3), (6, 7), (1, 4))):
    """Three steps on weights and architecture; the losses and gradients."""
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    found = []
    for step, option in enumerate(options):
        x = torch.randn(4, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        weights = one_hot(*option)
        optimizer.zero_grad()
        loss = call(net, x.requires_grad_(), weights)
        loss.backward()
        optimizer.step()
        found += [loss.detach(), weights.grad, x.grad]
    return found


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_network_trains_as_the_mixture(reentrant):
    net, plain = pairs()
    found = train(net, lambda net, x, w: checkpoint(net, x, w, use_reentrant=reentrant))
    torch.testing.assert_close(found, train(plain), rtol=1e-10, atol=1e-12)


# torch's tracer itself reads .grad of non-leaf tensors that enter a resumed frame, and warns of it.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_caller_trains_as_the_mixture():
    net, plain = pairs()
    torch.compiler.reset()
    found = train(torch.compile(net, backend="eager"))
    torch.testing.assert_close(found, train(plain), rtol=1e-10, atol=1e-12)


def test_importing_the_networks_does_not_load_the_compiler():
    code = "import sys, nasp_ext.nn; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("option", [3, 4])
def test_autocast_gives_the_gradient_of_the_mixture(option, assert_close):
    net, plain = MixedOp(8, 1), MixedOp(8, 1)
    plain.load_state_dict(net.state_dict())
    x = torch.randn(4, 8, 6, 6)
    upstream = torch.randn(4, 8, 6, 6)
    grads = []
    for op, active in ((net, option), (plain, None)):
        weights = torch.eye(8)[option].clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            out = op(x, weights, active=active)
        (out.float() * upstream).sum().backward()
        grads.append(weights.grad.to(torch.bfloat16) / upstream.norm().to(torch.bfloat16))
    assert_close(*grads)


def test_branches_of_backward_run_under_the_autocast_of_the_forward():
    dtypes = []
    op = MixedOp.from_modules([nn.Identity(), nn.Linear(4, 4)])
    op._ops[1].register_forward_hook(lambda module, args, out: dtypes.append(out.dtype))
    weights = torch.tensor([1.0, 0.0], requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = op(torch.randn(2, 4), weights)
    out.sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        out = op(torch.randn(2, 4), torch.zeros(2, requires_grad=True))
        with torch.autocast("cpu", enabled=False):
            out.float().sum().backward()
    assert dtypes == [torch.bfloat16, torch.bfloat16]


def test_half_precision_network_takes_float32_weights():
    op = MixedOp(4, 1).bfloat16()
    x = torch.randn(2, 4, 5, 5, dtype=torch.bfloat16)
    for weights in (torch.eye(8)[4], torch.full((8,), 0.125)):
        assert op(x, weights).dtype == torch.bfloat16
        assert op(x, weights.bfloat16()).dtype == torch.bfloat16


def test_deep_copy_is_independent():
    net, _ = pairs()
    twin = copy.deepcopy(net)
    train(net)
    assert not net.first._ops[4].op[1].weight.equal(twin.first._ops[4].op[1].weight)


def test_distributed_processes_agree_and_train(tmp_path):
    script = Path(__file__).parent / "nn_distributed_worker.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    store = f"file://{tmp_path / 'store'}"
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), store, str(rank)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert all("trained" in output for output in outputs)
