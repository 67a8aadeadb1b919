# SPDX-License-Identifier: MIT
"""Damaged calls of every operator: each is an error that changes nothing, or what its twin says.

    python torture.py --calls 100000                  every operator, in child processes
    python torture.py --operator node_sum_ --seed 17  one call again

A call that kills its process or hangs is reported by the process that waits for it.
"""

import argparse
import copy
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from mmap import mmap
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ops_damage import damaged
from ops_valid_calls import OPERATORS, Arguments, drawn
from torch import Tensor

VALID_CALLS = 30
MOST_REPORTS = 5
MEMORY = 6 << 30  # of the child's addresses, so that absurd sizes fail instead of filling the machine
# Of the sum of magnitudes; of the coarsest type among the tensors, which are computed from one another.
TOLERANCES = {torch.float64: 1e-7, torch.float32: 2e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
REFUSALS = (ValueError, TypeError, RuntimeError)
NOTE = 200  # bytes in which the child says what it is about to do


def tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """In the whole memory of two tensors."""
    if a.layout is not torch.strided or a.is_meta:
        return True
    whole = [torch.empty(0, dtype=torch.uint8).set_(t.untyped_storage()) for t in (a, b)]
    return torch.equal(*whole)


def unequal(found: Any, expected: Any) -> str:
    """Where two results differ; empty if they do not."""
    ours, theirs = list(tensors_in(found)), list(tensors_in(expected))
    if len(ours) != len(theirs):
        return f"{len(ours)} tensors instead of {len(theirs)}"
    tolerance = max([TOLERANCES.get(t.dtype, 0.0) for t in ours], default=0.0)
    for number, (one, two) in enumerate(zip(ours, theirs, strict=True)):
        one, two = one.detach().resolve_neg(), two.detach().resolve_neg()
        if one.device != two.device or one.shape != two.shape or one.dtype != two.dtype:
            kinds = [f"{tuple(t.shape)} {t.dtype} {t.device}" for t in (one, two)]
            return f"tensor {number}: {kinds[0]} instead of {kinds[1]}"
        if one.is_meta or one.layout is not torch.strided or not one.numel():
            continue
        wide = torch.complex128 if one.is_complex() else torch.float64
        a, b = one.to(wide), two.to(wide)
        limit = tolerance * (1.0 + float(b[b.isfinite()].abs().sum())) if one.is_floating_point() else 0.0
        if not torch.allclose(a, b, rtol=0, atol=limit, equal_nan=True):
            return f"tensor {number} of {tuple(one.shape)}: differs by {float((a - b).abs().max())}"
    return ""


def attempt(function: Any, arguments: Arguments) -> tuple[Any, Exception | None]:
    try:
        return function(*arguments), None
    except Exception as error:
        return None, error


def fault(name: str, arguments: Arguments) -> str:
    """What is wrong with the operator's answer to these arguments; empty if nothing is."""
    operator = OPERATORS[name]
    ours, theirs = copy.deepcopy(arguments), copy.deepcopy(arguments)
    found, error = attempt(operator.native, ours)
    if error is not None:
        if not isinstance(error, REFUSALS):
            return f"raised {type(error).__name__}: {error}"
        pairs = zip(tensors_in(ours), tensors_in(theirs), strict=True)
        kept = all(same_bits(a, b) for a, b in pairs)
        return "" if kept else f"changed its arguments, then raised {error}"
    expected, error = attempt(operator.twin, theirs)
    if isinstance(error, NotImplementedError) and all(t.is_meta for t in tensors_in([found, ours])):
        return ""  # shapes alone; the twin reads numbers
    if error is not None:
        return f"answered where the twin raised {type(error).__name__}: {error}"
    return unequal([found, ours], [expected, theirs])


def damaged_call(valid: list[Arguments], seed: int) -> tuple[Arguments, list[str]]:
    random = Random(seed)
    arguments = copy.deepcopy(random.choice(valid))
    return damaged(arguments, random)


def torture(names: list[str], calls: int, seed: int, note: mmap) -> int:
    """Run the calls; prints the faults and returns their number."""
    faults = 0
    for name in names:
        valid, reports = drawn(OPERATORS[name], VALID_CALLS), 0
        for number in range(seed, seed + calls):
            note[:] = f"{name} --seed {number}".ljust(NOTE).encode()
            torch.manual_seed(number)
            arguments, damage = damaged_call(valid, number)
            wrong = fault(name, arguments)
            if wrong and reports < MOST_REPORTS:
                print(
                    f"--operator {name} --seed {number}: {damage}: {wrong}".replace("\n", " ")[:600],
                    flush=True,
                )
                reports += 1
            faults += bool(wrong)
    return faults


def limit_memory() -> None:
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def in_child(names: list[str], calls: int, seed: int = 0, timeout: float = 7200, limited: bool = True) -> str:
    """What is wrong, as text; empty if nothing is."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "note"
        path.write_bytes(b" " * NOTE)
        order = json.dumps([names, calls, seed, str(path), limited])
        command = [sys.executable, str(Path(__file__).resolve()), "--child", order]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return f"hangs: --operator {path.read_text().strip()}"
        if done.returncode == 0:
            return ""
        last = path.read_text().strip()
        ended = f"ended with {done.returncode} at --operator {last}" if done.returncode != 1 else ""
        return "\n".join([done.stdout, done.stderr[-3000:], ended]).strip()


def child(order: str) -> int:
    names, calls, seed, path, limited = json.loads(order)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # small tensors: a second thread would wait more than it works
    if limited:
        limit_memory()
    with open(path, "r+b") as file, mmap(file.fileno(), NOTE) as note:
        return min(torture(names, calls, seed, note), 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operator", choices=sorted(OPERATORS), action="append")
    parser.add_argument("--calls", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unlimited", action="store_true", help="memory: a sanitizer needs all addresses")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.child)
    failed = 0
    for name in options.operator or sorted(OPERATORS):
        wrong = in_child([name], options.calls, options.seed, limited=not options.unlimited)
        print(f"{name}: {wrong or f'{options.calls} damaged calls, none answered wrongly'}", flush=True)
        failed += bool(wrong)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
