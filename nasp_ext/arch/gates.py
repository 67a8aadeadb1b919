# SPDX-License-Identifier: MIT
"""The architecture as a value: what a strategy hands to a network."""

from dataclasses import dataclass
from operator import index
from typing import NamedTuple

from torch import Tensor

PRUNED, MIXED = -1, -3  # -2 is ops.NAN_ROW, with which a kernel marks a row that it could not select from


class Choice(NamedTuple):
    """One row of the gates: the option weights of one edge and what is known of them on the host."""

    weights: Tensor  # (K,)
    active: int | None  # the chosen option, PRUNED for an all-zero row, None = run every option
    unit: bool  # the active entry is known to be exactly 1


@dataclass(frozen=True)
class Gates:
    """Architecture weights with the chosen option of every row.

    Args:
        weight: (R, K), floating point, on the device of the network; zero outside the active entries if
            ``active`` is given.
        active: R host integers, the chosen option of each row, ``PRUNED`` (-1) for a row that is all zero,
            ``MIXED`` (-3) for a dense row, of which every option runs. None: all rows are dense. It is
            believed, never compared with ``weight``: that comparison would be a device-to-host copy.
        unit: every active entry is exactly 1, so that networks need not multiply by it.
    Raises:
        ValueError: if the shapes disagree or an active option does not exist.

    >>> import torch
    >>> Gates(torch.eye(2, 3), active=(0, 1)).choices()[1].active
    1
    """

    weight: Tensor
    active: tuple[int, ...] | None = None
    unit: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.weight, Tensor):
            raise TypeError(f"expected Gates.weight to be a tensor (R, K), got {type(self.weight).__name__}")
        if not isinstance(self.unit, bool):
            raise TypeError(f"expected Gates.unit to be a bool, got {type(self.unit).__name__}")
        if self.weight.dim() != 2 or not self.weight.is_floating_point():
            found = f"{tuple(self.weight.shape)} of {self.weight.dtype}"
            raise ValueError(f"expected Gates.weight to be (R, K), floating point, got {found}")
        if self.active is None:
            if self.unit:
                raise ValueError("expected unit=True only beside Gates.active, got active=None")
            return
        rows, options = self.weight.shape
        try:
            object.__setattr__(self, "active", tuple(map(index, self.active)))
        except TypeError as error:
            found = f"{self.active!r:.80}"
            raise TypeError(f"expected Gates.active to be whole numbers or None, got {found}") from error
        if len(self.active) != rows:
            raise ValueError(f"expected {rows} options in Gates.active, got {len(self.active)}")
        for row, option in enumerate(self.active):
            if option not in (PRUNED, MIXED) and not 0 <= option < options:
                raise ValueError(
                    f"expected Gates.active[{row}] in 0..{options - 1}, {PRUNED} for none or {MIXED} for "
                    f"all, got {option}"
                )

    def choices(self) -> list[Choice]:
        """All rows, from one ``unbind`` so that their gradients meet in one (R, K) tensor."""
        rows = self.weight.unbind(0)
        active = (MIXED,) * len(rows) if self.active is None else self.active
        return [
            Choice(row, None if option == MIXED else option, self.unit)
            for row, option in zip(rows, active, strict=True)
        ]
