# SPDX-License-Identifier: MIT
"""What a strategy may ask of a task: the loss of gates, and the second-order gradient of DARTS."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from nasp_ext.arch.gates import Gates
from nasp_ext.engine.collectives import LOCAL, Collective
from nasp_ext.engine.training import copy_, random_state, restored, set_random_state
from nasp_ext.strategies.base import LossFn
from nasp_ext.strategies.gradients import gates_gradient, used

_DISTANCE = 0.01  # how far the finite difference moves the weights (Liu et al. 2019, footnote 2)


class BatchLoss:
    """The ``SteeringLoss`` of a search: on a steering batch, knowing the training batch of the iteration.

    Args:
        network: the supernet; ``unrolled_gradient`` moves its weights and puts them back.
        optimizer: SGD on its weights, one group; ξ is ``rate`` times its learning rate.
        steer, train: loss of gates on the steering and on the training batch, through ``network``.
        collective: of the run; each process has a batch of its own.
        rate: of the training batch.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.SGD,
        steer: LossFn,
        train: LossFn,
        collective: Collective = LOCAL,
        rate: float = 1.0,
    ) -> None:
        self._rate = rate
        self._network, self._optimizer = network, optimizer
        self._steer, self._train, self._collective = steer, train, collective

    def __call__(self, gates: Gates) -> Tensor:
        loss = self._steer(gates)
        self._collective.mean_([loss.detach()])  # shares the memory: strategies see the mean of all processes
        return loss

    def gradient(self, gates: Gates) -> tuple[Tensor, Tensor]:
        """The loss, detached, and its gradient with respect to ``gates.weight``, (R, K)."""
        loss, gradient = gates_gradient(self._steer, gates)
        self._collective.mean_([loss, gradient])
        return loss, gradient

    def unrolled_gradient(self, gates: Gates) -> tuple[Tensor, Tensor]:
        """Gradient of L_val(w - ξ ∇_w L_train(w, A), A) in A (Liu et al. 2019, eq. 6-8).

        The virtual step w' has the momentum and the weight decay of the optimizer, its gradient is not
        clipped. The Hessian-vector product is a central difference of ∇_A L_train over w ± R ∇_w' L_val,
        R = 0.01 / ‖∇_w' L_val‖, with the same random numbers (dropout) on both sides. Weights and buffers
        are put back bit for bit, also if something raises.

        Args:     gates: dense or discrete.
        Returns:  L_val(w', A), detached, and the gradient with respect to ``gates.weight``, (R, K).
        """
        (group,) = self._optimizer.param_groups
        parameters: list[Tensor] = group["params"]
        weight = gates.weight.detach().requires_grad_()
        gates = replace(gates, weight=weight)
        with restored([*parameters, *self._network.buffers()]) as saved, torch.enable_grad():
            random = random_state(weight.device)
            gradients = torch.autograd.grad(
                self._train(replace(gates, weight=weight.detach())), parameters, allow_unused=True
            )
            self._virtual_step(gradients)
            loss = self._steer(gates)
            gradient, *towards = torch.autograd.grad(loss, [weight, *parameters], allow_unused=True)
            after = random_state(weight.device)
            found = [(p, w, v) for p, w, v in zip(parameters, saved, towards, strict=False) if v is not None]
            norms = [v.norm() for _, _, v in found]
            distance = _DISTANCE / torch.stack(norms).norm().clamp_min(1e-12)
            sides: list[Tensor] = []
            for sign in (1, -1):
                copy_(parameters, saved)
                with torch.no_grad():
                    for p, _, v in found:
                        p.add_(sign * distance * v)
                set_random_state(random, weight.device)
                sides.append(used(*torch.autograd.grad(self._train(gates), weight, allow_unused=True)))
            set_random_state(after, weight.device)
        curvature = (sides[0] - sides[1]) / (2 * distance)
        loss, gradient = loss.detach(), used(gradient) - self._rate * group["lr"] * curvature
        self._collective.mean_([loss, gradient])
        return loss, gradient

    @torch.no_grad()
    def _virtual_step(self, gradients: Iterable[Tensor | None]) -> None:
        """What ``optimizer.step()`` would do to the weights, leaving its momentum as it is."""
        (group,) = self._optimizer.param_groups
        for p, gradient in zip(group["params"], gradients, strict=True):
            if gradient is None:
                continue
            step = gradient.add(p, alpha=group["weight_decay"])
            momentum = self._optimizer.state[p].get("momentum_buffer") if group["momentum"] else None
            if momentum is not None:
                step.add_(momentum, alpha=group["momentum"])
            p.sub_(self._rate * group["lr"] * step)
