# SPDX-License-Identifier: MIT
"""NASP: proximal iterations on architecture matrices (Yao et al., AAAI 2020, Alg. 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from nasp_ext import ops
from nasp_ext.arch.gates import Gates
from nasp_ext.optim.groups import FROM_PRESET, complete_group
from nasp_ext.optim.guard import GUARD, refuse_shared
from nasp_ext.optim.saved import check_saved
from nasp_ext.optim.selection import Selection, kept_rows, mark, restore, still_holds
from nasp_ext.optim.stepper import Matrix, Stepper
from nasp_ext.optim.ties import SEEDED, Generator, TieBreaks


class NASP(Optimizer):
    """Minimise F(Ā) over one-hot rows with a continuous A in [0, 1] behind them (Alg. 2 of the paper).

    Each step takes the gradient g at Ā (plus 2·eta·(p_k/p̄)·ā_k and weight decay), moves A by Adam
    (``preset="official"``, the authors' code) or by plain descent (``preset="paper"``), clips A to [0, 1]
    and selects the next Ā: per row the largest entry, per node the best ``edges_per_node`` rows. One fused
    call does all of it. A parameter may be written to between steps, in any way on the CPU; elsewhere a write
    through ``.data`` goes unseen. The state follows a conversion (``module.double()``, ``.to(device)``).

    Args:
        params: architecture matrices, each (R, K), float32 or float64; or parameter groups. Every option
            below except ``generator`` and ``weight_optimizer`` may differ per group.
        lr: step length ε.
        preset: ``"official"`` (Adam, weight decay 1e-3, best 2 edges per node, kept value 1) or ``"paper"``
            (plain step, no decay, every edge, kept value a_k); decides the options marked * if not given.
        betas, eps: Adam's; ``"paper"`` does not use them.
        weight_decay: * added to g as weight_decay·A; None = the preset's.
        eta: weight of the complexity regulariser; needs ``cost``.
        cost: (K,) or (R, K) numbers >= 0, e.g. parameters per option; divided by p̄, one number for a matrix,
            the mean of its rows' sums.
        nodes: rows entering each node, e.g. (2, 3, 4, 5), or "darts" for the rows of DARTS cells: 14 for each
            cell, or one cell of 2 + 3 + 4 + … rows. Needed wherever ``edges_per_node`` may drop a row.
        edges_per_node: * rows kept per node; None keeps all.
        options: names of the K options; then "none" is not selected, unless there is a ``mask``.
        mask: bool, (K,) or (R, K); False = the option does not exist. Each row keeps one or more.
        keep_value: * Ā holds the clipped a_k instead of 1; None = the preset's.
        generator: what breaks exact ties: "seeded" = at random, the same in every run; a CPU generator; or
            None = the lowest index, which at a constant start is the first option in every row.
        weight_optimizer: the other optimizer, only to check that it holds none of ``params``. Any optimizer
            that does is also stopped at its first step.
    Raises:
        ValueError, TypeError: an option or a parameter that cannot be used.
    Warns:
        UserWarning: a matrix got nothing but zeros in its first steps (on the CPU), or none got a gradient.

    >>> a = torch.full((2, 3), 0.5, requires_grad=True)
    >>> optimizer = NASP([a], lr=0.1, preset="paper")
    >>> a.grad = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 2.0]])
    >>> optimizer.step()
    >>> optimizer.gates()[0].active
    (1, 1)
    >>> with optimizer.discrete():
    ...     print(a.detach())
    tensor([[0.0000, 0.6000, 0.0000],
            [0.0000, 0.5000, 0.0000]])
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 3e-4,
        *,
        preset: str = "official",
        betas: tuple[float, float] = (0.5, 0.999),
        eps: float = 1e-8,
        weight_decay: float | None = None,
        eta: float = 0.0,
        cost: Tensor | None = None,
        nodes: Sequence[int] | Literal["darts"] | None = None,
        edges_per_node: int | Literal["preset"] | None = "preset",
        options: Sequence[str] | None = None,
        mask: Tensor | None = None,
        keep_value: bool | None = None,
        generator: Generator = SEEDED,
        weight_optimizer: Optimizer | None = None,
    ) -> None:
        self._names = options
        self._forget(TieBreaks(generator))
        super().__init__(
            params,
            {
                "lr": lr,
                "preset": preset,
                "betas": betas,
                "eps": eps,
                "weight_decay": FROM_PRESET if weight_decay is None else weight_decay,
                "eta": eta,
                "cost": cost,
                "nodes": nodes,
                "edges_per_node": edges_per_node,
                "mask": mask,
                "keep_value": FROM_PRESET if keep_value is None else keep_value,
            },
        )
        if weight_optimizer is not None:
            refuse_shared(self, weight_optimizer)
        GUARD.add(self)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with its own options; checked before it is added."""
        defaults = {**self.defaults, "options": self._names}
        super().add_param_group(complete_group(param_group, defaults))
        for p in self.param_groups[-1]["params"]:
            self._stepper.trust(self.param_groups[-1], p)

    def _forget(self, ties: TieBreaks) -> None:
        """Drop what follows from parameters, options and state."""
        self._stepper = Stepper(ties)
        self._continuous: dict[Tensor, Tensor] | None = None  # A, while the parameters are Ā

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step on every parameter that has a gradient; where one is refused, none is touched.

        Args:
            closure: evaluates the model again, calls backward and returns the loss.
        Returns:
            What ``closure`` returned, or None.
        Raises:
            ValueError, TypeError: an option, a state or a gradient that no step can be made of; numbers that
                are not finite, or overflow (on CUDA: found at the next ``gates()``).
            RuntimeError: called inside ``discrete()``.
        """
        # The step of a subclass is wrapped by torch.optim, hooks and all, before it calls this one.
        hooked = GUARD.has_others(self) and type(self).step is NASP.step
        return (self._hooked_step if hooked else self._step)(closure)

    step.hooked = True  # type: ignore[attr-defined]  # torch.optim wraps a step without this mark

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        self._refuse_inside_discrete("step()")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        due = self._matrices(with_gradient=True)
        if len(due) == 1:
            self._stepper.update(*due[0])
        elif due:
            self._stepper.update_all(due)
        else:
            self._stepper.note_idle(self.state.values())
        return loss

    _hooked_step = Optimizer.profile_hook_step(_step)  # with everybody's hooks, as a range of the profiler

    def _matrices(self, with_gradient: bool = False) -> list[Matrix]:
        """The parameters, or those of them that have a gradient."""
        found, number = [], 0
        for group in self.param_groups:
            for p in group["params"]:
                if not with_gradient or p.grad is not None:
                    found.append((group, p, self.state[p], number))
                number += 1
        return found

    def _select(self) -> dict[Tensor, tuple[Selection, bool]]:
        """The present Ā of each parameter, and whether its kept entries are 1."""
        return {m[1]: (self._stepper.select(*m), not m[0]["keep_value"]) for m in self._matrices()}

    def gates(self) -> tuple[Gates, ...]:
        """The present Ā of every parameter, with one device-to-host copy in all.

        Raises:
            ValueError: a parameter holds a NaN, or no numbers (on meta).
        """
        self._refuse_inside_discrete("gates()")
        selections = self._select().values()
        actives = [s.active if unit else kept_rows(s.weight, s.active) for s, unit in selections]
        host: list[int] = (actives[0] if len(actives) == 1 else torch.cat(actives)).tolist()
        ops.check_selection(host)
        bounds = [0]
        for active in actives:
            bounds.append(bounds[-1] + active.shape[0])
        return tuple(
            Gates(s.weight.clone(), tuple(host[low:high]), unit=unit)
            for (s, unit), low, high in zip(selections, bounds[:-1], bounds[1:], strict=True)
        )

    @contextmanager
    def discrete(self) -> Iterator[None]:
        """Inside, the parameters are Ā; on leaving, in whatever way, they are A again, bit for bit.

        Run forward *and* backward inside: autograd refuses a backward through parameters restored since.

        Raises:
            RuntimeError: entered twice, or a parameter was changed inside (A is restored all the same).
        """
        self._refuse_inside_discrete("discrete()")
        selections = {p: selection for p, (selection, _) in self._select().items()}
        self._continuous = {p: p.detach().clone() for p in selections}
        try:
            for p, selection in selections.items():
                p.detach().copy_(selection.weight)
            marks = {p: mark(p) for p in selections}  # after all: views of one tensor share a version
            yield
            changed = [
                p for p, s in selections.items() if marks[p] != mark(p) or not still_holds(p, s.weight)
            ]
        finally:
            continuous, self._continuous = self._continuous, None
            for p, a in continuous.items():
                restore(p, a)
            for p, selection in selections.items():
                selection.renew(p)
        if changed:
            raise RuntimeError(
                f"expected the parameters to stay as they are inside discrete(), found {len(changed)} of "
                f"{len(selections)} changed (first shape {tuple(changed[0].shape)}); A is restored, the "
                "change is lost: change A outside of discrete()"
            )

    def _refuse_inside_discrete(self, what: str) -> None:
        if self._continuous is not None:
            raise RuntimeError(f"{what} inside discrete(): the parameters are Ā there, leave it first")

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs besides the parameters; loads with weights_only=True."""
        state = super().state_dict()
        state["generator"] = self._stepper.ties.state()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue as the optimizer that gave ``state_dict``; moments are cast to the dtype of their matrix.

        Raises:
            ValueError, TypeError: not a state that this optimizer could have saved; it goes on as before.
        """
        self._refuse_inside_discrete("load_state_dict()")
        check_saved(state_dict, self.param_groups, self._stepper.ties)
        super().load_state_dict(state_dict)
        self._stepper.ties.restore(state_dict["generator"])

    def __getstate__(self) -> dict[str, Any]:
        self._refuse_inside_discrete("copying or pickling")
        state = super().__getstate__()
        state["_copied"] = self._stepper.ties.state(), self._names
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if "_copied" in state:  # a copy; load_state_dict comes here too and has none
            kept, self._names = state.pop("_copied")
            self._forget(TieBreaks.from_state(kept))
        else:
            self._forget(self._stepper.ties)
        super().__setstate__(state)
        GUARD.add(self)
