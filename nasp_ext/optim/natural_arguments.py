# SPDX-License-Identifier: MIT
"""What a user hands to a natural gradient: options, samples and losses, checked before anything changes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

_MOST = 1 << 31  # samples, or runs


def check_options(
    categories: Any, lam: Any, generator: Any, runs: Any, dtype: Any, ranges: dict[str, Any]
) -> None:
    """Raise TypeError or ValueError for options of ``NaturalGradient`` that are none."""
    if isinstance(categories, str) or not isinstance(categories, Iterable):
        raise TypeError(f"expected categories to be a list of numbers of options, got {categories!r}")
    check_count("lam, the samples per step, to be", lam, 2)
    if runs is not None:
        check_count("runs to be None or", runs, 1)
    for name, pairs in ranges.items():
        if pairs is not None and not _are_pairs(pairs):
            raise TypeError(f"expected {name} as (low, high) of each variable, got {pairs!r}")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"expected generator to be a CPU torch.Generator or None, got {generator!r}")
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(f"expected generator to be a CPU torch.Generator, got one on {generator.device}")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"expected dtype to be torch.float32 or torch.float64, got {dtype}")


def check_count(expected: str, found: Any, least: int) -> None:
    """Raise TypeError unless ``found`` is a whole number, ValueError unless it is in [least, 2³¹]."""
    if not isinstance(found, Integral) or isinstance(found, bool):
        raise TypeError(f"expected {expected} a whole number >= {least}, got {found!r}")
    if not least <= int(found) <= _MOST:
        bound = f">= {least}" if int(found) < least else f"<= {_MOST:,}"
        raise ValueError(f"expected {expected} {bound}, got {found}")


def _are_pairs(pairs: Any) -> bool:
    return isinstance(pairs, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(map(is_number, pair)) for pair in pairs
    )


def is_number(value: Any) -> bool:
    """Whether it is a real number, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_number(name: str, value: Any, low: float) -> None:
    """Raise TypeError unless ``value`` is a number, ValueError unless it is > ``low``; infinity may be."""
    if not is_number(value):
        raise TypeError(f"expected {name} to be a number > {low:g}, got {value!r}")
    if not float(value) > low or math.isnan(value):
        raise ValueError(f"expected {name} > {low:g}, got {value}")


def as_samples(samples: Any) -> Tensor:
    """Samples on the CPU. Raises TypeError if they are no real numbers in a tensor, array or list."""
    return _on_cpu("samples", samples)


def as_losses(losses: Any, shape: tuple[int, ...]) -> Tensor:
    """Losses on the CPU. Raises TypeError if they are no real numbers, ValueError for another shape."""
    values = _on_cpu("losses", losses)
    if values.dtype == torch.bool:
        values = values.to(torch.uint8)
    if tuple(values.shape) != shape:
        raise ValueError(f"expected losses of shape {shape}, one per sample, got {tuple(values.shape)}")
    return values


def _on_cpu(name: str, given: Any) -> Tensor:
    try:
        values = torch.as_tensor(given).detach()
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"expected {name} to be a tensor or list of numbers, got {given!r:.80}") from error
    if values.layout is not torch.strided or values.is_meta or values.is_complex():
        raise TypeError(
            f"expected {name} to be a dense tensor of real numbers, got {values.dtype} of layout "
            f"{values.layout} on {values.device}"
        )
    return values.to("cpu")
