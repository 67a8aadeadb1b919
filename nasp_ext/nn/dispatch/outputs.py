# SPDX-License-Identifier: MIT
"""What candidate modules return: a tensor, or tensors in tuples, dicts and other trees of ``torch``'s pytree.

Floating-point tensors are mixed. All other leaves (None, numbers, strings, integer tensors) are not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_is_leaf, tree_unflatten

from nasp_ext.ops._transforms import unwrapped


class _Place(Enum):
    MIXED = 0  # stands in a list of leaves where a mixed one belongs


_MIXED = _Place.MIXED


class Leaves(NamedTuple):
    """An output taken apart."""

    mixed: Sequence[Tensor]
    spec: TreeSpec | None = None  # None: the output is one tensor
    leaves: Sequence[object] = ()  # in order, with _MIXED in the places of those

    def filled(self, mixed: Sequence[Tensor]) -> Any:
        """The output with other tensors in the place of the mixed ones."""
        if self.spec is None:
            return mixed[0]
        given = iter(mixed)
        return tree_unflatten([next(given) if leaf is _MIXED else leaf for leaf in self.leaves], self.spec)

    def of_zeros(self) -> "Leaves":
        """Without the mixed ones, zeros in the place of all other tensors and numbers."""
        leaves = []
        for leaf in self.leaves:
            if isinstance(leaf, Tensor):
                leaf = torch.zeros_like(leaf)
            elif isinstance(leaf, int | float | complex) and not isinstance(leaf, bool):
                leaf = 0 * leaf
            leaves.append(leaf)
        return Leaves((), self.spec, leaves)


class Zeros(NamedTuple):
    """The output of a row of zeros: what its mixed leaves look like, and all the rest of it."""

    sizes: Sequence[tuple[torch.Size, torch.dtype]]
    rest: Leaves

    def tensors(self, like: Tensor) -> list[Tensor]:
        """The mixed leaves, on the device of ``like``."""
        return [like.new_zeros(shape, dtype=dtype) for shape, dtype in self.sizes]


def leaves_of(output: Any, name: object) -> Leaves:
    """Take an output apart.

    Args:    name: of the branch, for errors.
    Raises:  TypeError: no floating-point tensor in it, a complex one, or a container unknown to pytree.
    """
    if isinstance(output, Tensor) and output.is_floating_point():
        return Leaves((output,))
    leaves, spec = tree_flatten(output)
    mixed: list[Tensor] = []
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor):
            if leaf.is_complex():
                raise TypeError(
                    f"expected branch {name} to return real tensors, got {leaf.dtype}: return "
                    "torch.view_as_real(…) of it"
                )
            if leaf.is_floating_point():
                mixed.append(leaf)
                leaves[place] = _MIXED
        elif _may_hold_tensors(leaf):
            kind = type(leaf).__name__
            how = f"register_dataclass({kind})" if is_dataclass(leaf) else f"register_pytree_node({kind}, …)"
            raise TypeError(
                f"expected branch {name} to return tensors in tuples, lists and dicts, got a {kind}, which "
                f"torch cannot take apart: call torch.utils._pytree.{how} once, or wrap the branch in a "
                "module that returns the tensors"
            )
    if not mixed:
        raise TypeError(
            f"expected branch {name} to return at least one floating-point tensor, got {described(output)}"
        )
    return Leaves(mixed, spec, leaves)


def _may_hold_tensors(leaf: object) -> bool:
    """Whether a leaf is a container of a class unknown to pytree."""
    if isinstance(leaf, torch.Size | type):
        return False
    if isinstance(leaf, Mapping | list | tuple | set | frozenset) or is_dataclass(leaf):
        return True
    return any(isinstance(value, Tensor) for value in getattr(leaf, "__dict__", {}).values())


def aligned(first: Leaves, output: Any, name: object) -> Leaves | None:
    """An output taken apart in the order of another one; None if their structures or shapes differ.

    Dicts may have their keys in another order.
    """
    if first.spec is None and isinstance(output, Tensor) and output.is_floating_point():
        return Leaves((output,)) if output.shape == first.mixed[0].shape else None
    other = leaves_of(output, name)
    if other.spec is not None and first.spec is not None and other.spec != first.spec:
        try:
            leaves = first.spec.flatten_up_to(output)
        except ValueError:
            return None
        if not all(map(tree_is_leaf, leaves)):
            return None
        places = [isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in leaves]
        mixed = [leaf for leaf, here in zip(leaves, places, strict=True) if here]
        rest = [_MIXED if here else leaf for leaf, here in zip(leaves, places, strict=True)]
        other = Leaves(mixed, first.spec, rest)
    same = (first.spec is None) == (other.spec is None) and len(first.mixed) == len(other.mixed)
    if not same or any(a.shape != b.shape for a, b in zip(first.mixed, other.mixed, strict=True)):
        return None
    kinds = zip(first.leaves, other.leaves, strict=True)
    return other if all((a is _MIXED) == (b is _MIXED) for a, b in kinds) else None


def same_rest(first: Leaves, other: Leaves) -> bool:
    """Whether the leaves that are not mixed are equal; waits for the device where they are tensors."""
    return all(a is b or _equal(a, b) for a, b in zip(first.leaves, other.leaves, strict=True))


def _equal(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        one, two = unwrapped(a), unwrapped(b)
        if one is None or two is None:
            raise RuntimeError(
                "expected no integer tensors in outputs that torch.vmap maps over: they are not mixed, and "
                "whether they agree cannot be asked there"
            )
        return one.dtype == two.dtype and torch.equal(one, two)
    return type(a) is type(b) and not isinstance(a, Tensor) and bool(a == b)


def described(output: object) -> str:
    """The structure of an output, in words.

    >>> described((torch.zeros(2, 3), None, {"length": torch.tensor([3])}))
    "(float32 (2, 3), None, {'length': int64 (1,)})"
    """
    if isinstance(output, Tensor):
        return f"{str(output.dtype).removeprefix('torch.')} {tuple(output.shape)}"
    if isinstance(output, dict):
        inside = ", ".join(f"{key!r}: {described(value)}" for key, value in output.items())
        return f"{{{inside}}}" if type(output) is dict else f"{type(output).__name__}({inside})"
    if isinstance(output, tuple | list):
        inside = ", ".join(map(described, output))
        if type(output) is tuple:
            return f"({inside}{',' * (len(output) == 1)})"
        return f"[{inside}]" if type(output) is list else f"{type(output).__name__}({inside})"
    leaves, _ = tree_flatten(output)
    if len(leaves) == 1 and leaves[0] is output:
        return repr(output) if isinstance(output, int | float | str | type(None)) else type(output).__name__
    return f"{type(output).__name__}({', '.join(map(described, leaves))})"
