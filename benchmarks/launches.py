# SPDX-License-Identifier: MIT
"""How many kernels a step would launch on a GPU, counted by PyTorch's operators on any device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.cases import recurrent
from benchmarks.rows import Row

_DESCRIBE_MEMORY = {
    *("view", "expand", "t", "transpose", "slice", "select", "narrow", "alias", "permute", "detach"),
    *("as_strided", "as_strided_", "unsqueeze", "squeeze", "unbind", "split", "_unsafe_view", "lift_fresh"),
    *("empty", "empty_like", "new_empty", "empty_strided", "chunk"),
}


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Counts the operators that launch; a list of tensors (``_foreach…``) as one, which is too few."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        if name not in _DESCRIBE_MEMORY and not name.startswith("_record_function"):
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def launches_of(step: Callable[[], object]) -> int:
    """Of one call."""
    with Launches() as counted:
        step()
    return sum(counted.found.values())


def launch_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Of the baselines whose steps stand in these rows, for a sequence: no number depends on B, E and V."""
    timed = {row.variant for row in rows if row.case.startswith("recurrent, cell only")}
    sizes = recurrent.Sizes(batch=2, size=4)
    for name in (recurrent.PLAIN, recurrent.MIXTURE, recurrent.SECOND):
        if name in timed:
            phases = recurrent.phases(recurrent.stepper(name, "cpu", sizes))
            counts = ", ".join(f"{phase} {launches_of(step):,}" for phase, step in phases.items())
            yield f"launches on a GPU for a sequence of {sizes.length}: {name}: {counts}"
