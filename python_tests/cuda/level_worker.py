# SPDX-License-Identifier: MIT
"""Compares the CPU operators of a library bound to one instruction set with the installed ones, bit by bit.

Arguments: the library, the level it must run. A process for each: all register torch.ops.nasp_level.
"""

import ctypes
import subprocess
import sys
from itertools import product

import torch

import nasp_ext  # noqa: F401  registers torch.ops.nasp_ext

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
SHAPES = [(0, 3), (1, 1), (14, 8), (33, 7), (3, 70), (600, 8)]
SIZES = [0, 1, 31, 33, 4096, 70_001]


def clone_of_probe(library: str) -> str:
    """The name of the clone that the loader picked: the symbol at the address that nasp_probe has here."""
    loaded = ctypes.CDLL(library)
    here = {
        name: ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value
        for name in ("nasp_probe", "nasp_anchor")
    }
    listing = subprocess.run(["nm", library], capture_output=True, text=True, check=True).stdout
    symbols = [line.split() for line in listing.splitlines() if "nasp_" in line and len(line.split()) == 3]
    place = {name: int(address, 16) for address, _, name in symbols}
    start = here["nasp_anchor"] - place["nasp_anchor"]
    return next(
        n for n, at in place.items() if n.startswith("nasp_probe.") and at == here["nasp_probe"] - start
    )


def flat(results):
    """The tensors of a result, as bytes."""
    if isinstance(results, torch.Tensor):
        return [results.contiguous().reshape(-1).view(torch.uint8)]
    return [tensor for result in results for tensor in flat(result)]


def compare(name: str, *arguments, changed: tuple[int, ...] = ()) -> None:
    """Run both; ``changed`` are the arguments that are written to."""
    found, expected = [], []
    for namespace, into in ((torch.ops.nasp_level, found), (torch.ops.nasp_ext, expected)):
        own = [a.clone() if i in changed else a for i, a in enumerate(arguments)]
        results = getattr(namespace, name).default(*own)
        into += flat([own[i] for i in changed] if changed else results)
    if not all(torch.equal(x, y) for x, y in zip(found, expected, strict=True)):
        what = [f"{a.dtype} {tuple(a.shape)}" if isinstance(a, torch.Tensor) else a for a in arguments]
        raise SystemExit(f"{name} differs for {what}")


def projections() -> None:
    for dtype in DTYPES[:2]:  # so large that the results are written past the caches
        compare("prox_c", torch.randn(300_000, 8, dtype=dtype), None, None)
    for shape, dtype in product(SHAPES, DTYPES):
        a = (
            (torch.randn(shape) * 2).mul(4).round().div(4).to(dtype)
        )  # with ties, within and beyond the bounds
        for mask in (None, torch.rand(shape) < 0.6, torch.rand(shape[1]) < 0.6):
            compare("prox_c2", a, mask)
            for seed in (None, 5):
                compare("prox_c", a, mask, seed)
                compare("prox_c1", a, mask, seed)
                for offsets, keep_value in product(
                    (None, [0, shape[0]] if shape[0] else None), (False, True)
                ):
                    compare("select_active", a, offsets, 2 if offsets else None, mask, keep_value, seed)


def steps() -> None:
    for shape, dtype in product(SHAPES, DTYPES[:2]):
        a, grad, first = (
            torch.rand(shape, dtype=dtype),
            torch.randn(shape, dtype=dtype),
            torch.randn(shape, dtype=dtype),
        )
        weight, active = torch.ops.nasp_ext.select_active.default(a, None, None, None, False, None)
        masks = (None, torch.rand(shape) < 0.6)
        costs = (None, torch.rand(shape, dtype=dtype), torch.rand(shape[1], dtype=dtype))
        for adam, mask, cost in product((True, False), masks, costs):
            moments = (first, torch.rand(shape, dtype=dtype)) if adam else (None, None)
            numbers = (3, 0.1, 0.5, 0.999, 1e-8, 1e-3, cost, 0.3)
            changed = (0, 2, 3, 4, 5) if adam else (0, 2, 3)
            options = (None, None, mask, False, None)
            compare("nasp_step_", a, grad, weight, active, *moments, *numbers, *options, changed=changed)


def mixtures() -> None:
    for size, dtype, branches in product(SIZES, DTYPES, (1, 3, 8, 13)):
        grad, *outputs = (torch.randn(size).to(dtype) for _ in range(branches + 1))
        weights = torch.randn(branches, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
        compare("branch_dots", grad, outputs)
        compare("mixed_sum", outputs, weights)
        compare("mixed_sum_backward", grad, outputs, weights)


def main(library: str, level: str) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.ops.load_library(library)
    wanted = {"1": "nasp_probe.default"}.get(level, f"nasp_probe.arch_x86_64_v{level}")
    if (clone := clone_of_probe(library)) != wanted:
        raise SystemExit(f"expected the loader to pick {wanted}, found {clone}")
    projections()
    steps()
    mixtures()
    print("equal")


if __name__ == "__main__":
    main(*sys.argv[1:])
