# SPDX-License-Identifier: MIT
"""MixedOp: one edge of a cell, Σ_k w_k O_k(x), at the price of the options that are not zero."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nasp_ext.arch.gates import MIXED, PRUNED
from nasp_ext.nn.dispatch.branches import Label, autocast_state, run_branch
from nasp_ext.nn.dispatch.host_rows import active_option, is_constant, warn_of_nothing
from nasp_ext.nn.dispatch.inputs import Inputs
from nasp_ext.nn.dispatch.mixture import mixed, selected
from nasp_ext.nn.dispatch.one_hot import Branches, one_hot
from nasp_ext.nn.dispatch.outputs import Zeros, leaves_of
from nasp_ext.nn.dispatch.weights import check_dtype, check_row, fits_input
from nasp_ext.nn.dispatch.zero_rows import ZeroRows
from nasp_ext.nn.fused.autograd import run_cell
from nasp_ext.nn.fused.lowering import NotFusedError
from nasp_ext.nn.fused.plan import CellPlan
from nasp_ext.nn.fused.policy import Fusion, why_not_fused
from nasp_ext.nn.fused.watch import Watch
from nasp_ext.nn.primitives import DARTS_PRIMITIVES, build_primitive, is_none
from nasp_ext.ops._transforms import by_torch_alone


class _Unset(Enum):
    UNSET = 0


class MixedOp(nn.Module):
    """The weighted sum of K branches, each a module.

    Called ``op(x, weights)`` with weights (K,), as in DARTS code, or ``op(x, weights, *args, **kwargs)``:
    each branch is called ``branch(x, *args, **kwargs)``. Outputs are tensors, or tensors in tuples, dicts and
    other trees of ``torch``'s pytree, which are mixed leaf by leaf (docs/mixed_op.md).

    * one entry not zero: only that branch runs. If the weights require a gradient it is exact for all K
      entries at the memory of one branch: the others run in backward, without a graph, one by one.
    * all zero: a zero output, the gradient still exact.
    * dense: the mixture, all branches run (`none` never does: it adds zero). On the fused operators it takes
      the memory of one branch: backward runs each of them again.

    Which case holds is read from ``active`` if given (no wait for the device), else from one host copy of the
    whole matrix whose row ``weights`` is. Inside a ``torch.compile``d caller the module runs uncompiled (a
    graph break).

    Images in float32 or float64 run on the fused operators if the branches are made of their layers
    (``why_not_fused``, ``fusion_reasons``); the output is then in channels_last memory, whatever the layout
    of the input: flatten it with ``reshape``.

    In training mode BatchNorms use the statistics of the batch. The running ones of the branches that run
    in backward are updated there, so that after forward and backward all are as the full mixture leaves them.
    Branches that draw random numbers (dropout) draw them in backward, in another order than the full mixture.
    All of it may be differentiated again (``create_graph=True``): backward then runs the mixture of all
    branches one by one. In ``torch.func``, forward-mode differentiation and ``torch.jit.trace`` the plain
    modules run, all of them where the weights have a derivative.

    A branch leaves its input as it is: one that begins with an operation in place gets a copy.

    Args:
        C: channels; stride: 1 or 2; primitives: names, see ``nasp_ext.nn.PRIMITIVES``.
        affine: BatchNorms learn a scale and a shift.
        pool_norm: a BN(affine=False) follows each pool, which makes the outputs of the options comparable.
        update_unselected_stats: False leaves the running statistics of unselected branches untouched.
    Raises:
        ValueError: for unknown primitives, and in ``forward`` for weights of another length, dtype or device
            than expected or with a NaN, and for branches whose outputs differ in structure or shape.
        TypeError: in ``forward``, for a branch that returns no floating-point tensor or a container that
            torch cannot take apart, and for arguments that one branch alone could read (generators).

    >>> op = MixedOp(4, 2, ("none", "skip_connect", "sep_conv_3x3"))
    >>> op(torch.ones(2, 4, 5, 5), torch.tensor([0.0, 1.0, 0.0])).shape
    torch.Size([2, 4, 3, 3])
    """

    def __init__(
        self,
        C: int,
        stride: int,
        primitives: Sequence[str] = DARTS_PRIMITIVES,
        *,
        affine: bool = False,
        pool_norm: bool = True,
        update_unselected_stats: bool = True,
    ) -> None:
        super().__init__()
        modules = [
            build_primitive(name, C, stride, affine=affine, pool_norm=pool_norm) for name in primitives
        ]
        self._install(tuple(primitives), modules, update_unselected_stats)

    @classmethod
    def from_modules(
        cls,
        modules: Sequence[nn.Module] | Mapping[str, nn.Module],
        *,
        update_unselected_stats: bool = True,
        inputs: Literal["shared", "each"] = "shared",
    ) -> "MixedOp":
        """A MixedOp of any modules whose outputs share one structure.

        Args:
            inputs: "shared": all branches get x; "each": x is a list, or a dict by the names of the modules,
                with an input for each branch. Further arguments are shared in both.

        >>> op = MixedOp.from_modules({"narrow": nn.Conv1d(2, 3, 1), "wide": nn.Conv1d(2, 3, 5, padding=2)})
        >>> op(torch.ones(1, 2, 7), torch.tensor([0.5, 0.5])).shape
        torch.Size([1, 3, 7])
        """
        if inputs not in ("shared", "each"):
            raise ValueError(f'expected inputs to be "shared" or "each", got {inputs!r}')
        if isinstance(modules, Mapping):
            names, branches = tuple(modules.keys()), list(modules.values())
        else:
            names, branches = tuple(type(module).__name__ for module in modules), list(modules)
        op = cls.__new__(cls)
        nn.Module.__init__(op)
        op._install(names, branches, update_unselected_stats)
        op._own_inputs, op._shapes = inputs == "each", ZeroRows(primitives=False)
        return op

    def _install(self, names: tuple[str, ...], branches: list[nn.Module], update_stats: bool) -> None:
        if not branches:
            raise ValueError("expected at least one branch for a MixedOp, got none")
        self.primitives = names
        self.settings = {"update_unselected_stats": update_stats}
        self._ops = nn.ModuleList(branches)
        self._fusion = Fusion()
        self._shapes = ZeroRows(primitives=True)
        self._own_inputs = False

    @property
    def update_unselected_stats(self) -> bool:
        """May be set anew at any time."""
        return self.settings["update_unselected_stats"]

    @update_unselected_stats.setter
    def update_unselected_stats(self, update: bool) -> None:
        self.settings["update_unselected_stats"] = update

    def extra_repr(self) -> str:
        return ", ".join(self.primitives)

    def forward(
        self,
        x: Any,
        weights: Tensor,
        *args: Any,
        active: int | _Unset | None = _Unset.UNSET,
        unit: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Σ_k weights_k O_k(x, *args, **kwargs).

        Args:
            x: input of every branch, or an input for each, see ``from_modules``.
            weights: (K,), in the dtype of x or of the outputs (float32 beside half types).
            active: the only option whose weight is not zero, -1 if there is none, None to run every option;
                left out, it is found in ``weights``.
            unit: with ``active``: its weight is exactly 1, so the output need not be multiplied.
            args, kwargs: given to every branch. Primitives take nothing but x: behind them ``active`` and
                ``unit`` may be given by their places.
        """
        if args and self._shapes.primitives:
            if active is not _Unset.UNSET:
                raise TypeError("expected active once, got it by its place and by its name")
            (active, unit), args = (*args, *(active, unit)[len(args) :])[:2], args[2:]
        if torch.compiler.is_compiling():
            # Not at import: it would load the compiler. torch leaves `disable` untyped.
            uncompiled = torch.compiler.disable(self._run)  # type: ignore[no-untyped-call]
            return uncompiled(x, weights, args, kwargs, active, unit)
        return self._run(x, weights, args, kwargs, active, unit)

    def _run(
        self,
        x: Any,
        weights: Tensor,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        active: int | _Unset | None,
        unit: bool,
    ) -> Any:
        inputs = Inputs(x, args, kwargs, self.primitives if self._own_inputs else None)
        self._check_weights(inputs, weights)
        if active is _Unset.UNSET:
            active, unit = active_option(weights)
            if active is not None and (active == PRUNED or is_none(self._ops[active])):
                nothing = [k for k, branch in enumerate(self._ops) if is_none(branch)]
                warn_of_nothing(weights, nothing)
        elif active is not None and not PRUNED <= active < len(self._ops):
            raise ValueError(f"expected active in {PRUNED}..{len(self._ops) - 1} or None, got {active}")
        if active is None:
            return self._mixture(inputs, weights)
        if by_torch_alone():
            return (
                self._selected(inputs, weights, active)
                if is_constant(weights)
                else self._sum(inputs, weights)
            )
        plan = self._fused_plan(inputs, weights)
        if plan is not None:
            return self._fused(plan, inputs, weights, active, unit)
        if is_constant(weights):
            return self._selected(inputs, weights, active, unit)
        return self._followed(inputs, weights, active, unit)

    def _followed(self, inputs: Inputs, weights: Tensor, active: int, unit: bool) -> Any:
        """The active branch, for weights that have a gradient."""
        module, label, zeros = self._running(inputs, active), Label(active, self.primitives), None
        if module is None:
            zeros = self._output_of_zeros(inputs, weights)
            y = zeros.rest
        else:
            y = leaves_of(run_branch(module, inputs.call(active), inputs.tensors, label), label)
        update, state = self.update_unselected_stats, autocast_state(inputs.like(weights).device.type)
        branches = Branches(self._ops, self.primitives, inputs.form, active, unit, update, state, zeros)
        return one_hot(y, inputs, weights, branches)

    def _running(self, inputs: Inputs, active: int) -> nn.Module | None:
        """The module to run; None for a row of zeros, or for a `none` that does not know what others give."""
        module = None if active == PRUNED else self._ops[active]
        return None if is_none(module) and not self._shapes.none_runs(self._ops, inputs) else module

    def _branch(self, number: int, inputs: Inputs) -> Any:
        label = Label(number, self.primitives)
        return run_branch(self._ops[number], inputs.call(number), inputs.tensors, label)

    def _selected(self, inputs: Inputs, weights: Tensor, active: int, unit: bool = False) -> Any:
        """The active branch alone, for weights that have no derivative."""
        module = self._running(inputs, active)
        if module is not None:
            label = Label(active, self.primitives)
            y = run_branch(module, inputs.call(active), inputs.tensors, label)
            return selected(y, weights[active], unit, inputs.tensors, label)
        if by_torch_alone():
            return self._shapes.traced(self._ops, self.primitives, inputs)
        zeros = self._output_of_zeros(inputs, weights)
        return zeros.rest.filled(zeros.tensors(inputs.like(weights)))

    def _output_of_zeros(self, inputs: Inputs, weights: Tensor) -> Zeros:
        return self._shapes.output(self._ops, self.primitives, inputs, inputs.like(weights))

    def _fused_plan(self, inputs: Inputs, weights: Tensor) -> CellPlan | None:
        if not inputs.alone:
            return None
        (x,) = inputs.tensors
        if why_not_fused(x) is not None or weights.dtype != x.dtype:
            return None
        return self._fusion.plan(self, self._plan)

    def _plan(self) -> CellPlan:
        """The edge as a cell of one node. Raises NotFusedError."""
        if self._own_inputs:
            raise NotFusedError("its branches have inputs of their own")
        edge = (0, 0, list(self._ops), 0, self.update_unselected_stats)
        watched = Watch(mappings=[self._modules, self._ops._modules, self.settings])
        return CellPlan((None,), [edge], 1, (1,), watched)

    def _fused(self, plan: CellPlan, inputs: Inputs, weights: Tensor, active: int, unit: bool) -> Tensor:
        row = weights.unsqueeze(0)
        empty = not plan.active((active,)).form.chosen
        return run_cell(
            plan,
            inputs.tensors,
            row if weights.requires_grad and torch.is_grad_enabled() else None,
            (active,),
            weights=None if unit else row,
            size=tuple(self._output_of_zeros(inputs, weights).sizes[0][0][1:]) if empty else (0, 0, 0),
        )

    def _check_weights(self, inputs: Inputs, weights: Tensor) -> None:
        x = inputs.like(weights)
        check_row(weights, self.primitives, x)
        if not inputs.tensors or not fits_input(weights, x):
            check_dtype(weights, {dtype for _, dtype in self._output_of_zeros(inputs, weights).sizes})

    def _mixture(self, inputs: Inputs, weights: Tensor) -> Any:
        """Σ_k w_k O_k over the branches that are not `none`."""
        plan = self._fused_plan(inputs, weights)
        return (
            self._sum(inputs, weights) if plan is None else self._fused(plan, inputs, weights, MIXED, False)
        )

    def _sum(self, inputs: Inputs, weights: Tensor) -> Any:
        """The mixture by the plain modules."""
        kept = [k for k, branch in enumerate(self._ops) if not is_none(branch)]
        if not kept:
            return self._branch(self._shapes.smallest(self._ops, inputs), inputs)
        outputs = [self._branch(k, inputs) for k in kept]
        if len(kept) < len(self._ops):
            rows = weights.unbind()
            weights = torch.stack([rows[k] for k in kept])
        return mixed(outputs, weights, [Label(k, self.primitives) for k in kept])
