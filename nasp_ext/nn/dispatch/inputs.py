# SPDX-License-Identifier: MIT
"""What the candidate modules of an edge are called with, its tensors apart from all else."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

_TENSOR = object()  # stands in a list of leaves where a tensor belongs
_NAMED = (type(None), bool, int, float, str)  # leaves whose repr says all of them

Call = tuple[tuple[Any, ...], dict[str, Any]]


class Form:
    """How tensors make up the arguments of a call, once they are given.

    Args:    spec, leaves: of ((inputs of the branches, args, kwargs)); each: every branch has its own input.
    """

    __slots__ = ("_each", "_leaves", "_spec")

    def __init__(self, spec: TreeSpec, leaves: Sequence[object], each: bool) -> None:
        self._spec, self._each = spec, each
        self._leaves = [_TENSOR if isinstance(leaf, Tensor) else leaf for leaf in leaves]

    def call(self, tensors: Sequence[Tensor], branch: int) -> Call:
        """Arguments of a branch, in containers of their own."""
        given = iter(tensors)
        leaves = [next(given) if leaf is _TENSOR else leaf for leaf in self._leaves]
        x, args, kwargs = tree_unflatten(leaves, self._spec)
        return (x[branch] if self._each else x, *args), kwargs

    def key(self) -> str | None:
        """Equal for calls that differ in their tensors alone; None where that cannot be told."""
        if any(leaf is not _TENSOR and type(leaf) not in _NAMED for leaf in self._leaves):
            return None
        return repr((self._spec, [None if leaf is _TENSOR else (leaf,) for leaf in self._leaves]))


class _OneTensor(Form):
    """The form of ``module(x)``."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def call(self, tensors: Sequence[Tensor], branch: int) -> Call:
        return tuple(tensors), {}

    def key(self) -> str | None:
        return ""


ONE_TENSOR = _OneTensor()


class Inputs:
    """The arguments of one call of a MixedOp.

    Args:
        x: input of every branch; args, kwargs: given to every branch as well.
        names: of the branches, each of which has an input of its own in ``x``; None: they share x.
    Attributes:
        tensors: all tensors among the arguments; alone: they are one, x itself.
    Raises:
        TypeError: an iterator, which one branch alone could read; inputs of their own in no list or dict.
        ValueError: not one input for each branch.
    """

    __slots__ = ("_args", "_kwargs", "_own", "_x", "alone", "form", "tensors")

    def __init__(
        self, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any], names: tuple[str, ...] | None
    ) -> None:
        self._x, self._args, self._kwargs, self._own = x, args, kwargs, names is not None
        self.alone = names is None and not args and not kwargs and isinstance(x, Tensor)
        if self.alone:
            self.tensors: list[Tensor] = [x]
            self.form: Form = ONE_TENSOR
            return
        if names is not None:
            self._x = _in_order(x, names)
        leaves, spec = tree_flatten((self._x, args, kwargs))
        for leaf in leaves:
            if isinstance(leaf, Iterator):
                raise TypeError(
                    f"expected arguments that every branch can read, got a {type(leaf).__name__}, which is "
                    "empty after the first: give a list or a tuple"
                )
        self.tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        self.form = Form(spec, leaves, self._own)

    def call(self, branch: int) -> Call:
        """Arguments of a branch, the very objects that were given."""
        return (self._x[branch] if self._own else self._x, *self._args), self._kwargs

    def like(self, weights: Tensor) -> Tensor:
        """A tensor on the device where the branches run."""
        return self.tensors[0] if self.tensors else weights


def _in_order(x: object, names: tuple[str, ...]) -> list[Any]:
    """The inputs of the branches, from a list or by name."""
    if isinstance(x, Mapping):
        if x.keys() != set(names):
            raise ValueError(f"expected an input for each of {names}, got inputs for {tuple(x)}")
        return [x[name] for name in names]
    if not isinstance(x, list | tuple):
        raise TypeError(
            f"expected a list, a tuple or a dict with an input for each of {names}, got {type(x).__name__}"
        )
    if len(x) != len(names):
        raise ValueError(f"expected {len(names)} inputs, one for each of {names}, got {len(x)}")
    return list(x)
