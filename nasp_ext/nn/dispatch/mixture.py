# SPDX-License-Identifier: MIT
"""Sums of the outputs of candidate modules, leaf by leaf."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from nasp_ext import ops
from nasp_ext.nn.dispatch.branches import Label
from nasp_ext.nn.dispatch.outputs import aligned, described, leaves_of, same_rest

_BRANCHES_PER_SUM = 64  # what one call of mixed_sum takes


def mixed(outputs: Sequence[Any], weights: Tensor, labels: Sequence[Label]) -> Any:
    """Σ_k w_k O_k in every floating-point leaf of outputs that share one structure.

    Args:    outputs: of K branches; weights: (K,); labels: of the branches, for errors.
    Raises:  ValueError: if structures, shapes, or leaves that are not mixed differ.
    """
    first = leaves_of(outputs[0], labels[0])
    parts = [first, *(aligned(first, out, label) for out, label in zip(outputs[1:], labels[1:], strict=True))]
    alike = [part for part in parts if part is not None]
    if len(alike) < len(parts):
        raise ValueError(_difference(outputs, labels))
    if first.spec is None:
        return _sum([part.mixed[0] for part in alike], weights)
    if not all(same_rest(first, part) for part in alike[1:]):
        raise ValueError(
            "expected branches that agree in what is not mixed (None, numbers, strings, integer tensors), "
            f"got {_listed(outputs, labels)}: use one-hot weights, or return floating-point tensors alone"
        )
    return first.filled(
        [_sum([part.mixed[leaf] for part in alike], weights) for leaf in range(len(first.mixed))]
    )


def _sum(outputs: list[Tensor], weights: Tensor) -> Tensor:
    dtype = reduce(torch.promote_types, (output.dtype for output in outputs))
    outputs = [output.to(dtype) for output in outputs]
    weights = weights.to(torch.float32 if dtype.itemsize == 2 else dtype)
    parts = range(0, len(outputs), _BRANCHES_PER_SUM)
    sums = (ops.mixed_sum(outputs[i : i + parts.step], weights[i : i + parts.step]) for i in parts)
    return reduce(torch.add, sums)


def selected(output: Any, weight: Tensor, unit: bool, inputs: Sequence[Tensor], label: Label) -> Any:
    """w · O in every floating-point leaf.

    Args:
        weight: (); unit: it is exactly 1.
        inputs: a leaf that is one of them, or a view of one, is multiplied all the same: without the product
            the output would be the input itself, which a caller may go on to change in place.
    """
    if isinstance(output, Tensor) and output.is_floating_point():
        return output if unit and not _is_of(output, inputs) else output * weight
    leaves = leaves_of(output, label)
    return leaves.filled([y if unit and not _is_of(y, inputs) else y * weight for y in leaves.mixed])


def _is_of(y: Tensor, inputs: Sequence[Tensor]) -> bool:
    base = y._base
    return any(y is x or (base is not None and base is (x if x._base is None else x._base)) for x in inputs)


def _difference(outputs: Sequence[Any], labels: Sequence[Label]) -> str:
    if all(isinstance(output, Tensor) for output in outputs):
        found = {
            label.names[label.number]: tuple(output.shape)
            for label, output in zip(labels, outputs, strict=True)
        }
        return f"expected branches whose outputs share one shape, got {found}"
    return f"expected branches whose outputs share one structure, got {_listed(outputs, labels)}"


def _listed(outputs: Sequence[Any], labels: Sequence[Label]) -> str:
    pairs = zip(labels, outputs, strict=True)
    return "; ".join(f"branch {label}: {described(output)}" for label, output in pairs)
