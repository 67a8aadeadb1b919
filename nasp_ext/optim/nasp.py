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
from nasp_ext.gates import Gates
from nasp_ext.optim.groups import FROM_PRESET, RelativeCosts, complete_group
from nasp_ext.optim.guard import GUARD, refuse_shared
from nasp_ext.optim.selection import (
    Selection,
    check_finite,
    mark,
    selection_options,
    still_holds,
    tie_generator,
)


class NASP(Optimizer):
    """Minimise F(Ā) over one-hot rows with a continuous A in [0, 1] behind them (Alg. 2 of the paper).

    Each step takes the gradient g at Ā (plus 2·eta·(p_k/p̄)·ā_k and weight decay), moves A by Adam
    (``preset="official"``, the authors' code) or by plain descent (``preset="paper"``), clips A to [0, 1]
    and selects the next Ā: per row the largest entry, per node the best ``edges_per_node`` rows. One fused
    call does all of it. Do not write to the parameters through ``.data``: such a write goes unseen.

    Args:
        params: architecture matrices, each (R, K), float32 or float64; or parameter groups. Every option
            below except ``generator`` and ``weight_optimizer`` may differ per group.
        lr: step length ε.
        preset: ``"official"`` (Adam, weight decay 1e-3, best 2 edges per node, kept value 1) or ``"paper"``
            (plain step, no decay, every edge, kept value a_k); decides the options marked * if not given.
        betas, eps: Adam's; ``"paper"`` does not use them.
        weight_decay: * added to g as weight_decay·A; None = the preset's.
        eta: weight of the complexity regulariser; needs ``cost``.
        cost: (K,) or (R, K) numbers >= 0, e.g. parameters per option; divided by their row sum p̄ internally.
        nodes: rows entering each node, e.g. (2, 3, 4, 5); inferred for DARTS-shaped matrices.
        edges_per_node: * rows kept per node; None keeps all.
        mask: bool, (K,) or (R, K); False = the option does not exist.
        keep_value: * Ā holds the clipped a_k instead of 1; None = the preset's.
        generator: CPU generator that breaks exact ties at random; None = lowest index.
        weight_optimizer: the other optimizer, only to check that it holds none of ``params``. Any optimizer
            that does is also stopped at its first step.
    Raises:
        ValueError, TypeError: an option or a parameter that cannot be used.

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
        nodes: Sequence[int] | None = None,
        edges_per_node: int | Literal["preset"] | None = "preset",
        mask: Tensor | None = None,
        keep_value: bool | None = None,
        generator: torch.Generator | None = None,
        weight_optimizer: Optimizer | None = None,
    ) -> None:
        if generator is not None and generator.device.type != "cpu":
            raise ValueError(f"expected generator to be a CPU torch.Generator, got one on {generator.device}")
        self._generator = generator
        self._selections: dict[Tensor, Selection] = {}
        self._costs = RelativeCosts()
        self._continuous: dict[Tensor, Tensor] | None = None  # A, while the parameters are Ā
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
        super().add_param_group(complete_group(param_group, self.defaults))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step on every parameter that has a gradient; none is touched if one holds a NaN.

        Args:
            closure: evaluates the model again, calls backward and returns the loss.
        Returns:
            What ``closure`` returned, or None.
        Raises:
            ValueError: a NaN in a parameter or gradient (on CUDA: found at the next ``gates()``).
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
        pairs = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if len(pairs) > 1:  # the fused call looks at its own matrix before it writes
            for group, p in pairs:
                check_finite(p, group["mask"])
        for group, p in pairs:
            self._update(group, p)
        return loss

    _hooked_step = Optimizer.profile_hook_step(_step)  # with everybody's hooks, as a range of the profiler

    def _update(self, group: dict[str, Any], p: Tensor) -> None:
        selection, state, grad = self._select(group, p), self.state[p], p.grad
        assert grad is not None
        if group["adam"] and "exp_avg" not in state:
            state["exp_avg"] = torch.zeros_like(p, memory_format=torch.contiguous_format)
            state["exp_avg_sq"] = torch.zeros_like(p, memory_format=torch.contiguous_format)
        step, cost = state["step"] + 1, self._costs(group, p) if group["eta"] else None
        before = None if self._generator is None else self._generator.get_state()
        seed = self._draw_seed()
        try:
            selection.step(group, p, grad, state, cost, step, seed)
        except Exception:
            if self._generator is not None and before is not None:
                self._generator.set_state(before)
            raise
        state["step"], state["tie_seed"] = step, seed

    def _select(self, group: dict[str, Any], p: Tensor) -> Selection:
        """The present Ā of ``p``: from the last step, or made anew if ``p`` was changed since."""
        state = self.state[p]
        if not state:
            state.update(step=0, tie_seed=self._draw_seed())
        selection = self._selections.get(p)
        if selection is None or selection.made_from != mark(p):
            ties = tie_generator(state["tie_seed"])
            weight, active = ops.select_active(p.detach(), generator=ties, **selection_options(group, p))
            selection = self._selections[p] = Selection(weight, active, mark(p))
        return selection

    def _draw_seed(self) -> int | None:
        if self._generator is None:
            return None
        return int(torch.randint(2**63 - 1, (), generator=self._generator))

    def _pairs(self) -> list[tuple[dict[str, Any], Tensor]]:
        return [(group, p) for group in self.param_groups for p in group["params"]]

    def gates(self) -> tuple[Gates, ...]:
        """The present Ā of every parameter, with one device-to-host copy in all.

        Raises:
            ValueError: a parameter holds a NaN.
        """
        self._refuse_inside_discrete("gates()")
        selections = [self._select(group, p) for group, p in self._pairs()]
        actives = [s.active for s in selections]
        host: list[int] = (actives[0] if len(actives) == 1 else torch.cat(actives)).tolist()
        ops.check_selection(host)
        bounds = [0]
        for active in actives:
            bounds.append(bounds[-1] + active.shape[0])
        return tuple(
            Gates(s.weight.clone(), tuple(host[low:high]), unit=not group["keep_value"])
            for s, low, high, (group, _) in zip(
                selections, bounds[:-1], bounds[1:], self._pairs(), strict=True
            )
        )

    @contextmanager
    def discrete(self) -> Iterator[None]:
        """Inside, the parameters are Ā; on leaving, in whatever way, they are A again, bit for bit.

        Run forward *and* backward inside: autograd refuses a backward through parameters restored since.

        Raises:
            RuntimeError: entered twice, or a parameter was changed inside (A is restored all the same).
        """
        self._refuse_inside_discrete("discrete()")
        selections = {p: self._select(group, p) for group, p in self._pairs()}
        self._continuous = {p: p.detach().clone() for p in selections}
        marks: dict[Tensor, tuple[int, int]] = {}
        try:
            for p, selection in selections.items():
                p.detach().copy_(selection.weight)
                marks[p] = mark(p)
            yield
            changed = [
                p for p, s in selections.items() if marks[p] != mark(p) or not still_holds(p, s.weight)
            ]
        finally:
            for p, a in self._continuous.items():
                p.detach().copy_(a)
                selections[p].made_from = mark(p)
            self._continuous = None
        if changed:
            raise RuntimeError(
                f"expected the parameters to stay as they are inside discrete(), found {len(changed)} of "
                f"{len(marks)} changed (first shape {tuple(changed[0].shape)}); A is restored, the change is "
                "lost: change A outside of discrete()"
            )

    def _refuse_inside_discrete(self, what: str) -> None:
        if self._continuous is not None:
            raise RuntimeError(f"{what} inside discrete(): the parameters are Ā there, leave it first")

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs besides the parameters; loads with weights_only=True."""
        state = super().state_dict()
        state["generator"] = None if self._generator is None else self._generator.get_state()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue as the optimizer that gave ``state_dict``.

        Raises:
            ValueError: the state is of matrices of another shape, or only one side has a generator.
        """
        self._refuse_inside_discrete("load_state_dict()")
        saved = state_dict.get("generator")
        if (saved is None) != (self._generator is None):
            has, needs = ("no", "a") if saved is None else ("a", "no")
            raise ValueError(
                f"expected a state with {needs} tie-break generator, as this NASP, found {has} one"
            )
        held = dict(enumerate(p for _, p in self._pairs()))
        for i, state in state_dict["state"].items():
            for name, value in state.items():
                if isinstance(value, Tensor) and i in held and value.shape != held[i].shape:
                    raise ValueError(
                        f"expected {name} of parameter {i} to be {tuple(held[i].shape)}, found "
                        f"{tuple(value.shape)}: the state is of another search space"
                    )
        super().load_state_dict(state_dict)
        if self._generator is not None:
            self._generator.set_state(state_dict["generator"])

    def __getstate__(self) -> dict[str, Any]:
        self._refuse_inside_discrete("copying or pickling")
        state = super().__getstate__()
        state["_generator_state"] = None if self._generator is None else self._generator.get_state()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if "_generator_state" in state:  # a copy; load_state_dict comes here too and has none
            saved = state.pop("_generator_state")
            self._generator = None
            if saved is not None:
                self._generator = torch.Generator()
                self._generator.set_state(saved)
        self._selections = {}
        self._costs = RelativeCosts()
        self._continuous = None
        super().__setstate__(state)
        GUARD.add(self)
