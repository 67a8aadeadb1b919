# SPDX-License-Identifier: MIT
"""Where strategies get gradients from: the loss they are given, or autograd for a plain function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nasp_ext.arch.gates import Gates
from nasp_ext.strategies.base import LossFn


def gates_gradient(loss: LossFn, gates: Gates) -> tuple[Tensor, Tensor]:
    """The loss of the gates, detached, and its gradient with respect to their weight, (R, K).

    That of ``loss.gradient`` where the loss has one, as a ``SteeringLoss`` does; else by autograd.

    Raises:  TypeError: the loss is no tensor () with a graph; ValueError: it does not depend on the gates.
    """
    own = getattr(loss, "gradient", None)
    if own is not None:
        value, gradient = own(gates)
        return value, gradient
    weight = gates.weight.detach().requires_grad_()
    value = loss(replace(gates, weight=weight))
    check_loss(value)
    (gradient,) = torch.autograd.grad(value, weight, allow_unused=True)
    return value.detach(), used(gradient)


def check_loss(value: object) -> None:
    """Raise TypeError unless it is a loss to differentiate: a tensor () with a graph."""
    if not isinstance(value, Tensor) or value.dim() or not value.requires_grad:
        shape = f"{tuple(value.shape)} without a graph" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"expected the loss of gates to be a tensor () with a graph to them, got {shape}")


def used(gradient: Tensor | None) -> Tensor:
    """The gradient of gates.

    Raises:  ValueError: there is none, as the loss does not depend on them.
    """
    if gradient is None:
        raise ValueError(
            "expected a loss that depends on the gates, got one that does not: the network has to use "
            "gates.weight, or the strategy to learn from losses alone (such as asng or random)"
        )
    return gradient


def unrolled_gradient(loss: LossFn, gates: Gates) -> tuple[Tensor, Tensor]:
    """The loss, detached, and its gradient (R, K) after a virtual step of the weights.

    Raises:  TypeError: the loss does not say.
    """
    own = getattr(loss, "unrolled_gradient", None)
    if own is None:
        raise TypeError(
            "expected a loss function with unrolled_gradient(gates), as a search passes one, got "
            f"{type(loss).__name__}: strategy 'darts' needs none"
        )
    value, gradient = own(gates)
    return value, gradient


def through(weights: Tensor, parameters: Sequence[Tensor], gradient: Tensor) -> tuple[Tensor, ...]:
    """From the gradient of gates to that of the parameters whose function their weights (R, K) are."""
    return torch.autograd.grad(weights, parameters, gradient)
