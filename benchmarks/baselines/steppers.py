# SPDX-License-Identifier: MIT
"""The search steps of the papers: NASP as its authors run it, DARTS of both orders, plain training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd import backward
from torch.nn.functional import cross_entropy

from benchmarks.baselines.network import PlainNetwork
from benchmarks.baselines.prox import one_hot_rows

EDGES = 14
_OFFSETS = (0, 2, 5, 9, 14)
_LR, _MOMENTUM, _DECAY = 0.025, 0.9, 3e-4
_DIFFERENCE = 0.01  # length of the finite difference along dL_val/dw'

Batch = tuple[Tensor, Tensor]


class Stepper(ABC):
    """A network with its weight optimizer (SGD, clipped gradient), a training and a validation batch."""

    def __init__(self, net: nn.Module, train: Batch, valid: Batch) -> None:
        self.net, self.train, self.valid = net, train, valid
        self.weights = list(net.parameters())
        self.sgd = torch.optim.SGD(self.weights, _LR, _MOMENTUM, weight_decay=_DECAY, foreach=True)

    @abstractmethod
    def training_loss(self) -> Tensor:
        """The loss of a weight step."""

    @abstractmethod
    def architecture_gradient(self) -> Tensor:
        """dF/dA, (28, K), as the architecture step computes it."""

    @abstractmethod
    def architecture_step(self) -> None: ...

    def weight_step(self) -> None:
        self.sgd.zero_grad()
        self._weight_backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 5.0)
        self.sgd.step()

    def _weight_backward(self) -> None:
        backward(self.training_loss())


class PlainStepper(Stepper):
    """Methods whose architecture is two matrices (14, K), given to the network row by row."""

    net: PlainNetwork

    def __init__(self, net: PlainNetwork, train: Batch, valid: Batch, a: Tensor) -> None:
        super().__init__(net, train, valid)
        self.normal = a[:EDGES].clone().requires_grad_()
        self.reduction = a[EDGES:].clone().requires_grad_()
        self.matrices = [self.normal, self.reduction]
        self.adam = torch.optim.Adam(self.matrices, 3e-4, (0.5, 0.999), weight_decay=1e-3)

    def mixed_loss(self, batch: Batch, normal: Tensor, reduction: Tensor) -> Tensor:
        return cross_entropy(self.net(batch[0], normal, reduction), batch[1])


class AuthorsNASP(PlainStepper):
    """NASP (Yao et al. 2020, Alg. 2) run as its authors run it.

    Both steps first make the matrices one-hot on the host. The architecture step runs every operation at
    these weights; the weight step asks each weight, on the host, whether its operation is selected.

    Args:
        all_gradients: the architecture step also computes the gradient of the weights, which nothing uses.
        edges: how many edges into a node are kept.
    """

    def __init__(
        self,
        net: PlainNetwork,
        train: Batch,
        valid: Batch,
        a: Tensor,
        all_gradients: bool = True,
        edges: int = 2,
    ) -> None:
        super().__init__(net, train, valid, a)
        self.all_gradients, self.edges = all_gradients, edges

    @contextmanager
    def binarised(self) -> Iterator[None]:
        saved = [matrix.detach().clone() for matrix in self.matrices]
        with torch.no_grad():
            for matrix in self.matrices:
                matrix.copy_(torch.from_numpy(one_hot_rows(matrix.cpu().numpy(), _OFFSETS, self.edges)))
        yield
        with torch.no_grad():
            for matrix, value in zip(self.matrices, saved, strict=True):
                matrix.copy_(value)

    def architecture_gradient(self) -> Tensor:
        for matrix in self.matrices:
            matrix.grad = None
        with self.binarised():
            self.net.set_only_selected(False)
            loss = self.mixed_loss(self.valid, self.normal, self.reduction)
            backward(loss, inputs=None if self.all_gradients else self.matrices)
        return _stacked(self.matrices)

    def architecture_step(self) -> None:
        self.architecture_gradient()
        self.adam.step()
        with torch.no_grad():
            for matrix in self.matrices:
                matrix.clamp_(0, 1)

    def training_loss(self) -> Tensor:
        self.net.set_only_selected(True)
        return self.mixed_loss(self.train, self.normal, self.reduction)

    def _weight_backward(self) -> None:
        with self.binarised():
            backward(self.training_loss())


class DARTS(PlainStepper):
    """DARTS (Liu et al. 2019): softmax rows, every operation runs; first or second order (eq. 6 to 8)."""

    def __init__(
        self, net: PlainNetwork, train: Batch, valid: Batch, a: Tensor, second_order: bool = False
    ) -> None:
        super().__init__(net, train, valid, a)
        self.second_order = second_order

    def loss(self, batch: Batch) -> Tensor:
        return self.mixed_loss(batch, self.normal.softmax(-1), self.reduction.softmax(-1))

    def training_loss(self) -> Tensor:
        return self.loss(self.train)

    def architecture_gradient(self) -> Tensor:
        for matrix in self.matrices:
            matrix.grad = None
        if self.second_order:
            self._second_order_gradient()
        else:
            backward(self.loss(self.valid))
        return _stacked(self.matrices)

    def architecture_step(self) -> None:
        self.architecture_gradient()
        self.adam.step()

    def _second_order_gradient(self) -> None:
        """dL_val(w', A)/dA - lr (dL_train(w+, A)/dA - dL_train(w-, A)/dA) / 2 eps.

        w' is w after one SGD step, w+ and w- are w plus and minus eps dL_val/dw'.
        """
        self.sgd.zero_grad()
        start = [w.detach().clone() for w in self.weights]
        gradients = torch.autograd.grad(self.training_loss(), self.weights)
        with torch.no_grad():
            for w, gradient in zip(self.weights, gradients, strict=True):
                momentum = self.sgd.state[w].get("momentum_buffer", torch.zeros_like(w))
                w.sub_(_LR * (_MOMENTUM * momentum + gradient + _DECAY * w))
        backward(self.loss(self.valid))
        vector = [w.grad.clone() for w in self.weights if w.grad is not None]
        epsilon = _DIFFERENCE / torch.cat([v.flatten() for v in vector]).norm()
        ends = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                for w, value, v in zip(self.weights, start, vector, strict=True):
                    w.copy_(value + sign * epsilon * v)
            ends.append(torch.autograd.grad(self.training_loss(), self.matrices))
        with torch.no_grad():
            for w, value in zip(self.weights, start, strict=True):
                w.copy_(value)
            for matrix, above, below in zip(self.matrices, *ends, strict=True):
                assert matrix.grad is not None
                matrix.grad -= _LR * (above - below) / (2 * epsilon)


class PlainDiscrete(Stepper):
    """The chosen architecture alone, trained as any network: what a weight step could cost at best."""

    def training_loss(self) -> Tensor:
        return cross_entropy(self.net(self.train[0]), self.train[1])

    def architecture_gradient(self) -> Tensor:
        raise NotImplementedError("a plain network has no architecture")

    def architecture_step(self) -> None:
        raise NotImplementedError("a plain network has no architecture")


def _stacked(matrices: list[Tensor]) -> Tensor:
    return torch.cat([matrix.grad for matrix in matrices if matrix.grad is not None])
