# SPDX-License-Identifier: MIT
"""The registered strategies, and a loss with a known best choice in every row that each of them can solve."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from nasp_ext import strategies
from nasp_ext.arch.gates import Gates
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.layered.space import LayeredSpace
from nasp_ext.strategies.base import AttentionStrategy, Strategy, looks, option_types

NAMES = strategies.names()
STEERED = [name for name in NAMES if not looks(name)]
SMALL = CellSpace(
    "small", ("none", "skip_connect", "conv_1x1", "max_pool_3x3"), ("skip_connect", "conv_1x1"), nodes=1
)
BEST = (3, 2, 1, 0)


@dataclass(frozen=True)
class Toy:
    """How a strategy is made quick on the toy problem: options, and steps until it must be there."""

    options: dict[str, Any] = field(default_factory=dict)
    steps: int = 100


TOYS = {
    "asng": Toy({"lam": 4}, steps=400),
    "darts": Toy({"lr": 0.1}),
    "darts-2nd": Toy({"lr": 0.1}),
    "gdas": Toy({"lr": 0.1, "tau": 1.0}, steps=200),
    "nasp": Toy({"lr": 0.1}),
    "pa": Toy({"lr": 0.1}),
    "pa-lazy": Toy({"lr": 0.1}),
    "pc-darts": Toy({"lr": 0.1}),
    "random": Toy({"batches": 1}, steps=300),  # of 36 architectures
}


def space_for(name: str, found: SearchSpace) -> SearchSpace:
    """The space itself, or for a strategy that looks at attention one of three such cells."""
    return LayeredSpace.of(found, 3, attention=True) if looks(name) else found


def build(name: str, found: SearchSpace, seed: int, **options: Any) -> Strategy:
    """The strategy in ``space_for`` it; the seed goes to those that draw."""
    seeded = {"seed": seed} if "seed" in option_types(name) else {}
    return strategies.strategy(name, space_for(name, found), **seeded, **options)


def advance(search: Strategy, loss_fn, number: int) -> Tensor:
    """One iteration: a step, or for a strategy that looks at attention a selection; other ones by number."""
    if isinstance(search, AttentionStrategy):
        generator = torch.Generator().manual_seed(number)
        liked = torch.rand(search.scores().shape, generator=generator)
        search.select(lambda gates: liked)
    return search.step(loss_fn)


class ToyLoss:
    """-Σ gain · gates: 1 for the best option of each row of ``SMALL``, -1/2 for the others, 0 for `none`."""

    gain = torch.full((4, 4), -0.5)
    for row, option in enumerate(BEST):
        gain[row, option] = 1.0
    gain[:2, 0] = 0.0

    def __call__(self, gates: Gates) -> Tensor:
        return -(gates.weight * self.gain.to(gates.weight)).sum()

    def unrolled_gradient(self, gates: Gates) -> tuple[Tensor, Tensor]:
        """There are no weights, so that their step changes nothing."""
        return self(gates).detach(), -self.gain.to(gates.weight)


class Unrolled:
    """Any loss, as if it depended on no weights."""

    def __init__(self, loss) -> None:
        self._loss = loss

    def __call__(self, gates: Gates) -> Tensor:
        return self._loss(gates)

    def unrolled_gradient(self, gates: Gates) -> tuple[Tensor, Tensor]:
        return strategies.gradients.gates_gradient(self._loss, gates)


def optimizer_gradient(search, loss_fn) -> Tensor:
    """The gradient that the optimizer of a strategy is given in one step."""
    seen = []
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: seen.append(optimizer.param_groups[0]["params"][0].grad.clone())
    )
    try:
        search.step(loss_fn)
    finally:
        hook.remove()
    (gradient,) = seen
    return gradient


def set_matrix(search, a: Tensor) -> None:
    """Let a strategy go on from this A."""
    search.load_state_dict({**search.state_dict(), "a": a})
