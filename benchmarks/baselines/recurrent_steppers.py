# SPDX-License-Identifier: MIT
"""The search steps of recurrent cells: DARTS of both orders, and plain training of one architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd import backward

from benchmarks.baselines.recurrent import Batch

# The papers' learning rate of 20 would carry weights that see one batch again and again out of all bounds; no
# time depends on it.
LR = 0.02
_DECAY, CLIP = 5e-7, 0.25
_DIFFERENCE = 0.01  # length of the finite difference along dL_val/dw'


class RecurrentStepper(ABC):
    """A network that returns its loss, its optimizer (SGD, clipped gradient), two batches."""

    def __init__(self, net: nn.Module, train: Batch, valid: Batch) -> None:
        self.net, self.train, self.valid = net, train, valid
        self.weights = list(net.parameters())
        self.sgd = torch.optim.SGD(self.weights, LR, weight_decay=_DECAY, foreach=True)

    @property
    def phases(self) -> dict[str, Callable[[], object]]:
        """What is timed."""
        return {"architecture step": self.architecture_step, "weight step": self.weight_step}

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor: ...

    @abstractmethod
    def architecture_gradient(self) -> Tensor:
        """dF/dA, (R, K), as the architecture step computes it."""

    @abstractmethod
    def architecture_step(self) -> None: ...

    def weight_gradients(self) -> None:
        """Those of the weights, and of inputs that are no words."""
        self.sgd.zero_grad()
        self.train.inputs.grad = None
        backward(self.loss(self.train))

    def weight_step(self) -> None:
        self.weight_gradients()
        torch.nn.utils.clip_grad_norm_(self.weights, CLIP, foreach=True)
        self.sgd.step()


class OneArchitecture(RecurrentStepper):
    """A network without an architecture to learn: what a weight step could cost at best."""

    @property
    def phases(self) -> dict[str, Callable[[], object]]:
        return {"weight step": self.weight_step}

    def loss(self, batch: Batch) -> Tensor:
        found: Tensor = self.net(batch)
        return found

    def architecture_gradient(self) -> Tensor:
        raise NotImplementedError("one architecture has no gradient of A")

    def architecture_step(self) -> None:
        raise NotImplementedError("one architecture has no step of A")


class RecurrentDARTS(RecurrentStepper):
    """DARTS (Liu et al. 2019): softmax rows, every option runs; first or second order (eq. 6 to 8).

    Args:
        a: (R, K); all_gradients: the architecture step of the first order also computes the gradient of the
            weights, which nothing uses, as its authors do.
    """

    def __init__(
        self,
        net: nn.Module,
        train: Batch,
        valid: Batch,
        a: Tensor,
        *,
        second_order: bool = False,
        all_gradients: bool = False,
    ) -> None:
        super().__init__(net, train, valid)
        self.a = a.clone().requires_grad_()
        self.adam = torch.optim.Adam([self.a], 3e-3, weight_decay=1e-3)
        self.second_order, self.all_gradients = second_order, all_gradients

    def mixture(self) -> Tensor:
        """(R, K), what each option counts."""
        return self.a.softmax(-1)

    def loss(self, batch: Batch) -> Tensor:
        found: Tensor = self.net(batch, self.mixture())
        return found

    def architecture_gradient(self) -> Tensor:
        if self.second_order:
            return self._unrolled_gradient()
        wanted = [self.a, *(self.weights if self.all_gradients else ())]
        gradient: Tensor = torch.autograd.grad(self.loss(self.valid), wanted)[0]
        return gradient

    def architecture_step(self) -> None:
        self.a.grad = self.architecture_gradient()
        self.adam.step()

    def _unrolled_gradient(self) -> Tensor:
        """dL_val(w', A)/dA - lr r (dL_train(w+, A)/dA - dL_train(w-, A)/dA) / 2 eps.

        w' is w after one SGD step on the gradient clipped by the factor r, which is taken as constant; w+ and
        w- are w plus and minus eps dL_val/dw'.
        """
        start = [w.detach().clone() for w in self.weights]
        gradients = torch.autograd.grad(self.loss(self.train), self.weights)
        ratio = (CLIP / (_norm(gradients) + 1e-6)).clamp(max=1.0)
        with torch.no_grad():
            for w, gradient in zip(self.weights, gradients, strict=True):
                w.sub_(LR * (ratio * gradient + _DECAY * w))
        of_a, *vector = torch.autograd.grad(self.loss(self.valid), [self.a, *self.weights])
        epsilon = _DIFFERENCE / _norm(vector)
        ends = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                for w, value, v in zip(self.weights, start, vector, strict=True):
                    torch.add(value, sign * epsilon * v, out=w)
            ends.append(torch.autograd.grad(self.loss(self.train), self.a)[0])
        with torch.no_grad():
            for w, value in zip(self.weights, start, strict=True):
                w.copy_(value)
        return of_a - LR * ratio * (ends[0] - ends[1]) / (2 * epsilon)


class OneHotMixture(RecurrentDARTS):
    """The full mixture at given one-hot rows: the gradient that ours must have."""

    def mixture(self) -> Tensor:
        return self.a


def _norm(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))
    return norm
