# SPDX-License-Identifier: MIT
"""Blocks, pools and node sums in plain PyTorch; see ``reference``. Gradients are those of autograd."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nasp_ext.ops.program_values import Geometry

NormParts = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]
_NO_PARTS: NormParts = (None, None, None, None)


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
    """z = convolution(relu(in_norm(x))), and the norm of z."""
    z = convolution(x if in_norm is None else _affine(x, in_norm), depthwise, products, geometry, relu)
    return _images(z), _norm_of(z, norm, parts, eps)


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
    """The gradient behind the BN, then through the convolution and the ReLU."""
    grad_z = _behind_norm(grad, factors, sums, z, norm, batch_stats)
    inputs = x if in_norm is None else _affine(x, in_norm)
    weights = [*products] if depthwise is None else [depthwise, *products]
    with torch.enable_grad():
        inputs, *weights = leaves = [t.detach().requires_grad_() for t in (inputs, *weights)]
        taps, matrices = (None, weights) if depthwise is None else (weights[0], weights[1:])
        y = convolution(inputs, taps, matrices, geometry, relu)
        grad_x, *grad_weights = torch.autograd.grad(y, leaves, grad_z)
    in_sums = grad_x.new_zeros((0, x.shape[1]), dtype=torch.float64)
    if out is not None:
        if in_norm is not None:
            in_sums = _sums(grad_x, _normalised(x, in_norm))
        out.copy_(grad_x if base is None else base + grad_x)
    if not need_weights:
        return in_sums, x.new_zeros(0), []
    grad_depthwise = x.new_zeros(0) if depthwise is None else grad_weights.pop(0)
    return in_sums, grad_depthwise, grad_weights


def pool_forward(
    x: Tensor,
    max: bool,
    kernel_size: int,
    stride: int,
    norm: bool = True,
    parts: NormParts = _NO_PARTS,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """The pool of PyTorch, and its norm."""
    z = pool(x, max, kernel_size, stride)
    return _images(z), _norm_of(z, norm, parts, eps)


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
    """The gradient behind the BN, then through the pool of PyTorch."""
    grad_z = _behind_norm(grad, factors, sums, z, norm, batch_stats)
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        (grad_x,) = torch.autograd.grad(pool(leaf, max, kernel_size, stride), leaf, grad_z)
    out.copy_(grad_x if base is None else base + grad_x)


def node_sum_(
    out: Tensor,
    terms: Sequence[Tensor],
    norms: Sequence[Tensor],
    factors: Tensor | None = None,
    base: Tensor | None = None,
) -> None:
    """out = base + sum_e factors[e] norms[e](terms[e])."""
    total = torch.zeros_like(out) if base is None else base
    for e, (term, norm) in enumerate(zip(terms, norms, strict=True)):
        total = total + _scaled(_affine(term, norm), None if factors is None else factors[e])
    out.copy_(total)


def node_gradient_sums(
    grad: Tensor, terms: Sequence[Tensor], norms: Sequence[Tensor], factors: Tensor | None = None
) -> Tensor:
    """(E, 2, C) sums of the gradient of each term, and of that times the normalised term."""
    return torch.stack(
        [
            _sums(_scaled(grad, None if factors is None else factors[e]), _normalised(term, norm))
            for e, (term, norm) in enumerate(zip(terms, norms, strict=True))
        ]
    )


def update_statistics_(
    means: Sequence[Tensor],
    variances: Sequence[Tensor],
    batches: Sequence[Tensor],
    norms: Sequence[Tensor],
    counts: Sequence[int],
    momenta: Sequence[float],
) -> None:
    """An exponential average of the mean and the unbiased variance of each batch."""
    for mean, var, batch, norm, count, momentum in zip(
        means, variances, batches, norms, counts, momenta, strict=True
    ):
        mean.copy_((1 - momentum) * mean + momentum * norm[0])
        var.copy_((1 - momentum) * var + momentum * norm[1] * count / (count - 1))
        batch.add_(1)


def convolution(
    x: Tensor,
    depthwise: Tensor | None,
    products: Sequence[Tensor],
    geometry: Sequence[int],
    relu: bool,
) -> Tensor:
    """A candidate operation in front of its BatchNorm, see ``nasp_ext.ops.block_forward``."""
    windows = Geometry(*geometry)
    stride, padding, dilation = windows.around
    assert windows.kernel == tuple((products[0] if depthwise is None else depthwise).shape[2:])
    if relu:
        x = torch.where(x <= 0, 0.0, x)  # a NaN stays
    if depthwise is not None:
        return F.conv2d(F.conv2d(x, depthwise, None, stride, padding, dilation, x.shape[1]), products[0])
    # The second part of a FactorizedReduce sees the padded image without its first row and column.
    height, width = padding
    padded = F.pad(x, (width, width + 1, height, height + 1))
    parts = (padded[:, :, :-1, :-1], padded[:, :, 1:, 1:])
    convolved = (
        F.conv2d(part, w, None, stride, 0, dilation) for part, w in zip(parts, products, strict=False)
    )
    return torch.cat(list(convolved), 1)


def pool(x: Tensor, max: bool, kernel_size: int, stride: int) -> Tensor:
    """A pool padded by half its kernel, the average without counting the padding."""
    if max:
        return F.max_pool2d(x, kernel_size, stride, kernel_size // 2)
    return F.avg_pool2d(x, kernel_size, stride, kernel_size // 2, count_include_pad=False)


def _norm_of(z: Tensor, exists: bool, parts: NormParts, eps: float) -> Tensor:
    """(5, C): mean, biased variance, 1 / std, scale, shift."""
    if not exists:
        return z.new_zeros(0, z.shape[1])
    weight, bias, mean, var = (None if part is None else part.double() for part in parts)
    if mean is None or var is None:
        var, mean = torch.var_mean(z.double(), (0, 2, 3), correction=0)
    rstd = (var + eps).rsqrt()
    scale = rstd if weight is None else rstd * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return torch.stack([mean, var, rstd, scale, shift]).to(z.dtype)


def _behind_norm(
    grad: Tensor, factors: Tensor | None, sums: Tensor, z: Tensor, norm: Tensor, batch_stats: bool
) -> Tensor:
    """The gradient of z from that of its BN (Ioffe and Szegedy 2015, section 3)."""
    grad = _scaled(grad, factors)
    if norm.numel() == 0:
        return grad
    if batch_stats:
        means = (sums / (z.numel() // z.shape[1])).to(z.dtype)
        grad = grad - _of_channels(means[0]) - _of_channels(means[1]) * _normalised(z, norm)
    return grad * _of_channels(norm[3])


def _affine(z: Tensor, norm: Tensor) -> Tensor:
    return z if norm.numel() == 0 else z * _of_channels(norm[3]) + _of_channels(norm[4])


def _normalised(z: Tensor, norm: Tensor) -> Tensor:
    return z if norm.numel() == 0 else (z - _of_channels(norm[0])) * _of_channels(norm[2])


def _sums(grad: Tensor, normalised: Tensor) -> Tensor:
    return torch.stack([grad.double().sum((0, 2, 3)), (grad.double() * normalised).sum((0, 2, 3))])


def _scaled(x: Tensor, factors: Tensor | None) -> Tensor:
    """x times a number for each image."""
    return x if factors is None else x * factors.view(-1, 1, 1, 1)


def _of_channels(row: Tensor) -> Tensor:
    return row.view(-1, 1, 1)


def _images(z: Tensor) -> Tensor:
    return z.contiguous(memory_format=torch.channels_last)
