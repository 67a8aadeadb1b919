# SPDX-License-Identifier: MIT
"""Averaged SGD: SGD goes on, and what is evaluated is the mean of the weights of all its steps.

As AWD-LSTM uses it (Merity et al., ICLR 2018): ``torch.optim.ASGD`` with t0 = 0 and λ = 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nasp_ext.engine.training import copy_, restored
from nasp_ext.states import check_keys, check_number, check_same, check_tensor, place


class WeightAverage:
    """The mean of parameters over the steps since it began; nothing until then.

    Args:    parameters: of the network; an optimizer moves them.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._parameters = nn.ParameterList(parameters)
        self._mean: AveragedModel | None = None

    @property
    def steps(self) -> int:
        """How many steps the mean is of; 0 = it has not begun, or no step was made since."""
        return 0 if self._mean is None else int(self._mean.n_averaged)

    def begin(self) -> None:
        """Average from the next step on, unless it has begun already."""
        if self._mean is None:
            self._mean = AveragedModel(self._parameters)

    def add(self) -> None:
        """Count the parameters as they are after a step."""
        if self._mean is not None:
            self._mean.update_parameters(self._parameters)

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """Inside, the parameters hold their mean, if there is one."""
        if not self.steps:
            yield
            return
        with restored(list(self._parameters)):
            copy_(self._parameters, self._means())
            yield

    def state_dict(self) -> dict[str, Any] | None:
        """The steps and the mean, copied; None before a step was counted."""
        return (
            {"steps": self.steps, "weights": [mean.clone() for mean in self._means()]} if self.steps else None
        )

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Go on from what ``state_dict`` gave."""
        self._mean = None
        if state is not None:
            self.begin()
            assert self._mean is not None
            self._mean.n_averaged.fill_(state["steps"])
            copy_(self._mean.parameters(), state["weights"])

    def check_state(self, found: Any, steps: int, name: str) -> None:
        """Raise ValueError unless this is what a mean of so many steps could give; None for no step."""
        if not steps:
            check_same(found, None, name)
            return
        check_keys(found, ("steps", "weights"), name)
        check_number(found["steps"], place(name, "steps"), steps, steps, whole=True)
        weights, at = found["weights"], place(name, "weights")
        if not isinstance(weights, list) or len(weights) != len(self._parameters):
            raise ValueError(f"expected {at} to be a list of {len(self._parameters)} tensors, found another")
        for number, (mean, parameter) in enumerate(zip(weights, self._parameters, strict=True)):
            check_tensor(mean, parameter.detach(), place(at, number))

    def _means(self) -> list[Tensor]:
        return [] if self._mean is None else [mean.detach() for mean in self._mean.parameters()]


def check_averages(network: nn.Module) -> None:
    """Raise ValueError if the mean of the weights of a network would run with statistics of other weights."""
    norms = [
        name
        for name, part in network.named_modules()
        if isinstance(getattr(part, "running_mean", None), torch.Tensor)
    ]
    if norms:
        raise ValueError(
            f"expected average_after=0 for a network with running statistics, as of BatchNorm, which are not "
            f"those of the mean of its weights, found {len(norms)} of them, such as {norms[0]}"
        )
