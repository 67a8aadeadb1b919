# SPDX-License-Identifier: MIT
"""Hypothesis strategies: architecture matrices in awkward shapes and layouts, with ties, and their masks."""

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

QUICK = settings(max_examples=60, deadline=None, derandomize=True)
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]

# Few distinct numbers, so that ties are common; the bounds, both zeros and both infinities among them.
ENTRIES = [-float("inf"), -2.0, -0.5, -0.0, 0.0, 0.25, 0.5, 0.5, 1.0, 1.5, 3.0, float("inf")]


@st.composite
def matrices(draw: st.DrawFn, max_leading: int = 2, dtypes: list[torch.dtype] = DTYPES) -> Tensor:
    """(..., R, K): empty, one row, one or over 64 options; contiguous, transposed, sliced, expanded."""
    leading = draw(st.lists(st.integers(0, 3), max_size=max_leading))
    shape = (
        *leading,
        draw(st.integers(0, 20)),
        draw(st.one_of(st.integers(1, 12), st.sampled_from([64, 70]))),
    )
    count = int(torch.tensor(shape).prod())
    picks = draw(st.lists(st.sampled_from(ENTRIES), min_size=min(count, 40), max_size=min(count, 40)))
    repeats = -(-count // max(len(picks), 1))
    dense = torch.tensor(picks * repeats, dtype=draw(st.sampled_from(dtypes)))[:count].reshape(shape)
    layout = draw(st.sampled_from(["contiguous", "transposed", "sliced", "expanded"]))
    if layout == "transposed":
        return dense.mT.contiguous().mT
    if layout == "sliced":
        wide = dense.new_full((*shape[:-1], 2 * shape[-1] + 1), float("nan"))
        wide[..., 1::2] = dense
        return wide[..., 1::2]
    if layout == "expanded" and dense.dim() > 1 and shape[0] > 0:
        return dense[:1].expand(shape)
    return dense


@st.composite
def masks(draw: st.DrawFn, a: Tensor) -> Tensor | None:
    """None, or a bool tensor that broadcasts to ``a``; fully masked rows are common."""
    if draw(st.booleans()):
        return None
    shape = list(a.shape[draw(st.integers(0, a.dim() - 1)) :])
    if draw(st.booleans()):
        shape[draw(st.integers(0, len(shape) - 1))] = 1
    seed, share = draw(st.integers(0, 2**16)), draw(st.sampled_from([0.1, 0.5, 0.9]))
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


def seeded(seed: int | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator().manual_seed(seed)


SEEDS = st.one_of(st.none(), st.integers(0, 2**16))
