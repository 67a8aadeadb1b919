# SPDX-License-Identifier: MIT
"""A saved state of a natural gradient against the optimizer that is to go on from it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import Tensor

from nasp_ext.optim.distribution import Distribution
from nasp_ext.states import check_generator, check_keys, check_like, check_tensor, place, shown


def check_natural(
    found: Any,
    own: dict[str, Any],
    families: Sequence[Distribution],
    lam: int,
    signed: Collection[str],
    name: str,
) -> None:
    """Raise ValueError if ``found`` is no state that the optimizer with the state ``own`` could come to.

    Args:
        families: what the distribution is made of, each of which knows the range of its parameters.
        lam: samples per step.
        signed: tensors that hold numbers of either sign; others are counts, sizes and steps.
        name: of the state, for messages.
    """
    check_keys(found, own, name)
    if found["kind"] != own["kind"]:
        raise ValueError(f"expected the state of {own['kind']}, found one of {shown(found['kind'])}")
    tensors, at = found["tensors"], place(name, "tensors")
    _check_shapes(tensors, own["tensors"], at)
    check_like(tensors, own["tensors"], at)
    of_families = {key for family in families for key in family.state}
    for key, value in own["tensors"].items():
        if key not in of_families and key not in signed:
            check_tensor(tensors[key], value, place(at, key), low=0)
    for key in ("delta0", "Delta"):
        if key in own["tensors"] and not bool((tensors[key] > 0).all()):
            raise ValueError(f"expected {place(at, key)} to be > 0, found 0")
    if bool((tensors["skipped"] > tensors["tells"]).any()):
        raise ValueError(f"expected {place(at, 'skipped')} to count some of the tells, found more")
    for family in families:
        family.check_state({key: tensors[key] for key in family.state}, at)
    _check_asked(found["asked"], families, lam, place(name, "asked"))
    check_generator(found["generator"], place(name, "generator"))


def _check_shapes(found: Any, own: dict[str, Tensor], name: str) -> None:
    """Say of what it is if the variables are others."""
    if not isinstance(found, dict):
        raise ValueError(f"expected {name} to be a dict, found {shown(found)}")
    for key in dict.fromkeys([*own, *found]):
        mine, other = own.get(key), found.get(key)
        shapes = [tuple(t.shape) if isinstance(t, Tensor) else "nothing" for t in (mine, other)]
        if (isinstance(other, Tensor) or key not in found or key not in own) and shapes[0] != shapes[1]:
            raise ValueError(
                f"expected a state with {key} of shape {shapes[0]}, found {shapes[1]}: other variables"
            )


def _check_asked(found: Any, families: Sequence[Distribution], lam: int, name: str) -> None:
    if found is None:
        return
    if not isinstance(found, list) or len(found) != len(families):
        raise ValueError(
            f"expected {name} to be None or {len(families)} tensors of draws, found {shown(found)}"
        )
    for i, (raw, family) in enumerate(zip(found, families, strict=True)):
        family.check_draws(raw, lam, place(name, i))
