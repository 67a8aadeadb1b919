# SPDX-License-Identifier: MIT
"""What the fused operators can run of a module: a candidate operation as blocks, a pool or an identity.

The modules stay what they are: parameters, buffers and state_dict are theirs. Recognised by structure, so
primitives of one's own are fused as well if they are built of the same layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from nasp_ext.nn.fused.watch import classes_are_their_own
from nasp_ext.nn.primitives import Chain, FactorizedReduce, Zero
from nasp_ext.ops.program_values import Geometry

_KERNELS = (3, 5, 7)  # of depthwise convolutions
# The kernels store the padded image, and refuse one that is more than 256 times the image and 2^16 pixels.
_MOST_PADDING, _MOST_REACH, _MOST_STRIDE = 64, 128, 2**30 - 1
_REDUCTION = Geometry.square(stride=2)  # of a FactorizedReduce


@dataclass(frozen=True)
class LoweredBlock:
    """[ReLU], convolution (depthwise and 1×1, or plain), [BN]; see ``ops.block_forward``."""

    geometry: Geometry
    depthwise: nn.Conv2d | None
    products: tuple[nn.Conv2d, ...]
    relu: bool
    norm: nn.BatchNorm2d | None


@dataclass(frozen=True)
class LoweredPool:
    """A pool, [BN]."""

    max: bool
    kernel: int
    stride: int
    norm: nn.BatchNorm2d | None


@dataclass(frozen=True)
class LoweredOption:
    """A candidate operation in layers that have a fused form: ``none``, identity, a pool or a chain."""

    none: bool = False
    pool: LoweredPool | None = None
    chain: tuple[LoweredBlock, ...] = ()


class NotFusedError(Exception):
    """Why a module is left to PyTorch."""


class NotFusedNowError(NotFusedError):
    """A reason that may go without a layer being replaced."""


def lower(module: nn.Module) -> LoweredOption:
    """The fused form of a candidate operation.

    Raises:  NotFusedError: if there is none; its text says which layer stands in the way.
    """
    check_plain(module)
    layers = _layers(module)
    if not layers:
        return LoweredOption()  # an empty nn.Sequential
    if len(layers) == 1 and type(layers[0]) is nn.Identity:
        return LoweredOption()
    if len(layers) == 1 and type(layers[0]) is Zero:
        return LoweredOption(none=True)
    if type(layers[0]) in (nn.MaxPool2d, nn.AvgPool2d):
        return LoweredOption(pool=_pool(layers))
    return LoweredOption(chain=_chain(layers))


def _layers(module: nn.Module) -> list[nn.Module]:
    """The layers of nested sequences in a row."""
    if type(module) in (nn.Sequential, Chain):
        return [layer for child in module.children() for layer in _layers(child)]
    return [module]


def check_plain(module: nn.Module) -> None:
    """Hooks and parametrizations are Python that only the module itself runs."""
    for part in module.modules():
        if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks:
            raise NotFusedNowError(f"{type(part).__name__} has hooks")
        if "forward" in vars(part) or "_conv_forward" in vars(part):
            raise NotFusedNowError(f"{type(part).__name__} has a forward of its own")
        if "weight" in vars(part):  # as in the replicas of nn.DataParallel
            raise NotFusedNowError(f"{type(part).__name__} holds a weight that is no parameter")
    if not classes_are_their_own():
        raise NotFusedNowError("the code of a layer of torch.nn was replaced")


def _pool(layers: Sequence[nn.Module]) -> LoweredPool:
    pool, *rest = layers
    assert isinstance(pool, nn.MaxPool2d | nn.AvgPool2d)
    kernel, stride, padding = (_single(v) for v in (pool.kernel_size, pool.stride, pool.padding))
    fits = kernel % 2 == 1 and padding == kernel // 2 and not pool.ceil_mode
    fits = fits and max(kernel, stride) <= _MOST_STRIDE
    if isinstance(pool, nn.MaxPool2d):
        fits = fits and _single(pool.dilation) == 1 and not pool.return_indices
    else:
        fits = fits and not pool.count_include_pad and pool.divisor_override is None
    if not fits:
        raise NotFusedError(f"{pool} is not padded to keep the size")
    if len(rest) > 1 or (rest and type(rest[0]) is not nn.BatchNorm2d):
        raise NotFusedError(f"a pool is followed by {', '.join(type(layer).__name__ for layer in rest)}")
    norm = rest[0] if rest else None
    assert norm is None or isinstance(norm, nn.BatchNorm2d)
    return LoweredPool(type(pool) is nn.MaxPool2d, kernel, stride, _checked_norm(norm))


def _single(value: int | tuple[int, ...]) -> int:
    if isinstance(value, int):
        return value
    if len(set(value)) != 1:
        raise NotFusedError(f"its window {value} is not square")
    return value[0]


def _chain(layers: Sequence[nn.Module]) -> tuple[LoweredBlock, ...]:
    blocks: list[LoweredBlock] = []
    rest = list(layers)
    while rest:
        if isinstance(rest[0], FactorizedReduce):
            reduction = rest.pop(0)
            assert isinstance(reduction, FactorizedReduce)
            blocks.append(_factorized(reduction))
            continue
        relu = type(rest[0]) is nn.ReLU
        if relu:
            rest.pop(0)
        conv = _convolution(rest.pop(0)) if rest else None
        if conv is None:
            raise NotFusedError("a ReLU is its last layer")
        depthwise = None
        if conv.groups > 1:
            depthwise, conv = conv, _product_behind(conv, rest)
        norm = None
        if rest and isinstance(rest[0], nn.BatchNorm2d):
            norm = _checked_norm(rest.pop(0))
        blocks.append(LoweredBlock(_geometry(depthwise or conv), depthwise, (conv,), relu, norm))
    return tuple(blocks)


def _factorized(module: FactorizedReduce) -> LoweredBlock:
    if type(module) is not FactorizedReduce or type(module.relu) is not nn.ReLU:
        raise NotFusedError(f"{type(module).__name__} is not the FactorizedReduce of this package")
    convs = (_convolution(module.conv_1), _convolution(module.conv_2))
    if any(_geometry(conv) != _REDUCTION for conv in convs):
        raise NotFusedError("a FactorizedReduce has other than 1x1 convolutions of stride 2")
    return LoweredBlock(_REDUCTION, None, convs, True, _checked_norm(module.bn))


def _convolution(module: nn.Module) -> nn.Conv2d:
    if type(module) is not nn.Conv2d:
        raise NotFusedError(f"{type(module).__name__} is not among the fused layers")
    reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    if max(module.stride) > _MOST_STRIDE or max(reach) > _MOST_REACH:
        raise NotFusedError(f"{module} reaches further than the fused kernels go")
    if not isinstance(module.padding, str) and max(module.padding) > _MOST_PADDING:
        raise NotFusedError(f"{module} is padded by more than the fused kernels store")
    if module.bias is not None or module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise NotFusedError(f"{module} has a bias or a padding of another kind")
    return module


def _product_behind(depthwise: nn.Conv2d, rest: list[nn.Module]) -> nn.Conv2d:
    """The 1×1 convolution behind a depthwise one, taken from ``rest``."""
    kernel, dilation, padding = depthwise.kernel_size, depthwise.dilation, depthwise.padding
    fits = depthwise.groups == depthwise.in_channels == depthwise.out_channels
    fits = fits and kernel[0] == kernel[1] and kernel[0] in _KERNELS
    fits = fits and all(
        isinstance(p, int) and p <= d * (k - 1) for p, d, k in zip(padding, dilation, kernel, strict=True)
    )
    if not fits or not rest:
        raise NotFusedError(f"{depthwise} is not a depthwise convolution of the fused kinds")
    product = _convolution(rest.pop(0))
    if product.groups != 1 or _geometry(product) != Geometry():
        raise NotFusedError("a depthwise convolution is not followed by a 1x1 convolution")
    return product


def _geometry(conv: nn.Conv2d) -> Geometry:
    assert not isinstance(conv.padding, str)
    return Geometry(*conv.kernel_size, *conv.stride, *conv.padding, *conv.dilation)


def _checked_norm(norm: nn.Module | None) -> nn.BatchNorm2d | None:
    if norm is None:
        return None
    if type(norm) is not nn.BatchNorm2d:
        raise NotFusedError(f"{type(norm).__name__} is not among the fused layers")
    if norm.momentum is None:
        raise NotFusedNowError("a BatchNorm2d with momentum=None averages its statistics")
    if (norm.weight is None) != (norm.bias is None):
        raise NotFusedError("a BatchNorm2d has a weight without a bias, or the reverse")
    if norm.affine != (norm.weight is not None):
        raise NotFusedError("a BatchNorm2d is called affine and has no weight, or the reverse")
    statistics = [norm.running_mean, norm.running_var, norm.num_batches_tracked]
    if len({statistic is None for statistic in statistics}) > 1:
        raise NotFusedError("a BatchNorm2d has a part of its running statistics")
    return norm
