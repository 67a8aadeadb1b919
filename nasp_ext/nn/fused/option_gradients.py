# SPDX-License-Identifier: MIT
"""The gradient of the gates of a fused cell, put together from what its backward gives."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nasp_ext.nn.fused.encoding import Chosen
from nasp_ext.nn.fused.plan import Selection


def gates_gradient(
    selection: Selection,
    dots: Sequence[Tensor],
    sums: Sequence[Tensor],
    parameters: Sequence[Tensor],
    gates: Tensor,
) -> Tensor:
    """(R, K): of the options that did not run, and of those that did."""
    shape, dtype = gates.shape, gates.dtype
    parts: list[Tensor] = []
    entries: list[tuple[int, int]] = []
    for state, known in enumerate(dots):
        if known.numel():
            parts.append(known)
            entries += selection.sources().entries[state]
    with_sums = [
        (numbers, known) for numbers, known in zip(selection.of_node, sums, strict=True) if known.numel()
    ]
    if with_sums:
        ran = [selection.chosen[i] for numbers, _ in with_sums for i in numbers]
        values = _active_dots(ran, torch.cat([known for _, known in with_sums]), parameters)
        mixed = [i for i, chosen in enumerate(ran) if chosen.edge.row is not None]
        parts.append(values if len(mixed) == len(ran) else values[mixed])
        entries += [(ran[i].edge.row, ran[i].number) for i in mixed]  # type: ignore[misc]
    grad = sums[0].new_zeros(shape, dtype=dtype)
    if parts:
        index = selection.index(entries, shape[1], grad.device)
        grad.view(-1).index_copy_(0, index, torch.cat([part.to(dtype) for part in parts]))
    return grad


def _active_dots(ran: Sequence[Chosen], sums: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """<G, O_k(x)> of edges that ran, from the sums (E, 2, C) of their BatchNorms."""
    products = sums[:, 1]
    if any(chosen.affine is not None for chosen in ran):
        rows = []
        for i, chosen in enumerate(ran):
            if chosen.affine is None:
                rows.append(products[i])
            else:
                weight, bias = parameters[chosen.affine : chosen.affine + 2]
                rows.append(products[i] * weight + sums[i, 0] * bias)
        products = torch.stack(rows)
    return products.sum(-1)
