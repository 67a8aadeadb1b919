# SPDX-License-Identifier: MIT
"""Small matrices on the CPU by their addresses, past PyTorch's dispatcher: ``nasp_step_``, and a check."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import Parameter

from .. import _C

_BITS = {torch.float32: 32, torch.float64: 64}
_MOST_ELEMENTS = 1 << 15  # the call holds the GIL; beyond this the dispatcher's share is small anyway


class DirectStep:
    """``nasp_step_`` on tensors whose addresses were looked up beforehand: the same native code, same bits.

    For a cell of DARTS the arithmetic is a tenth of the operator's call. The tensors are kept alive; the
    caller makes sure, by ``still_fits`` or otherwise, that none was resized or given other storage since.

    Args:
        tensors: a, weight, active, exp_avg, exp_avg_sq, cost, mask, as ``nasp_step_`` takes them; no copies.
        node_offsets, edges_per_node, keep_value: as there. ``make`` checks them all.
    """

    def __init__(
        self,
        tensors: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None],
        node_offsets: Sequence[int] | None,
        edges_per_node: int | None,
        keep_value: bool,
    ) -> None:
        a, weight, active, exp_avg, exp_avg_sq, cost, mask = self._tensors = tensors
        rows, options = self._shape = a.shape
        self._dtype = a.dtype
        self._moments = exp_avg, exp_avg_sq
        self._offsets = torch.tensor([] if edges_per_node is None else node_offsets, dtype=torch.int64)
        moments = _address(exp_avg), _address(exp_avg_sq)
        self._moment_addresses = moments
        self._fixed = (
            *(_BITS[a.dtype], rows, options, a.data_ptr(), weight.data_ptr(), active.data_ptr(), *moments),
            *(_address(cost), 1 if cost is None else cost.numel() // options),
            *(_address(mask), 1 if mask is None else mask.numel() // options),
            *(_address(self._offsets), len(self._offsets) - 1, edges_per_node or 0, int(keep_value)),
        )

    @classmethod
    def make(
        cls,
        a: Tensor,
        weight: Tensor,
        active: Tensor,
        exp_avg: Tensor | None,
        exp_avg_sq: Tensor | None,
        *,
        cost: Tensor | None,
        mask: Tensor | None,
        node_offsets: Sequence[int] | None,
        edges_per_node: int | None,
        keep_value: bool,
    ) -> "DirectStep | None":
        """A DirectStep of these arguments; None if they cannot be used by address: the operator explains."""
        tensors = (a, weight, active, exp_avg, exp_avg_sq, cost, mask)
        ordered = node_offsets is not None and all(low < high for low, high in pairwise(node_offsets))
        possible = (
            all(t is None or _is_plain(t) for t in tensors)
            and a.dtype in _BITS
            and a.numel() <= _MOST_ELEMENTS
            and (edges_per_node is None or (edges_per_node >= 1 and ordered))
            and (mask is None or mask.shape in (a.shape, a.shape[1:]))
        )
        return cls(tensors, node_offsets, edges_per_node, keep_value) if possible else None

    def still_fits(self, a: Tensor, grad: Tensor) -> bool:
        """Whether ``a`` and its moments lie where they lay, and ``grad`` can be read by its address.

        The caller has compared the address of ``a``.
        """
        first, second = self._moments
        return (
            type(grad) is Tensor
            and grad.layout is torch.strided
            and grad.shape == self._shape
            and a.shape == self._shape
            and grad.dtype is self._dtype
            and grad.is_cpu
            and grad.is_contiguous()
            and a.is_contiguous()
            and not grad.is_neg()
            and (first is None or first.data_ptr() == self._moment_addresses[0])
            and (second is None or second.data_ptr() == self._moment_addresses[1])
        )

    def __call__(
        self,
        grad: Tensor,
        step: int,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        eta: float,
        seed: int | None,
    ) -> None:
        """Take the step; ``seed`` breaks exact ties, None: the lowest index. Raises the version of ``a``."""
        _C.step_by_address(*self._fixed, grad.data_ptr(), step, lr, *betas, eps, weight_decay, eta, seed)
        torch.autograd.graph.increment_version(self._tensors[0])


def all_finite(t: Tensor) -> bool:
    """Whether no entry of a floating-point tensor on the CPU is a NaN or an infinity."""
    if type(t) in (Tensor, Parameter) and t.dtype in _BITS and t.numel() <= _MOST_ELEMENTS and _is_plain(t):
        return _C.all_finite_by_address(_BITS[t.dtype], t.data_ptr(), t.numel())
    return bool(t.detach().isfinite().all())


def _address(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


def _is_plain(t: Tensor) -> bool:
    return t.is_cpu and t.layout is torch.strided and t.is_contiguous() and not t.is_neg()
