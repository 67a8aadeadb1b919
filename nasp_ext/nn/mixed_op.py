# SPDX-License-Identifier: MIT
"""MixedOp: one edge of a cell, Σ_k w_k O_k(x), at the price of the options that are not zero."""

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import reduce

import torch
from torch import Tensor, nn

from nasp_ext import ops
from nasp_ext.arch.gates import MIXED, PRUNED
from nasp_ext.nn.dispatch.branches import autocast_state, output_like, run_branch, settings_of
from nasp_ext.nn.dispatch.host_rows import active_option, is_constant, warn_of_nothing
from nasp_ext.nn.dispatch.one_hot import Branches, one_hot
from nasp_ext.nn.fused.autograd import run_cell
from nasp_ext.nn.fused.plan import CellPlan
from nasp_ext.nn.fused.policy import Fusion, why_not_fused
from nasp_ext.nn.fused.watch import Watch
from nasp_ext.nn.primitives import DARTS_PRIMITIVES, Zero, build_primitive
from nasp_ext.ops._transforms import by_torch_alone


class _Unset(Enum):
    UNSET = 0


_BRANCHES_PER_SUM = 64  # what one call of mixed_sum takes
_SHAPES_KEPT = 64  # inputs of more different shapes than that are probed again


class MixedOp(nn.Module):
    """The weighted sum of K branches of one input, each a module.

    Called ``op(x, weights)`` with weights (K,), as in DARTS code:

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
            than expected or with a NaN.
        TypeError: in ``forward``, for a branch that returns something else than one tensor.

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
        cls, modules: Sequence[nn.Module] | Mapping[str, nn.Module], *, update_unselected_stats: bool = True
    ) -> "MixedOp":
        """A MixedOp of any modules that take one tensor and give outputs of one common shape.

        >>> op = MixedOp.from_modules({"narrow": nn.Conv1d(2, 3, 1), "wide": nn.Conv1d(2, 3, 5, padding=2)})
        >>> op(torch.ones(1, 2, 7), torch.tensor([0.5, 0.5])).shape
        torch.Size([1, 3, 7])
        """
        if isinstance(modules, Mapping):
            names, branches = tuple(modules.keys()), list(modules.values())
        else:
            names, branches = tuple(type(module).__name__ for module in modules), list(modules)
        mixed = cls.__new__(cls)
        nn.Module.__init__(mixed)
        mixed._install(names, branches, update_unselected_stats)
        return mixed

    def _install(self, names: tuple[str, ...], branches: list[nn.Module], update_stats: bool) -> None:
        if not branches:
            raise ValueError("expected at least one branch for a MixedOp, got none")
        self.primitives = names
        self.settings = {"update_unselected_stats": update_stats}
        self._ops = nn.ModuleList(branches)
        self._fusion = Fusion()
        self._shapes: dict[object, tuple[torch.Size, torch.dtype]] = {}

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
        x: Tensor,
        weights: Tensor,
        active: int | _Unset | None = _Unset.UNSET,
        unit: bool = False,
    ) -> Tensor:
        """Σ_k weights_k O_k(x).

        Args:
            x: input of every branch; weights: (K,), in the dtype of x or of the outputs (float32 beside half
                types).
            active: the only option whose weight is not zero, -1 if there is none, None to run every option;
                left out, it is found in ``weights``.
            unit: with ``active``: its weight is exactly 1, so the output need not be multiplied.
        """
        if torch.compiler.is_compiling():
            # Not at import: it would load the compiler. torch leaves `disable` untyped.
            uncompiled = torch.compiler.disable(self._run)  # type: ignore[no-untyped-call]
            out: Tensor = uncompiled(x, weights, active, unit)
            return out
        return self._run(x, weights, active, unit)

    def _run(self, x: Tensor, weights: Tensor, active: int | _Unset | None, unit: bool) -> Tensor:
        self._check_weights(x, weights)
        if active is _Unset.UNSET:
            active, unit = active_option(weights)
            if active is not None and (active == PRUNED or isinstance(self._ops[active], Zero)):
                nothing = [k for k, branch in enumerate(self._ops) if isinstance(branch, Zero)]
                warn_of_nothing(weights, nothing)
        elif active is not None and not PRUNED <= active < len(self._ops):
            raise ValueError(f"expected active in {PRUNED}..{len(self._ops) - 1} or None, got {active}")
        if active is None:
            return self._mixture(x, weights)
        if by_torch_alone():
            return self._selected(x, weights, active) if is_constant(weights) else self._sum(x, weights)
        plan = self._fused_plan(x, weights)
        if plan is not None:
            return self._fused(plan, x, weights, active, unit)
        if is_constant(weights):
            return self._selected(x, weights, active, unit)
        y = None if active == PRUNED else self._branch(active, x)
        zeros = self._output_of_zeros(x) if y is None else None
        state, update = autocast_state(x.device.type), self.update_unselected_stats
        return one_hot(y, x, weights, Branches(self._ops, active, unit, self.training, update, state, zeros))

    def _branch(self, number: int, x: Tensor) -> Tensor:
        return run_branch(self._ops[number], x, self._name(number))

    def _name(self, number: int) -> str:
        return f"{number} of {', '.join(self.primitives)}"

    def _selected(self, x: Tensor, weights: Tensor, active: int, unit: bool = False) -> Tensor:
        """The active branch alone, for weights that have no derivative."""
        if active == PRUNED:
            if by_torch_alone():  # a trace has the size of its own inputs
                return torch.zeros_like(self._branch(self._smallest(), x))
            shape, dtype = self._output_of_zeros(x)
            return x.new_zeros(shape, dtype=dtype)
        y = self._branch(active, x)
        # Without the product the output would be x itself, which a caller may go on to change in place.
        aliased = y is x or (y._base is not None and y._base is (x if x._base is None else x._base))
        return y if unit and not aliased else y * weights[active]

    def _fused_plan(self, x: Tensor, weights: Tensor) -> CellPlan | None:
        if why_not_fused(x) is not None or weights.dtype != x.dtype:
            return None
        return self._fusion.plan(self, self._plan)

    def _plan(self) -> CellPlan:
        """The edge as a cell of one node. Raises NotFusedError."""
        edge = (0, 0, list(self._ops), 0, self.update_unselected_stats)
        watched = Watch(mappings=[self._modules, self._ops._modules, self.settings])
        return CellPlan((None,), [edge], 1, (1,), watched)

    def _fused(self, plan: CellPlan, x: Tensor, weights: Tensor, active: int, unit: bool) -> Tensor:
        row = weights.unsqueeze(0)
        empty = not plan.active((active,)).form.chosen
        return run_cell(
            plan,
            (x,),
            row if weights.requires_grad and torch.is_grad_enabled() else None,
            (active,),
            weights=None if unit else row,
            size=tuple(self._output_of_zeros(x)[0][1:]) if empty else (0, 0, 0),
        )

    def _check_weights(self, x: Tensor, weights: Tensor) -> None:
        count = len(self._ops)
        if not isinstance(weights, Tensor):
            raise TypeError(f"expected weights to be a tensor ({count},), got {type(weights).__name__}")
        if weights.shape != (count,):
            names, found = self.primitives, tuple(weights.shape)
            raise ValueError(f"expected weights of shape ({count},), one for each of {names}, got {found}")
        if weights.device != x.device:
            raise ValueError(f"expected weights on the device of x, {x.device}, got {weights.device}")
        if weights.dtype != x.dtype or not weights.is_floating_point():
            self._check_dtype(x, weights)

    def _check_dtype(self, x: Tensor, weights: Tensor) -> None:
        half = (torch.float16, torch.bfloat16)
        if x.dtype in half and weights.dtype == torch.float32:
            return
        dtype = self._output_of_zeros(x)[1]
        allowed = {dtype, torch.float32} if dtype in half else {dtype}
        if not weights.is_floating_point() or weights.dtype not in allowed:
            raise ValueError(
                f"expected weights in the dtype of the branches' outputs, {dtype}, got {weights.dtype}: "
                "convert one"
            )

    def _mixture(self, x: Tensor, weights: Tensor) -> Tensor:
        """Σ_k w_k O_k(x) over the branches that are not `none`."""
        plan = self._fused_plan(x, weights)
        return self._sum(x, weights) if plan is None else self._fused(plan, x, weights, MIXED, False)

    def _sum(self, x: Tensor, weights: Tensor) -> Tensor:
        """The mixture by the plain modules."""
        kept = [k for k, branch in enumerate(self._ops) if not isinstance(branch, Zero)]
        if not kept:
            zeros: Tensor = self._ops[0](x)
            return zeros
        outputs = [self._branch(k, x) for k in kept]
        if any(output.shape != outputs[0].shape for output in outputs):
            found = {self.primitives[k]: tuple(out.shape) for k, out in zip(kept, outputs, strict=True)}
            raise ValueError(f"expected branches whose outputs share one shape, got {found}")
        if len(kept) < len(self._ops):
            rows = weights.unbind()
            weights = torch.stack([rows[k] for k in kept])
        dtype = reduce(torch.promote_types, (output.dtype for output in outputs))
        outputs = [output.to(dtype) for output in outputs]
        weights = weights.to(torch.float32 if dtype.itemsize == 2 else dtype)
        parts = range(0, len(kept), _BRANCHES_PER_SUM)
        sums = (ops.mixed_sum(outputs[i : i + parts.step], weights[i : i + parts.step]) for i in parts)
        return reduce(torch.add, sums)

    def _output_of_zeros(self, x: Tensor) -> tuple[torch.Size, torch.dtype]:
        """Shape and dtype of the output, found once per kind of input by running the smallest branch."""
        smallest = self._smallest()
        settings = settings_of(self._ops[smallest])
        key = (x.shape, x.dtype, autocast_state(x.device.type), settings)
        if key not in self._shapes:
            if len(self._shapes) >= _SHAPES_KEPT:
                self._shapes.clear()
            output = output_like(self._ops[smallest], x, self._name(smallest))
            self._shapes[key] = (output.shape, output.dtype)
        return self._shapes[key]

    def _smallest(self) -> int:
        """The branch with the fewest parameters."""
        sizes = [sum(p.numel() for p in module.parameters()) for module in self._ops]
        return sizes.index(min(sizes))
