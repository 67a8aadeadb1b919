# SPDX-License-Identifier: MIT
"""Recurrent cells in plain PyTorch; see ``reference``. Activations and BNs are differentiated by autograd."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

ACTIVATIONS: tuple[Callable[[Tensor], Tensor], ...] = (torch.tanh, torch.relu, torch.sigmoid, lambda h: h)
_TANH = 0


def recurrent_forward(
    projected: Tensor,
    hidden: Tensor,
    entry: Tensor,
    weights: Sequence[Tensor],
    mask: Tensor | None,
    terms: Sequence[int],
    coefficients: Tensor | None,
    outputs: Sequence[int],
    norm: bool,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One time step after the other, node after node."""
    factors = torch.ones_like(hidden) if mask is None else mask
    of_batch = norm and mean is None
    out, states, entered, products, norms = [], [], [], [], []
    for step in projected:
        entered.append(hidden * factors)
        steps = [step + entered[-1] @ entry]
        z = _term(hidden, steps[0], _TANH)
        here: list[Tensor] = []
        for node in range(len(weights) + 1):
            if node:
                z = torch.zeros_like(hidden)
            for number, (source, f) in _of_node(terms, node):
                steps.append((here[source] * factors) @ weights[node - 1])
                z = z + _coefficient(coefficients, number) * _term(here[source], steps[-1], f)
            statistics = _statistics(z) if mean is None or var is None else (mean[node], var[node])
            if of_batch:
                norms.append(torch.stack(statistics))
            here.append(_normalised(z, *statistics, eps) if norm else z)
        hidden = torch.stack([here[state] for state in outputs]).mean(0)
        out.append(hidden)
        states.append(torch.stack(here))
        products.append(torch.stack(steps))
    of_steps, none = torch.stack(states, 1), projected.new_empty(0)
    tape = torch.stack(out), of_steps, of_steps * factors, torch.stack(entered), torch.stack(products, 1)
    of_norms = torch.stack(norms).view(len(out), -1, *norms[0].shape) if of_batch else none
    if not keep:
        return tape[0], none, none, none, none, of_norms
    return *tape[:2], *((none, none) if mask is None else tape[2:4]), tape[4], of_norms


def recurrent_backward(
    grad: Tensor,
    hidden: Tensor,
    entry: Tensor,
    weights: Sequence[Tensor],
    mask: Tensor | None,
    terms: Sequence[int],
    coefficients: Tensor | None,
    outputs: Sequence[int],
    norm: bool,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    out: Tensor,
    states: Tensor,
    masked: Tensor,
    entered: Tensor,
    products: Tensor,
    norms: Tensor,
    need_inputs: bool,
    need_weights: bool,
    need_nodes: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The same backwards: the gradient of each node behind its BN, then of the terms of its sum."""
    factors = torch.ones_like(hidden) if mask is None else mask
    nodes, of_hidden = len(weights), torch.zeros_like(hidden)
    of_projected, of_entry, of_weights, of_nodes = (
        torch.zeros_like(t) for t in (products[0], entry, torch.stack(list(weights)), states[1:])
    )
    for t in reversed(range(len(grad))):
        of_states = [torch.zeros_like(hidden) for _ in range(nodes + 1)]
        for state in outputs:
            of_states[state] += (grad[t] + of_hidden) / len(outputs)
        for node in reversed(range(nodes + 1)):
            of_z = of_states[node]
            if norm and mean is None:
                of_z = _behind_batch(of_z, states[node, t], norms[t, node, 1], eps)
            elif norm and var is not None:
                of_z = of_z * (var[node] + eps).rsqrt()
            if node:
                of_nodes[node - 1, t] = of_z
            for number, (source, f) in _of_node(terms, node):
                read, product = states[source, t], products[number + 1, t]
                of_term = _coefficient(coefficients, number) * of_z
                direct, of_product = _term_gradients(of_term, read, product, f)
                of_states[source] += direct + of_product @ weights[node - 1].T * factors
                entering = states if mask is None else masked
                of_weights[node - 1] += entering[source, t].T @ of_product
        before = out[t - 1] if t else hidden
        direct, of_projected[t] = _term_gradients(of_z, before, products[0, t], _TANH)
        of_hidden = direct + of_projected[t] @ entry.T * factors
        of_entry += (before if mask is None else entered[t]).T @ of_projected[t]
    none = grad.new_empty(0)
    return (
        *((of_projected, of_hidden) if need_inputs else (none, none)),
        *((of_entry, of_weights) if need_weights else (none, none)),
        of_nodes if need_nodes else none,
    )


def recurrent_dots(
    grad_nodes: Tensor,
    states: Tensor,
    masked: Tensor,
    products: Tensor,
    weights: Sequence[Tensor],
    terms: Sequence[int],
) -> Tensor:
    """Each activation of each source of each node, time step for time step."""
    entering = masked if masked.numel() else states
    rows = []
    for node in range(1, len(weights) + 1):
        ran = {source: number for number, (source, _) in _of_node(terms, node)}
        for source in range(node):
            product = products[ran[source] + 1] if source in ran else entering[source] @ weights[node - 1]
            values = [_term(states[source], product, f) for f in range(len(ACTIVATIONS))]
            rows.append(torch.stack([(grad_nodes[node - 1].double() * value).sum() for value in values]))
    return torch.stack(rows).to(grad_nodes.dtype)


def _of_node(terms: Sequence[int], node: int) -> list[tuple[int, tuple[int, int]]]:
    """The number, source and activation of each of its terms."""
    triples = zip(terms[::3], terms[1::3], terms[2::3], strict=True)
    return [(number, (source, f)) for number, (i, source, f) in enumerate(triples) if i == node]


def _coefficient(coefficients: Tensor | None, number: int) -> Tensor | float:
    return 1.0 if coefficients is None else coefficients[number]


def _term(state: Tensor, product: Tensor, f: int) -> Tensor:
    c, h = product.chunk(2, -1)
    return state + torch.sigmoid(c) * (ACTIVATIONS[f](h) - state)


def _term_gradients(grad: Tensor, state: Tensor, product: Tensor, f: int) -> tuple[Tensor, Tensor]:
    """Of the state past its product, and of the product."""
    with torch.enable_grad():
        leaves = state.detach().requires_grad_(), product.detach().requires_grad_()
        of_state, of_product = torch.autograd.grad(_term(*leaves, f), leaves, grad)
    return of_state, of_product


def _statistics(z: Tensor) -> tuple[Tensor, Tensor]:
    var, mean = torch.var_mean(z, 0, correction=0)
    return mean, var


def _normalised(z: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    return (z - mean) * (var + eps).rsqrt()


def _behind_batch(grad: Tensor, normalised: Tensor, var: Tensor, eps: float) -> Tensor:
    """The gradient of a BN with statistics of the batch."""
    inner = grad - grad.mean(0) - normalised * (grad * normalised).mean(0)
    return inner * (var + eps).rsqrt()
