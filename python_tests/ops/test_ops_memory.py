# SPDX-License-Identifier: MIT
"""Memory that is kept between steps, and what the child of a fork finds of it and of the threads."""

import os
import subprocess
import sys

import pytest
import torch

from nasp_ext import ops

MIB = 1 << 20
ALL_THERE_IS = (1 << 20, 1 << 10, 1 << 9, 1 << 6)  # 2^47 bytes in float32, what a process can address


def kept_after_many_sizes() -> int:
    """The bytes left over from one batch of images after another, of 4 MiB and more."""
    like = torch.zeros(1)
    for i in range(20):
        ops.empty_images(like, (1, 64, 128, 128 + i))
    return ops.release_memory()


def test_kept_memory_is_that_of_the_largest_batch() -> None:
    ops.release_memory()
    largest = 64 * 128 * 147 * 4
    assert 0 < kept_after_many_sizes() <= largest


@pytest.mark.parametrize("times", [1, 3])
def test_an_allocation_that_fails_does_not_raise_the_bound(times: int) -> None:
    ops.release_memory()
    for _ in range(times):
        with pytest.raises(RuntimeError, match="not enough memory: you tried to allocate 140737488355328"):
            ops.empty_images(torch.zeros(1), ALL_THERE_IS)
    assert 0 < kept_after_many_sizes() <= 64 * 128 * 147 * 4


def test_an_allocation_that_fails_leaves_the_images_in_use_alone() -> None:
    x = ops.empty_images(torch.zeros(1), (1, 64, 128, 128)).fill_(3)
    with pytest.raises(RuntimeError, match="not enough memory"):
        ops.empty_images(torch.zeros(1), ALL_THERE_IS)
    assert bool((x == 3).all())
    del x
    assert ops.release_memory() == 4 * MIB


# os.fork warns where other threads run, so each of these programs is a process of its own.
WAIT = """
import os, signal, sys, threading, time
import torch
from nasp_ext import ops

def finished(child):
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if child() else 1)
        finally:
            os._exit(2)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "it waited for ever"
"""

WHILE_ANOTHER_ALLOCATES = """
stop = False
like = torch.zeros(1)

def allocate():
    sizes = [(1, 64, 128, 128 + i) for i in range(8)]
    while not stop:
        for size in sizes:  # of a new size each: the memory of the one before is freed under the mutex
            ops.empty_images(like, size).fill_(1)

def child():
    x = ops.empty_images(like, (1, 64, 64, 64))
    return x.shape[1] == 64 and ops.release_memory() >= 0

torch.set_num_threads(1)
other = threading.Thread(target=allocate)
other.start()
results = [finished(child) for _ in range(30)]
stop = True
other.join()
sys.exit(0 if results == [0] * 30 else f"children of a fork ended with {set(results)}")
"""

AFTER_THREADS = """
torch.manual_seed(0)
torch.set_num_threads(2)
x = torch.randn(8, 64, 16, 16).to(memory_format=torch.channels_last)
weights, rows = [torch.randn(64, 64, 1, 1)], torch.randn(20_000, 8)
branches = [torch.randn(1 << 18) for _ in range(3)]

def results():
    geometry = [1, 1, 1, 1, 0, 0, 1, 1]
    z, norm = torch.ops.nasp_ext.block_forward(
        x, None, None, weights, geometry, True, True, None, None, None, None, 1e-5)
    found = [z, norm, *ops.prox_c(rows), ops.branch_dots(branches[0], branches[1:])]
    return [t.numpy().tobytes() for t in found]  # no operator of PyTorch's: it would wait in the child

expected = results()
found = finished(lambda: results() == expected)
assert results() == expected  # the parent has its threads still
sys.exit(0 if found == 0 else f"the child of a fork ended with {found}")
"""


# A plain C++ program that allocates in one thread and forks in another hangs as well: 13 children of 4,000.
UNDER_ASAN = pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer's own malloc keeps its locks in a child"
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(WHILE_ANOTHER_ALLOCATES, id="allocating", marks=UNDER_ASAN),
        pytest.param(AFTER_THREADS, id="threads"),
    ],
)
def test_the_child_of_a_fork_does_not_wait_for_threads_it_has_not_got(program: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", WAIT + program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
