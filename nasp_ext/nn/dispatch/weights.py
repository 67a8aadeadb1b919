# SPDX-License-Identifier: MIT
"""Whether a row of weights fits an edge."""

from collections.abc import Collection

import torch
from torch import Tensor

_HALF = {torch.float16, torch.bfloat16}


def check_row(weights: Tensor, names: tuple[str, ...], x: Tensor) -> None:
    """Raise TypeError or ValueError unless weights are (K,), beside ``x``."""
    count = len(names)
    if not isinstance(weights, Tensor):
        raise TypeError(f"expected weights to be a tensor ({count},), got {type(weights).__name__}")
    if weights.shape != (count,):
        found = tuple(weights.shape)
        raise ValueError(f"expected weights of shape ({count},), one for each of {names}, got {found}")
    if weights.device != x.device:
        raise ValueError(f"expected weights on the device of x, {x.device}, got {weights.device}")


def fits_input(weights: Tensor, x: Tensor) -> bool:
    """Whether the dtypes fit; if not, that of the outputs still may."""
    if not weights.is_floating_point():
        return False
    return weights.dtype == x.dtype or (x.dtype in _HALF and weights.dtype == torch.float32)


def check_dtype(weights: Tensor, outputs: Collection[torch.dtype]) -> None:
    """Raise ValueError unless weights have a dtype of the outputs, or are float32 beside half types."""
    allowed = {*outputs, torch.float32} if _HALF.intersection(outputs) else set(outputs)
    if weights.dtype not in allowed:
        found = ", ".join(sorted(map(str, outputs)))
        raise ValueError(
            f"expected weights in the dtype of the branches' outputs, {found}, got {weights.dtype}: "
            "convert one"
        )
