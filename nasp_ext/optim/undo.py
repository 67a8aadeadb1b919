# SPDX-License-Identifier: MIT
"""Taking back the step of a matrix when that of another, in the same call, is refused."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Undo:
    """``p`` and its state as they are now, to be put back by a call.

    Args:
        p: A, (R, K).
        state: what its optimizer keeps of it; tensors in it are changed in place by a step.
    """

    def __init__(self, p: Tensor, state: dict[str, Any]) -> None:
        self._p, self._state, self._entries = p, state, dict(state)
        tensors = [p.detach(), *(value for value in state.values() if isinstance(value, Tensor))]
        self._copies = [(t, t.clone()) for t in tensors]

    def __call__(self) -> None:
        for t, copy in self._copies:
            t.copy_(copy)
        self._state.clear()
        self._state.update(self._entries)
