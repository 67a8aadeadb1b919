# SPDX-License-Identifier: MIT
"""The fused operators behind the cells: blocks, pools, node sums and source_dots.

They are building blocks without a gradient: ``nasp_ext.nn`` puts forward and backward together, and a call
that autograd would record raises a RuntimeError. Images are (N, C, H, W) in channels_last memory, or slices
of the channels of such; float32 or float64.

``norm`` is what a BatchNorm did to its input, a (5, C) tensor with the rows mean, biased variance,
1 / std, scale, shift (y = scale z + shift); empty where there is none. ``sums`` are (2, C) float64: of the
gradient behind a BatchNorm, and of that gradient times the normalised value.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import profiler as _profiler

from nasp_ext import _C as _C  # registers torch.ops.nasp_ext
from nasp_ext.ops import fake_blocks as fake_blocks  # registers the fake kernels
from nasp_ext.ops._native import call, differentiable, mark_changed, mark_moved
from nasp_ext.ops.counters import record_flops

_OPS = torch.ops.nasp_ext
_EMPTY_IMAGES = _OPS.empty_images.default
_BLOCK_FORWARD = _OPS.block_forward.default
_BLOCK_BACKWARD = _OPS.block_backward.default
_POOL_FORWARD = _OPS.pool_forward.default
_POOL_BACKWARD_ = _OPS.pool_backward_.default
_NODE_SUM_ = _OPS.node_sum_.default
_NODE_GRADIENT_SUMS = _OPS.node_gradient_sums.default
_UPDATE_STATISTICS_ = _OPS.update_statistics_.default
_SOURCE_DOTS = _OPS.source_dots.default

NormParts = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]
_NO_PARTS: NormParts = (None, None, None, None)


def run_operator(operator: Any, *arguments: Any) -> Any:
    """Call an operator that has no gradient."""
    if torch.is_grad_enabled():
        lists = [x if isinstance(x, (list, tuple)) else (x,) for x in arguments]
        if differentiable(*(x for items in lists for x in items if isinstance(x, Tensor))):
            raise RuntimeError(
                f"{operator.name()} has no gradient: detach its inputs or call it inside torch.no_grad(); "
                "nasp_ext.nn differentiates cells that are built of it"
            )
    result = call(operator, *arguments)
    if _profiler._is_profiler_enabled and not torch.compiler.is_compiling():
        record_flops(operator, arguments)
    return result


def empty_images(like: Tensor, size: Sequence[int]) -> Tensor:
    """New images (N, C, H, W), channels_last, in the dtype and on the device of ``like``.

    On the CPU their memory is kept when they are gone and serves later images of the same size, like that
    of PyTorch's CUDA tensors; never more than what was once in use at a time. See ``release_memory``.
    """
    images: Tensor = call(_EMPTY_IMAGES, like, size)
    return images


def release_memory() -> int:
    """Give the memory that ``empty_images`` keeps for later back to the system; returns the bytes."""
    return int(_OPS.release_memory.default())


def block_forward(
    x: Tensor,
    in_norm: Tensor | None,
    depthwise: Tensor | None,
    products: Sequence[Tensor],
    geometry: Sequence[int],
    relu: bool,
    norm: bool = True,
    parts: NormParts = _NO_PARTS,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """``z = convolution(relu(in_norm(x)))`` and the norm of z: a candidate operation up to its BatchNorm.

    Args:
        x: (N, C, H, W); in_norm: (5, C) of the BatchNorm before, which is applied to x, or None.
        depthwise: (C, 1, k, k), k = 3, 5 or 7: then ``products`` is one (O, C, 1, 1). None: it is one
            (O, C, kh, kw), or the two (O / 2, C, 1, 1) of a FactorizedReduce, the second of which reads x
            shifted by one pixel.
        geometry: kernel, stride, padding, dilation, each height before width.
        parts: weight, bias, mean, var of the BatchNorm; without mean and var the statistics are the batch's.
    Returns: z (N, O, H', W'), norm (5, O) or (0, O) if not ``norm``.
    Raises:  ValueError: for shapes, dtypes or layouts that do not fit.
    """
    result: tuple[Tensor, Tensor] = run_operator(
        _BLOCK_FORWARD, x, in_norm, depthwise, products, geometry, relu, norm, *parts, eps
    )
    return result


def block_backward(
    grad: Tensor,
    factors: Tensor | None,
    sums: Tensor,
    z: Tensor,
    norm: Tensor,
    batch_stats: bool,
    x: Tensor,
    in_norm: Tensor | None,
    depthwise: Tensor | None,
    products: Sequence[Tensor],
    geometry: Sequence[int],
    relu: bool,
    need_weights: bool,
    out: Tensor | None,
    base: Tensor | None,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The gradients of a block, from the gradient behind its BatchNorm.

    Args:
        grad: (N, O, H', W'), counts times ``factors`` (N,); sums: see ``node_gradient_sums``.
        z, norm, x, in_norm, depthwise, products, geometry, relu: of the forward.
        batch_stats: the norm depends on z (training mode).
        out: (N, C, H, W), overwritten with ``base`` (which may be ``out``) plus the gradient of x, or, with
            ``in_norm``, the gradient of in_norm(x). None: not asked for.
    Returns:
        the sums of the BatchNorm before (2, C), (0, C) without; the gradient of ``depthwise``; those of
        ``products``; empty if not ``need_weights``.
    """
    result: tuple[Tensor, Tensor, list[Tensor]] = run_operator(
        _BLOCK_BACKWARD,
        *(grad, factors, sums, z, norm, batch_stats, x, in_norm, depthwise, products, geometry, relu),
        *(need_weights, out, base),
    )
    mark_changed(out)
    return result


