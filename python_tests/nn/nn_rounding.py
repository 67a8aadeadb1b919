# SPDX-License-Identifier: MIT
"""How far rounding may move what a network gives: the size of the terms that cancel in it.

A gradient in front of a BatchNorm is a difference: of the gradient behind it, its mean and its component
along the normalised values. Where these are all there is (two values per channel, an upstream of ones, the
scale of a weight that a norm divides out again) the right result is 0, or as small as eps, and what is left
in any order of summation is rounding of the terms. So an error is measured against the terms: everything that
a layer gives, forward and backward, is changed by a part of ``SIZE``, the gradient in front of a BatchNorm by
that part of its largest term, and what then changes in a result, divided by ``SIZE``, is the size of what it
is made of.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

SIZE = 1e-13
_LEAVES = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d)

Observed = dict[str, Tensor | None]


def term_sizes(
    module: nn.Module, observe: Callable[[nn.Module], Observed], draws: int = 6
) -> dict[str, float]:
    """The size of the terms of each result.

    Args:
        module: its layers are given hooks; observe: runs it and names its results; it must leave the module
            as it was.
    """
    exact = observe(module)
    sizes = {name: 0.0 if value is None else _largest(value) for name, value in exact.items()}
    for seed in range(draws):
        generator = torch.Generator().manual_seed(seed)
        handles = [handle for part in module.modules() for handle in _disturbed(part, generator)]
        moved = observe(module)
        for handle in handles:
            handle.remove()
        for name, value in moved.items():
            before = exact[name]
            if value is not None and before is not None:
                sizes[name] = max(sizes[name], _largest(value - before) / SIZE)
    return sizes


def _largest(value: Tensor) -> float:
    return float(value.abs().max()) if value.numel() else 0.0


def _disturbed(part: nn.Module, generator: torch.Generator) -> list:
    if not isinstance(part, _LEAVES):
        return []

    def noise(like: Tensor) -> Tensor:
        return SIZE * torch.randn(like.shape, dtype=like.dtype, generator=generator)

    def before(_, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs
        if not x.requires_grad:
            return inputs
        x = x.view_as(x)  # of this layer alone, so that its gradient is
        x.register_hook(lambda grad: grad * (1 + noise(grad)) + noise(grad) * terms(x.detach()))
        return (x,)

    def behind(_, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        if out.requires_grad:
            out.register_hook(upstream.append)
        return out * (1 + noise(out))

    def terms(x: Tensor) -> Tensor | float:
        return _terms(part, x, upstream[-1]) if isinstance(part, nn.BatchNorm2d) else 0.0

    upstream: list[Tensor] = []
    return [part.register_forward_pre_hook(before), part.register_forward_hook(behind)]


def _terms(norm: nn.BatchNorm2d, x: Tensor, upstream: Tensor) -> Tensor:
    """(1, C, 1, 1): the largest term of the gradient in front of a BatchNorm."""
    of_batch = norm.training or norm.running_var is None
    var = x.var((0, 2, 3), correction=0) if of_batch else norm.running_var
    rstd = (var + norm.eps).rsqrt()
    scale = rstd if norm.weight is None else rstd * norm.weight.detach().abs()
    centred = x - x.mean((0, 2, 3), keepdim=True)
    spread = (centred.abs().amax((0, 2, 3)) * rstd).clamp_min(1)
    return (scale * spread * upstream.abs().amax((0, 2, 3))).view(1, -1, 1, 1)
