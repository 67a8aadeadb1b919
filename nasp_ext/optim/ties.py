# SPDX-License-Identifier: MIT
"""What breaks exact ties in the selections of an optimizer."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from nasp_ext.ops._native import seed_of

SEEDED: Literal["seeded"] = "seeded"
_APART = 1 << 32  # selections of a matrix before its seeds meet those of the next

Generator = torch.Generator | Literal["seeded"] | None


class TieBreaks:
    """The seeds of the selections of A; a state keeps that of the present one, so that it can be made again.

    Args:
        generator: "seeded": matrix m breaks the ties of its selection n by the number (m, n), the same in
            every run; a CPU generator: by numbers drawn from it; None: the lowest index wins.
    Raises:  TypeError, ValueError: something else, or a generator on another device.
    """

    def __init__(self, generator: Generator) -> None:
        if generator is not None and not (isinstance(generator, str) and generator == SEEDED):
            device = getattr(generator, "device", None)
            if isinstance(device, torch.device) and device.type != "cpu":
                raise ValueError(f"expected generator to be a CPU torch.Generator, got one on {device}")
            if not isinstance(generator, torch.Generator):
                raise TypeError(
                    f"expected generator to be a CPU torch.Generator, {SEEDED!r} or None, got {generator!r}"
                )
        self.generator: Generator = generator
        self.drawn = isinstance(generator, torch.Generator)  # from a generator, which a step moves on

    def first(self, matrix: int) -> int | None:
        """The seed kept for the first selection of matrix number ``matrix``."""
        return matrix * _APART if self.generator == SEEDED else self._draw()

    def next(self, seed: int | None) -> int | None:
        """The seed kept for the selection after that of ``seed``."""
        if self.generator == SEEDED:
            assert seed is not None
            return seed + 1
        return self._draw()

    def of(self, seed: int | None) -> int | None:
        """What the operators break ties with in the selection of ``seed``."""
        if seed is None or self.generator == SEEDED:
            return seed
        return seed_of(torch.Generator().manual_seed(seed))

    def _draw(self) -> int | None:
        if not isinstance(self.generator, torch.Generator):
            return None
        return int(torch.randint(2**63 - 1, (), generator=self.generator))

    def check_seed(self, seed: object) -> None:
        """Raise ValueError if ``seed`` is not one that is kept of a selection."""
        if self.generator is None:
            good, expected = seed is None, "None, as the lowest index breaks ties"
        else:
            good = type(seed) is int and 0 <= seed < 2**63 - 1
            expected = "a whole number below 2^63 - 1"
        if not good:
            raise ValueError(f"expected tie_seed of the state to be {expected}, found {seed!r}")

    def state(self) -> Tensor | str | None:
        """What to keep of it: the state of a generator, else the option itself."""
        if isinstance(self.generator, torch.Generator):
            return self.generator.get_state()
        return self.generator

    def check_state(self, state: object) -> None:
        """Raise ValueError if ``state`` is of another kind than this one's own."""
        own, found = _kind(self.state()), _kind(state)
        if own != found:
            raise ValueError(
                f"expected a state with {own}, as this NASP has, found one with {found}: make NASP with the "
                "generator= that it was saved with"
            )
        if isinstance(state, Tensor):
            try:
                torch.Generator().set_state(state)
            except (RuntimeError, TypeError) as error:
                raise ValueError(f"expected the state of a CPU torch.Generator, found {error}") from error

    def restore(self, state: Tensor | str | None) -> None:
        """Go on from ``state``, which is of this kind."""
        if isinstance(self.generator, torch.Generator) and isinstance(state, Tensor):
            self.generator.set_state(state)

    @classmethod
    def from_state(cls, state: Tensor | str | None) -> TieBreaks:
        """A copy, with a generator of its own."""
        ties = cls(torch.Generator() if isinstance(state, Tensor) else state)  # type: ignore[arg-type]
        ties.restore(state)
        return ties


def _kind(state: object) -> str:
    if isinstance(state, Tensor):
        return "a tie-break generator"
    return "no tie-break generator" if state is None else f"the tie-breaks {state!r}"
