# SPDX-License-Identifier: MIT
"""One of two processes that train a MixedOp under DistributedDataParallel: arguments store address, rank."""

import os
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nasp_ext.nn import MixedOp


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.op = MixedOp(4, 1)
        self.classifier = nn.Linear(4, 2)
        self.alphas = nn.Parameter(torch.eye(8)[[4]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.op(x, self.alphas[0]).mean((2, 3)))


def main(store: str, rank: int) -> None:
    torch.manual_seed(rank)  # DDP makes the weights of the processes equal
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    net = Net()
    parallel = DistributedDataParallel(net, find_unused_parameters=True)
    optimizer = torch.optim.SGD(net.op.parameters(), 0.1)
    before = [p.detach().clone() for p in net.op._ops[4].parameters()]
    for option in (4, 6, 4):
        with torch.no_grad():
            net.alphas.copy_(torch.eye(8)[[option]])
        optimizer.zero_grad()
        net.alphas.grad = None
        labels = torch.tensor([0, 1, 0, 1])
        loss = nn.functional.cross_entropy(parallel(torch.randn(4, 4, 6, 6)), labels)
        loss.backward()
        optimizer.step()
        gathered = [torch.empty_like(net.alphas.grad) for _ in range(2)]
        dist.all_gather(gathered, net.alphas.grad)
        assert gathered[0].equal(gathered[1]), "the gradient of alphas is not averaged"
        assert int((gathered[0] != 0).sum()) == 7, "all options but none have a gradient"
    after = list(net.op._ops[4].parameters())
    assert all(not old.equal(new) for old, new in zip(before, after, strict=True)), "no step was taken"
    mine = torch.cat([p.detach().flatten() for p in net.op.parameters()])
    theirs = [torch.empty_like(mine) for _ in range(2)]
    dist.all_gather(theirs, mine)
    assert theirs[0].equal(theirs[1]), "the processes hold different weights"
    dist.destroy_process_group()
    print("trained")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
    sys.stdout.flush()
    os._exit(
        0
    )  # gloo's thread of PyTorch may still ask for the GIL when the interpreter shuts down, and aborts
