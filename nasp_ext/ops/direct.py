# SPDX-License-Identifier: MIT
"""``nasp_step_`` of a small matrix on the CPU by the addresses of its tensors, past PyTorch's dispatcher."""

from array import array
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import Parameter

from nasp_ext import _C

_BITS = {torch.float32: 32, torch.float64: 64}
_STRIDED = torch.strided
_increment_version = torch.autograd.graph.increment_version
_MOST_ELEMENTS = 1 << 15  # the call holds the GIL; beyond this the dispatcher's share is small anyway


class DirectStep:
    """``nasp_step_`` on tensors whose addresses were looked up beforehand: the same native code, same bits.

    For a cell of DARTS the arithmetic is a tenth of the operator's call. The memory behind the addresses is
    kept alive; ``still_fits`` says, before each step, whether the tensors still lie there as they did.

    Args:
        tensors: a, weight, active, exp_avg, exp_avg_sq, cost, mask, as ``nasp_step_`` takes them; seen and
            seen_mask, copies of ``a`` and ``mask`` as ``weight`` was made from them, the first is kept up to
            date; cost_source, the numbers that ``cost`` was made of, and seen_cost, a copy of them. ``make``
            checks them all.
        node_offsets, edges_per_node, keep_value: as in ``nasp_step_``.
    """

    def __init__(
        self,
        tensors: tuple[Tensor | None, ...],
        node_offsets: Sequence[int] | None,
        edges_per_node: int | None,
        keep_value: bool,
    ) -> None:
        a, weight, active, exp_avg, exp_avg_sq, cost, mask, seen, seen_mask, source, seen_cost = tensors
        assert a is not None
        rows, options = self._shape = a.shape
        self._a, self._dtype = a, a.dtype
        self._offsets = torch.tensor([] if edges_per_node is None else node_offsets, dtype=torch.int64)
        # The caller's tensors may be given other memory or another shape, their aliases cannot.
        self._aliases = tuple(None if t is None else t.detach() for t in tensors)
        moments = self._addresses = _address(exp_avg), _address(exp_avg_sq)
        self._mask, self._source = _place(mask), _place(source)
        fixed = (
            *(_BITS[a.dtype], rows, options, a.data_ptr(), _address(weight), _address(active), *moments),
            *(_address(cost), 1 if cost is None else cost.numel() // options),
            *(_address(mask), 1 if mask is None else mask.numel() // options),
            *(_address(self._offsets), len(self._offsets) - 1, edges_per_node or 0, int(keep_value)),
            *(_address(seen), _address(seen_mask), _address(source), _address(seen_cost)),
            0 if source is None else source.numel() * source.element_size(),
        )
        self._fixed = array("q", fixed).tobytes()  # read by csrc/nasp_step/direct_cpu.cpp, in this order

    @classmethod
    def make(
        cls,
        a: Tensor,
        weight: Tensor,
        active: Tensor,
        exp_avg: Tensor | None,
        exp_avg_sq: Tensor | None,
        cost: Tensor | None,
        seen: Tensor | None,
        seen_mask: Tensor | None,
        cost_source: Tensor | None,
        seen_cost: Tensor | None,
        *,
        mask: Tensor | None,
        node_offsets: Sequence[int] | None,
        edges_per_node: int | None,
        keep_value: bool,
    ) -> "DirectStep | None":
        """A DirectStep of these arguments; None if they cannot be used by address: the operator explains."""
        tensors = (
            a,
            weight,
            active,
            exp_avg,
            exp_avg_sq,
            cost,
            mask,
            seen,
            seen_mask,
            cost_source,
            seen_cost,
        )
        like_a = [t for t in (weight, exp_avg, exp_avg_sq, seen) if t is not None]
        ordered = node_offsets is not None and all(low < high for low, high in pairwise(node_offsets))
        possible = (
            all(t is None or _is_plain(t) for t in tensors)
            and seen is not None
            and a.dtype in _BITS
            and 0 < a.numel() <= _MOST_ELEMENTS
            and all(t.shape == a.shape and t.dtype == a.dtype for t in like_a)
            and (exp_avg is None) == (exp_avg_sq is None)
            and (active.shape, active.dtype) == (a.shape[:1], torch.int32)
            and (cost is None or (cost.shape in (a.shape, a.shape[1:]) and cost.dtype == a.dtype))
            and (mask is None or (mask.shape in (a.shape, a.shape[1:]) and mask.dtype == torch.bool))
            and (mask is None or (seen_mask is not None and seen_mask.shape == mask.shape))
            and (cost is None or _are_alike(cost_source, seen_cost))
            and _apart([a, weight, active, seen, *(t for t in (exp_avg, exp_avg_sq) if t is not None)])
            and (edges_per_node is None or (edges_per_node >= 1 and ordered))
            and (node_offsets is None or (node_offsets[0], node_offsets[-1]) == (0, a.shape[0]))
        )
        return cls(tensors, node_offsets, edges_per_node, keep_value) if possible else None

    def still_fits(self, a: Tensor, grad: Tensor, exp_avg: Tensor | None, exp_avg_sq: Tensor | None) -> bool:
        """Whether all of them are still what their addresses were taken of, and ``grad`` can be read so.

        The caller has compared the address of ``a``, and that these are the tensors of ``make``.
        """
        shape, dtype = self._shape, self._dtype
        return (
            type(grad) is Tensor
            and grad.layout is _STRIDED
            and grad.shape == shape
            and a.shape == shape
            and grad.dtype is dtype
            and a.dtype is dtype
            and grad.is_cpu
            and grad.is_contiguous()
            and a.is_contiguous()
            and not grad.is_neg()
            and (
                exp_avg is None
                or exp_avg_sq is None
                or (
                    (exp_avg.data_ptr(), exp_avg_sq.data_ptr()) == self._addresses
                    and exp_avg.shape == shape == exp_avg_sq.shape
                    and exp_avg.dtype is dtype is exp_avg_sq.dtype
                    and exp_avg.is_contiguous()
                    and exp_avg_sq.is_contiguous()
                )
            )
            and (self._mask is None or _lies(*self._mask))
            and (self._source is None or _lies(*self._source))
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
    ) -> bool | None:
        """Take the step; ``seed`` breaks exact ties, None: the lowest index. Raises the version of ``a``.

        Returns:
            Whether an entry of the gradient is not exactly zero; None if nothing was done, as mask or costs
            are not the ones seen, or there is a cost and ``a`` is not ``seen``, or ``grad`` has no memory.
        """
        beta1, beta2 = betas
        moves = _C.step_by_address(
            self._fixed, grad.data_ptr(), step, lr, beta1, beta2, eps, weight_decay, eta, seed
        )
        if moves is not None:
            _increment_version(self._a)
        return moves


def _address(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


def _place(t: Tensor | None) -> tuple[Tensor, int, torch.Size, torch.dtype] | None:
    return None if t is None else (t, t.data_ptr(), t.shape, t.dtype)


def _lies(t: Tensor, address: int, shape: torch.Size, dtype: torch.dtype) -> bool:
    return t.data_ptr() == address and t.shape == shape and t.dtype is dtype and t.is_contiguous()


def _are_alike(t: Tensor | None, copy: Tensor | None) -> bool:
    return t is not None and copy is not None and (t.shape, t.dtype) == (copy.shape, copy.dtype)


def _is_plain(t: Tensor) -> bool:
    return (
        type(t) in (Tensor, Parameter)
        and t.is_cpu
        and t.layout is torch.strided
        and t.is_contiguous()
        and not t.is_neg()
    )


def _apart(tensors: list[Tensor]) -> bool:
    """Whether no two of these contiguous tensors share memory."""
    spans = sorted((t.data_ptr(), t.data_ptr() + t.numel() * t.element_size()) for t in tensors)
    return all(end <= start for (_, end), (start, _) in pairwise(spans))
