# SPDX-License-Identifier: MIT
"""prox_C against clamp, argmax and scatter; at the large size also against a copy of as many bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.baselines.prox import prox_c_composite, prox_c_lean_composite
from benchmarks.framework import Case, Phases, Prepared, Settings, assert_equal, try_compile
from nasp_ext import ops

_OPTIONS = 8
_LARGE = 1_000_000
_OURS, _COMPOSITE, _LEAN = "prox_c", "composite", "lean composite"
_COMPILED, _REFERENCE = "compiled composite", "reference"
_COPY_NEW, _COPY = "copy into new memory", "copy in place"


def cases(settings: Settings) -> list[Case]:
    sizes = (14, 1000) if settings.quick else (14, 1000, _LARGE)
    return [_case(settings, rows) for rows in sizes]


def _case(settings: Settings, rows: int) -> Case:
    large = rows == _LARGE
    names = (_OURS, _COMPOSITE, _LEAN, _COMPILED, *((_COPY_NEW, _COPY) if large else (_REFERENCE,)))

    def build() -> Prepared:
        a = torch.randn(rows, _OPTIONS, generator=settings.generator()).to(settings.device)
        _check(a)
        variants: dict[str, Phases] = {
            _OURS: {"": lambda: ops.prox_c(a)},
            _COMPOSITE: {"": lambda: prox_c_composite(a)},
            _LEAN: {"": lambda: prox_c_lean_composite(a)},
        }
        missing = {_COMPILED: "not compiled in a quick run"}
        if not settings.quick:
            compiled, reason = try_compile(prox_c_composite, a)
            missing = {_COMPILED: reason} if compiled is None else {}
            if compiled is not None:
                variants |= {_COMPILED: {"": lambda: compiled(a)}}
        if large:
            # prox_c reads A, writes values of 4 bytes and an int64 index per row; a copy reads and writes.
            moved = torch.zeros((a.numel() * (4 + 4) + rows * 8) // 8, device=a.device)
            target = torch.empty_like(moved)
            variants |= {_COPY_NEW: {"": moved.clone}, _COPY: {"": lambda: target.copy_(moved)}}
        else:
            variants |= {_REFERENCE: {"": lambda: ops.reference.prox_c(a)}}
        return Prepared(variants, missing)

    return Case(f"prox_c {rows}x{_OPTIONS}", names, build)


def _check(a: Tensor) -> None:
    values, index = ops.prox_c(a)
    for name, (other_values, other_index) in {
        _COMPOSITE: prox_c_composite(a),
        _LEAN: prox_c_lean_composite(a),
        _REFERENCE: ops.reference.prox_c(a[:1000]),
    }.items():
        count = len(other_index)
        assert_equal(values[:count], other_values, 0.0, f"values of prox_c and the {name}")
        assert_equal(index[:count], other_index, 0.0, f"index of prox_c and the {name}")