def pool_forward(
    x: Tensor,
    max: bool,
    kernel_size: int,
    stride: int,
    norm: bool = True,
    parts: NormParts = _NO_PARTS,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """A pool padded by half its kernel, the average without counting the padding, and its norm.

    Args:    x: (N, C, H, W); kernel_size: odd; parts: as for ``block_forward``.
    Returns: z (N, C, H', W'), norm (5, C) or (0, C).
    """
    result: tuple[Tensor, Tensor] = run_operator(
        _POOL_FORWARD, x, max, kernel_size, stride, norm, *parts, eps
    )
    return result


def pool_backward_(
    grad: Tensor,
    factors: Tensor | None,
    sums: Tensor,
    z: Tensor,
    norm: Tensor,
    batch_stats: bool,
    x: Tensor,
    max: bool,
    kernel_size: int,
    stride: int,
    out: Tensor,
    base: Tensor | None,
) -> None:
    """Overwrite ``out`` with ``base`` plus the gradient of x, see ``block_backward``."""
    run_operator(
        _POOL_BACKWARD_,
        *(grad, factors, sums, z, norm, batch_stats, x, max, kernel_size, stride, out, base),
    )
    mark_changed(out)


def node_sum_(
    out: Tensor,
    terms: Sequence[Tensor],
    norms: Sequence[Tensor],
    factors: Tensor | None = None,
    base: Tensor | None = None,
) -> None:
    """``out = base + sum_e factors[e] norms[e](terms[e])`` (Yao et al. 2020, eq. 7).

    Args:
        out, terms: (N, C, H, W), E terms; norms: E of (5, C) or empty; factors: (E, N), None = 1.
        base: (N, C, H, W), None = 0; may be ``out``.
    """
    run_operator(_NODE_SUM_, out, terms, norms, factors, base)
    mark_changed(out)


def node_gradient_sums(
    grad: Tensor, terms: Sequence[Tensor], norms: Sequence[Tensor], factors: Tensor | None = None
) -> Tensor:
    """The sums that the BatchNorms of a node's terms need backwards, in one pass over ``grad``.

    Returns: (E, 2, C) float64: sums over images and pixels of ``factors[e] grad`` and of that times the
        normalised term, or times the term itself where its norm is empty.
    """
    sums: Tensor = run_operator(_NODE_GRADIENT_SUMS, grad, terms, norms, factors)
    return sums


def update_statistics_(
    means: Sequence[Tensor],
    variances: Sequence[Tensor],
    batches: Sequence[Tensor],
    norms: Sequence[Tensor],
    counts: Sequence[int],
    momenta: Sequence[float],
) -> None:
    """Move the running statistics of B BatchNorms as their modules would.

    Args:
        means, variances: B of (C,); batches: B of (), int64; norms: B of (5, C) of the batch.
        counts: elements of a channel in the batch, at least 2.
    """
    run_operator(_UPDATE_STATISTICS_, means, variances, batches, norms, counts, momenta)
    mark_changed(*means, *variances, *batches)


def source_dots(
    x: Tensor,
    grads: Sequence[Tensor],
    program: Sequence[int],
    weights: Sequence[Tensor],
    statistics: Sequence[Tensor],
    numbers: Sequence[float],
) -> Tensor:
    """``<grads[e], O(x)>`` of every option of every edge that leaves one node: the architecture gradient.

    No BatchNorm's output is stored and pools are computed once for all edges. Running statistics move as
    the modules would move them.

    Args:
        x: (N, C, H, W), the node; grads: of the loss with respect to the node at the end of each edge, all of
            one shape.
        program, weights, statistics, numbers: the options, as ``ops.program.encode_source`` writes them.
    Returns: (options,), in the dtype of x.
    Raises:  ValueError: for a program that does not fit its tensors.
    """
    dots: Tensor = run_operator(_SOURCE_DOTS, x, grads, program, weights, statistics, numbers)
    mark_moved(statistics)
    return dots
