# SPDX-License-Identifier: MIT
"""Damage to the arguments of a call: another shape, dtype, device, layout, length, number, type."""

from collections.abc import Callable
from random import Random
from typing import Any

import torch
from torch import Tensor

NUMBERS = [-(2**63), -(2**31), -1, 0, 1, 2, 3, 7, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**64]
FLOATS = [float("nan"), float("inf"), -1.0, 0.0, 0.5, 2.0]
TYPES = [None, 1.5, "x", [], {}]  # a bool is a number to Python and to PyTorch's dispatcher
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.bool]
DTYPES.append(torch.complex64)

Path = tuple[int, ...]


def places(arguments: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    """Every value in nested lists, the lists too."""
    found = [(path, arguments)] if path else []
    if isinstance(arguments, list | tuple):
        for index, value in enumerate(arguments):
            found += places(value, (*path, index))
    return found


def replaced(arguments: Any, path: Path, value: Any) -> Any:
    """The same nested lists with another value at one place."""
    first, *rest = path
    items = list(arguments)
    items[first] = replaced(items[first], tuple(rest), value) if rest else value
    return type(arguments)(items)


def damaged(arguments: tuple[Any, ...], random: Random) -> tuple[tuple[Any, ...], list[str]]:
    """The arguments with one to three changes, and what they were."""
    done = []
    for _ in range(random.choice([1, 1, 2, 3])):
        path, value = random.choice(places(arguments))
        others = [v for _, v in places(arguments) if isinstance(v, Tensor)]
        name, new = _another(value, others, random)
        arguments = replaced(arguments, path, new)
        done.append(f"{list(path)}: {name}")
    for path, value in places(arguments):
        if isinstance(value, Tensor) and not value.is_leaf:  # which cannot be copied
            arguments = replaced(arguments, path, value.detach())
    return arguments, done


def _another(value: Any, others: list[Tensor], random: Random) -> tuple[str, Any]:
    if random.random() < 0.06:
        new = random.choice(TYPES)
        return f"a value of another type, {new!r}", new
    if isinstance(value, Tensor) and value.layout is torch.strided:
        name, change = random.choice(TENSOR_DAMAGES)
        return name, change(value, others, random)
    if isinstance(value, bool):
        return "the other flag", not value
    if isinstance(value, int):
        new = random.choice([*NUMBERS, value + 1, value - 1, -value])
        return f"{value} -> {new}", new
    if isinstance(value, float):
        new = random.choice(FLOATS)
        return f"{value} -> {new}", new
    if isinstance(value, list | tuple):
        name, changed = random.choice(LIST_DAMAGES)
        return name, type(value)(changed(list(value), random))
    return "an integer", random.choice(NUMBERS)


def _dimension(t: Tensor, random: Random) -> int:
    return random.randrange(t.dim())


def _shorter(t: Tensor, _: list[Tensor], random: Random) -> Tensor:
    if not t.dim() or not t.numel():
        return t
    dim = _dimension(t, random)
    return t.narrow(dim, 0, t.shape[dim] - 1)


def _longer(t: Tensor, _: list[Tensor], random: Random) -> Tensor:
    if not t.dim() or not t.numel():
        return t.new_ones(2)
    dim = _dimension(t, random)
    return torch.cat([t, t.narrow(dim, 0, 1)], dim)


def _empty(t: Tensor, _: list[Tensor], random: Random) -> Tensor:
    return t.narrow(_dimension(t, random), 0, 0) if t.dim() else t.new_empty(0)


def _swapped(t: Tensor, _: list[Tensor], random: Random) -> Tensor:
    return t.transpose(_dimension(t, random), _dimension(t, random)) if t.dim() else t


def _expanded(t: Tensor, _: list[Tensor], random: Random) -> Tensor:
    if not t.dim() or not t.numel():
        return t
    return t.narrow(_dimension(t, random), 0, 1).expand(t.shape)


def _wide(t: Tensor, _: list[Tensor], random: Random) -> Tensor:
    """Every second entry of a dimension."""
    if not t.dim():
        return t
    return t.repeat_interleave(2, dim := _dimension(t, random)).movedim(dim, 0)[::2].movedim(0, dim)


def _beside(t: Tensor, others: list[Tensor], random: Random) -> Tensor:
    """A view of memory that overlaps with another argument's."""
    whole = random.choice(others)
    if whole.layout is not torch.strided or whole.is_meta or not whole.dim() or len(whole) < 2:
        return t
    return whole[1:]


TensorDamage = Callable[[Tensor, list[Tensor], Random], Any]
TENSOR_DAMAGES: list[tuple[str, TensorDamage]] = [
    ("another dtype", lambda t, _, random: t.to(random.choice(DTYPES))),
    ("another dtype", lambda t, _, random: t.to(random.choice(DTYPES))),
    ("shorter", _shorter),
    ("longer", _longer),
    ("no entries", _empty),
    ("one dimension less", lambda t, _, random: t.select(_dimension(t, random), 0) if t.numel() > 1 else t),
    ("one dimension more", lambda t, _, random: t.unsqueeze(random.randint(0, t.dim()))),
    ("flat", lambda t, _, random: t.reshape(-1)),
    ("one number", lambda t, _, random: t.new_ones(())),
    ("swapped dimensions", _swapped),
    ("in the order of its dimensions", lambda t, _, random: t.contiguous()),
    ("expanded", _expanded),
    ("with gaps", _wide),
    ("on meta", lambda t, _, random: t.to("meta")),
    ("sparse", lambda t, _, random: t if t.is_meta else t.detach().to_sparse()),
    ("with a lazy sign", lambda t, _, random: torch._neg_view(t) if t.is_floating_point() else t),
    ("conjugated", lambda t, _, random: t.to(torch.complex64).conj()),
    ("a leaf", lambda t, _, random: t.detach().clone().requires_grad_() if t.is_floating_point() else t),
    ("another argument", lambda t, others, random: random.choice(others)),
    ("overlapping another argument", _beside),
    ("None", lambda t, _, random: None),
]

ListDamage = Callable[[list[Any], Random], list[Any]]
LIST_DAMAGES: list[tuple[str, ListDamage]] = [
    ("without the last item", lambda items, random: items[:-1]),
    ("cut off", lambda items, random: items[: random.randint(0, len(items))]),
    ("with the last item twice", lambda items, random: items + items[-1:]),
    ("repeated", lambda items, random: items * 2),
    ("reversed", lambda items, random: items[::-1]),
    ("empty", lambda items, random: []),
    ("with a zero more", lambda items, random: [*items, 0]),
    ("shuffled", lambda items, random: random.sample(items, len(items))),
]
