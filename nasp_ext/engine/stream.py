# SPDX-License-Identifier: MIT
"""The batches of one part of the data, each run from where the one before ended."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from nasp_ext.arch.gates import Gates
from nasp_ext.checks import shown
from nasp_ext.tasks.base import Outcome, Task


class Stream:
    """Runs batches and carries the state of a task from one to the next: None, or say a hidden state.

    A batch may be run at many gates. Every run of it starts from the same state, and the first one says where
    the next batch goes on.
    """

    def __init__(self, task: Task, network: nn.Module) -> None:
        self._task, self._network = task, network
        self.state: Any = None
        self._left: Any = None
        self._ran = False

    def advance(self) -> None:
        """What is run from here on is the next batch."""
        if self._ran:
            self.state, self._left, self._ran = self._left, None, False

    def run(self, batch: Any, gates: Gates | None = None, *, keep: bool = True) -> Outcome:
        """Run the present batch; one that is not kept leaves no state.

        Raises:
            TypeError: the task gives no ``Outcome``, or a state that no checkpoint can hold.
            ValueError: the loss has no graph where gradients are on.
        """
        outcome = self._task.run(self._network, batch, gates, self.state)
        if not isinstance(outcome, Outcome):
            name = type(self._task).__name__
            raise TypeError(f"expected {name}.run to give an Outcome, got {type(outcome).__name__}")
        if torch.is_grad_enabled() and not outcome.loss.requires_grad:
            raise ValueError(
                "expected an outcome whose loss has a graph to the weights, got one without: was it detached?"
            )
        if keep and not self._ran:
            self._left, self._ran = _detached(outcome.state), True
        return outcome

    def state_after(self) -> Any:
        """The state that the next batch starts from, for a checkpoint."""
        return self._left if self._ran else self.state

    def restore(self, state: Any, device: torch.device) -> None:
        """Go on from what ``state_after`` was."""
        self.state = pytree.tree_map(
            lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, state
        )
        self._left, self._ran = None, False


def check_state(found: Any, name: str) -> None:
    """Raise ValueError unless a state of a checkpoint holds nothing but finite tensors, numbers and None."""
    for leaf in pytree.tree_leaves(found):
        number = isinstance(leaf, int | float | Tensor)
        if leaf is not None and not (number and bool(torch.as_tensor(leaf).isfinite().all())):
            raise ValueError(f"expected {name} to hold finite tensors and numbers, found {shown(leaf)}")


def _detached(state: Any) -> Any:
    """The state without graphs; TypeError if there is something in it that ``check_state`` will refuse."""
    if isinstance(state, Tensor):
        return state.detach()
    if type(state) in (list, tuple):
        return type(state)(map(_detached, state))
    if type(state) is dict and all(type(name) in (str, int) for name in state):
        return {name: _detached(part) for name, part in state.items()}
    if state is None or type(state) in (bool, int, float):
        return state
    raise TypeError(
        "expected the state of an outcome to be None, a tensor or a number, or lists, tuples and dicts of "
        f"them, got {type(state).__name__}"
    )
