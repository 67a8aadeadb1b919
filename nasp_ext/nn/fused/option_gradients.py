# SPDX-License-Identifier: MIT
"""The gradient of the gates of a fused cell, put together from what its backward gives."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nasp_ext.nn.fused.forms import ActiveForm, Chosen


def gates_gradient(
    form: ActiveForm,
    dots: Sequence[Tensor],
    sums: Sequence[Tensor],
    parameters: Sequence[Tensor],
    gates: Tensor,
) -> Tensor:
    """(R, K): of the options that did not run, and of those that did."""
    dtype = gates.dtype
    states = [state for state, known in enumerate(dots) if known.numel()]
    nodes = [node for node, known in enumerate(sums) if known.numel()]
    parts = [dots[state] for state in states]
    of_state = form.sources().entries
    entries = [entry for state in states for entry in of_state[state]]
    if nodes:
        ran = [form.chosen[i] for node in nodes for i in form.of_node[node]]
        values = _active_dots(ran, torch.cat([sums[node] for node in nodes]), parameters)
        mixed = [i for i, chosen in enumerate(ran) if chosen.row is not None]
        parts.append(values if len(mixed) == len(ran) else values[mixed])
        entries += [(chosen.row, chosen.number) for chosen in ran if chosen.row is not None]
    grad = sums[0].new_zeros(gates.shape, dtype=dtype)
    if parts:
        index = form.index((tuple(states), tuple(nodes)), entries, gates)
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
