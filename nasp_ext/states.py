# SPDX-License-Identifier: MIT
"""What was read from a file against what would have been written to it.

Each function raises a ValueError that names the first place which does not fit, and changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer


def check_keys(found: Any, expected: Iterable[Any], name: str, optional: Iterable[Any] = ()) -> None:
    """``found`` has to be a dict with the keys ``expected`` and, if it likes, those of ``optional``."""
    if not isinstance(found, dict):
        raise ValueError(f"expected {name} to be a dict, found {shown(found)}")
    expected, optional = list(expected), list(optional)
    missing = [key for key in expected if key not in found]
    extra = [key for key in found if key not in expected and key not in optional]
    if missing or extra:
        words = [f"no {key!r}" for key in missing] + [f"{key!r} beside them" for key in extra]
        known = ", ".join(map(repr, expected)) if len(expected) <= 12 else f"of this run, {len(expected)}"
        raise ValueError(f"expected {name} with the entries {known or 'none'}, found {', '.join(words[:4])}")


def check_number(
    found: Any,
    name: str,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    whole: bool = False,
    none: bool = False,
) -> None:
    """``found`` has to be a finite number in [low, high]; with ``none`` it may be None."""
    if found is None and none:
        return
    kind = "a whole number" if whole else "a finite number"
    number = isinstance(found, int if whole else int | float) and not isinstance(found, bool)
    if not number or not math.isfinite(found) or not low <= found <= high:
        bounds = f" in [{low:g}, {high:g}]" if high < math.inf else f" >= {low:g}" if low > -math.inf else ""
        raise ValueError(f"expected {name} to be {kind}{bounds}{' or None' * none}, found {shown(found)}")


def check_tensor(found: Any, expected: Tensor, name: str, low: float | None = None) -> None:
    """``found`` has to be a tensor with the dtype and shape of ``expected``, finite if that is, and >= low.

    Devices may differ: what is read from a file is on the CPU.
    """
    wanted = f"{expected.dtype} {tuple(expected.shape)}"
    if not _is_plain(found):
        raise ValueError(f"expected {name} to be a tensor {wanted}, found {shown(found)}")
    if found.dtype != expected.dtype or found.shape != expected.shape:
        raise ValueError(f"expected {name} to be a tensor {wanted}, found {found.dtype} {tuple(found.shape)}")
    if found.is_floating_point() and bool(expected.isfinite().all()) and not bool(found.isfinite().all()):
        raise ValueError(f"expected {name} to hold finite numbers, found NaN or infinity in it")
    if low is not None and bool((found < low).any()):
        raise ValueError(f"expected {name} to hold numbers >= {low:g}, found {float(found.min()):g}")


def _is_plain(found: Any) -> TypeGuard[Tensor]:
    """Whether it is a tensor with an entry in memory for each element."""
    strided = isinstance(found, Tensor) and found.layout == torch.strided
    return strided and not found.is_quantized and not found.is_meta


def check_like(found: Any, expected: Any, name: str) -> None:
    """``found`` has to have the structure of ``expected``: keys, lengths, types, dtypes, shapes.

    Numbers and tensors are finite unless they are not in ``expected``. What is None or empty there may be
    anything: it has not been filled yet.
    """
    if isinstance(expected, Tensor):
        check_tensor(found, expected, name)
    elif isinstance(expected, dict) and expected:
        check_keys(found, expected, name)
        for key, value in expected.items():
            check_like(found[key], value, place(name, key))
    elif isinstance(expected, list | tuple) and expected:
        if type(found) is not type(expected) or len(found) != len(expected):
            kind = f"a {type(expected).__name__} of {len(expected)} entries"
            raise ValueError(f"expected {name} to be {kind}, found {shown(found)}")
        for i, value in enumerate(expected):
            check_like(found[i], value, place(name, i))
    elif isinstance(expected, int | float) and not isinstance(expected, bool):
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise ValueError(f"expected {name} to be a number, found {shown(found)}")
        if math.isfinite(expected):
            check_number(found, name)
    elif expected is not None and not isinstance(found, type(expected)):
        raise ValueError(f"expected {name} to be a {type(expected).__name__}, found {shown(found)}")


def check_same(found: Any, expected: Any, name: str) -> None:
    """``found`` has to equal ``expected``, entry by entry; true is not 1."""
    if isinstance(expected, Tensor):
        check_tensor(found, expected, name)
        if not torch.equal(found, expected.to(found.device)):
            raise ValueError(f"expected {name} as in this run, found other numbers")
    elif isinstance(expected, dict):
        check_keys(found, expected, name)
        for key, value in expected.items():
            check_same(found[key], value, place(name, key))
    elif isinstance(expected, list | tuple):
        check_like(found, expected, name)
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            raise ValueError(f"expected {name} to be {shown(expected)}, found {shown(found)}")
        for i, value in enumerate(expected):
            check_same(found[i], value, place(name, i))
    elif (
        isinstance(found, Tensor)
        or isinstance(found, bool) != isinstance(expected, bool)
        or bool(found != expected)
    ):
        raise ValueError(f"expected {name} to be {shown(expected)}, found {shown(found)}")


def check_generator(found: Any, name: str) -> None:
    """``found`` has to be the state of a CPU generator."""
    own = torch.Generator()
    check_tensor(found, own.get_state(), name)
    try:
        own.set_state(found)
    except RuntimeError as error:
        raise ValueError(f"expected {name} to be the state of a generator, found numbers of none") from error


def check_optimizer(
    found: Any, optimizer: Optimizer, name: str, slots: Mapping[str, float | None], needed: Iterable[int] = ()
) -> None:
    """``found`` has to be a state that ``optimizer``, with its present options, could have come to.

    Every option is compared but the learning rate, which a schedule may have changed.

    Args:
        slots: what it keeps of each parameter: "step", a number of steps, and tensors like the parameter,
            with the least value they may hold, None = any.
        needed: the numbers of parameters of which there has to be something.
    """
    expected = optimizer.state_dict()
    check_keys(found, expected, name)
    check_groups(found["param_groups"], expected["param_groups"], place(name, "param_groups"))
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    where = place(name, "state")
    check_keys(found["state"], needed, where, optional=range(len(parameters)))
    for number, entry in found["state"].items():
        check_keys(entry, slots, place(where, number))
        for slot, low in slots.items():
            at = place(place(where, number), slot)
            if slot == "step":
                _check_steps(entry[slot], at)
            else:
                check_tensor(entry[slot], parameters[number].detach(), at, low)


def check_groups(found: Any, expected: list[dict[str, Any]], name: str) -> None:
    """Groups of parameters of an optimizer, with their options, all as expected but the learning rate."""
    if not isinstance(found, list) or len(found) != len(expected):
        raise ValueError(f"expected {name} to be a list of {len(expected)} groups, found {shown(found)}")
    for i, group in enumerate(expected):
        check_keys(found[i], group, place(name, i))
        for option, value in group.items():
            at = place(place(name, i), option)
            if option == "lr" and not isinstance(value, Tensor):
                check_number(found[i][option], at, low=0)
            elif option == "lr":
                check_tensor(found[i][option], value, at, low=0)
            else:
                check_same(found[i][option], value, at)


def _check_steps(found: Any, name: str) -> None:
    """How often an optimizer of PyTorch has moved a parameter: a floating point tensor ()."""
    wide = (torch.float32, torch.float64)
    if not _is_plain(found) or found.dtype not in wide or found.shape != ():
        raise ValueError(f"expected {name} to be a tensor torch.float32 (), found {shown(found)}")
    steps = float(found)
    if not steps.is_integer() or steps < 1:
        raise ValueError(f"expected {name} to count steps, 1 or more, found {steps:g}")


def place(name: str, key: Any) -> str:
    """The name of an entry.

    >>> place("optimizer", "state"), place("state", 0)
    ('optimizer.state', 'state[0]')
    """
    return f"{name}.{key}" if isinstance(key, str) else f"{name}[{key!r}]"


def shown(value: Any) -> str:
    """A value in the few words that a message has room for.

    >>> shown(None), shown(torch.zeros(2)), shown("x" * 99)
    ('None', 'a tensor torch.float32 (2,)', 'a str')
    """
    if isinstance(value, Tensor):
        return f"a tensor {value.dtype} {tuple(value.shape)}"
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, list | tuple | dict):
        return f"a {type(value).__name__} of {len(value)} entries" if len(value) != 1 else repr(value)[:40]
    plain = isinstance(value, str) and len(value) <= 40
    return repr(value) if plain or (isinstance(value, int) and abs(value) < 10**20) else _a(value)


def _a(value: Any) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
