# SPDX-License-Identifier: MIT
"""Which options of a weight row are zero, known on the host at one device-to-host copy per matrix."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from nasp_ext.arch.gates import PRUNED
from nasp_ext.ops._transforms import by_torch_alone, is_followed, unwrapped


@dataclass(frozen=True)
class _Copy:
    """The memory a matrix spans, as it was at one version of it."""

    version: int
    address: int
    host: Tensor  # (span,), on the CPU
    values: list[float]


# Shared by all modules: the edges of a network do not know each other, only the matrix whose rows they get.
_COPIES = WeakTensorKeyDictionary()
_WARNED = WeakTensorKeyDictionary()


def active_option(weights: Tensor) -> tuple[int | None, bool]:
    """The one option of a row that is not zero.

    The row ``alphas[i]`` is a view: the whole matrix is copied at once and kept while autograd's version
    counter of it stands still. A change through ``.data`` does not move that counter; on the CPU the row is
    compared with the copy, on another device such a change goes unseen. Rows that are no views (and all rows
    under ``torch.inference_mode``, which keeps no counters) are copied one by one.

    Args:    weights: (K,).
    Returns: (option, whether its weight is exactly 1); option = PRUNED for a row of zeros, None if dense.
    Raises:  ValueError: if the row holds a NaN.
    """
    if torch._C._are_functorch_transforms_active():
        row = unwrapped(weights)
        if row is None:
            return None, False  # a batch of rows: every option runs
        values = _values(_copy_to_host(row.detach()))
    else:
        values = _host_row(weights.detach(), weights if weights._base is None else weights._base)
    nonzero = [option for option, value in enumerate(values) if value != 0]
    if any(map(math.isnan, values)):
        raise ValueError(f"expected finite weights, got a NaN in {values}: look at the step that made them")
    if len(nonzero) > 1:
        return None, False
    return (nonzero[0], values[nonzero[0]] == 1) if nonzero else (PRUNED, False)


def is_constant(weights: Tensor) -> bool:
    """Whether nothing differentiates with respect to a row, or maps over it."""
    if by_torch_alone():  # a trace is the same with and without gradients
        return not (weights.requires_grad or is_followed(weights))
    return not (weights.requires_grad and torch.is_grad_enabled())


def warn_of_nothing(weights: Tensor, nothing: Sequence[int]) -> None:
    """Warn, once for each matrix, where all rows of the matrix of this row select nothing: nothing moves.

    Args:    weights: (K,), a row without or with such an option alone; nothing: the options that give zero.
    """
    matrix = weights._base
    if matrix is None or matrix in _WARNED or matrix.dim() != 2 or matrix.shape[1] != len(weights):
        return
    rows: list[list[float]] = matrix.detach().to("cpu", torch.float64).tolist()
    if len(rows) < 2 or any(
        value != 0 for row in rows for option, value in enumerate(row) if option not in nothing
    ):
        return
    _WARNED[matrix] = True
    warnings.warn(
        f"all {len(rows)} rows of an architecture matrix select `none`: the output is zero, and so are the "
        "gradients that would change it. Take `none` out of the choice (mask= of nasp_ext.NASP), or start "
        "from other values",
        stacklevel=2,
    )


def _host_row(row: Tensor, matrix: Tensor) -> list[float]:
    if matrix.is_inference() or matrix.dtype != row.dtype:
        return _values(_copy_to_host(row))
    start, step = int(row.storage_offset()) - int(matrix.storage_offset()), row.stride(0)
    positions = range(start, start + len(row)) if step == 1 else [start + i * step for i in range(len(row))]
    if not 0 <= positions[0] <= positions[-1] < _span(matrix):
        return _values(_copy_to_host(row))
    copy: _Copy | None = _COPIES.get(matrix)  # type: ignore[no-untyped-call]  # of a typed package
    if copy is None or _is_stale(copy, matrix, row, start):
        memory = matrix.detach().as_strided((_span(matrix),), (1,), matrix.storage_offset())
        host = _copy_to_host(memory)
        copy = _Copy(matrix._version, matrix.data_ptr(), host, _values(host))
        _COPIES[matrix] = copy
    return [copy.values[position] for position in positions]


def _is_stale(copy: _Copy, matrix: Tensor, row: Tensor, start: int) -> bool:
    if (copy.version, copy.address) != (matrix._version, matrix.data_ptr()):
        return True
    return row.device.type == "cpu" and _differs(row, copy, start)


def _differs(row: Tensor, copy: _Copy, start: int) -> bool:
    return not row.equal(copy.host.as_strided(row.shape, row.stride(), start))


def _span(matrix: Tensor) -> int:
    """Elements of memory between the first and the last entry."""
    return 1 + sum((size - 1) * step for size, step in zip(matrix.shape, matrix.stride(), strict=True))


def _copy_to_host(memory: Tensor) -> Tensor:
    """The one place of the package's networks that waits for the device."""
    return memory.to("cpu", copy=True)


def _values(host: Tensor) -> list[float]:
    values: list[float] = host.to(torch.float64).tolist()
    return values
