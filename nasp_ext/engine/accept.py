# SPDX-License-Identifier: MIT
"""Whether a checkpoint is one that this run could have written: asked before anything of it is taken."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.optimizer import Optimizer

from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.config import TrainingConfig
from nasp_ext.engine.training import cosine
from nasp_ext.states import (
    check_generator,
    check_keys,
    check_number,
    check_optimizer,
    check_same,
    check_tensor,
    place,
    shown,
)
from nasp_ext.strategies import Strategy

_FILE = ("format", "kind")  # what every checkpoint has beside the state
_NOT_NEGATIVE = ("running_var", "num_batches_tracked")
# Parts that every architecture trains, so that the optimizer of the weights knows them after one step.
_ALWAYS_TRAINED = ("stem.", "classifier.")


@contextmanager
def naming(where: Path) -> Iterator[None]:
    """Put the file in front of the message of a ValueError inside."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def check_head(
    state: Any, own: Mapping[str, Any], config: TrainingConfig, optional: Sequence[str] = ()
) -> None:
    """Raise ValueError unless a checkpoint has the parts of this run, and its configuration.

    Args:    own: the state of the run as it starts; optional: further parts that a run may have later.
    """
    check_keys(state, own, "the checkpoint", optional=(*_FILE, *optional))
    check_config(state["config"], config)


def space_fields(space: SearchSpace) -> dict[str, Any]:
    """What a checkpoint holds of a space; as before where it has no partial channels or own reductions."""
    later = (("partial_channels", 1), ("reductions", None))
    return dataclasses.asdict(
        space, dict_factory=lambda pairs: dict(pair for pair in pairs if pair not in later)
    )


def check_kind(state: Mapping[str, Any], space: SearchSpace, strategy: Strategy) -> None:
    """Raise ValueError unless a checkpoint is that of a search in this space with such a strategy."""
    found, expected = state["space"], space_fields(space)
    name = found.get("name") if isinstance(found, dict) else found
    if name != expected["name"]:
        raise ValueError(
            f"expected the checkpoint of a search in space {expected['name']!r}, found space {name!r}"
        )
    check_same(found, expected, "space")
    kind = type(strategy).__name__
    if state["strategy_kind"] != kind:
        raise ValueError(f"expected a checkpoint of {kind}, found one of {state['strategy_kind']}")


def check_body(state: Any, own: Mapping[str, Any], weights: Optimizer, network: nn.Module) -> None:
    """Raise ValueError unless weights, their optimizer and the random state could be those of this run.

    The history has been looked at before.

    Args:    weights: the optimizer of the weights of ``network``.
    """
    check_network(state["network"], own["network"], "network")
    check_weights(state["weights"], weights, network, state["history"][-1]["lr"], "weights")
    # A run may go on without the GPU, or with one, if its device is "auto".
    check_keys(state["random"], ["cpu"], "random", optional=["cuda"])
    check_generator(state["random"]["cpu"], "random.cpu")
    if "cuda" in state["random"] and "cuda" in own["random"]:
        check_tensor(state["random"]["cuda"], own["random"]["cuda"], "random.cuda")


def check_network(found: Any, own: Mapping[str, Any], name: str) -> None:
    """Raise ValueError unless these could be the parameters and buffers of a network that has ``own``."""
    check_keys(found, own, name)
    for key, value in own.items():
        low = 0.0 if key.endswith(_NOT_NEGATIVE) else None
        check_tensor(found[key], value, place(name, key), low)


def check_weights(found: Any, weights: Optimizer, network: nn.Module, rate: float, name: str) -> None:
    """Raise ValueError unless this could be the state of the optimizer of the weights of ``network``.

    Args:    rate: the learning rate that it has.
    """
    momentum = weights.defaults["momentum"] > 0
    slots: dict[str, float | None] = {"momentum_buffer": None} if momentum else {}
    names = [one for one, _ in network.named_parameters()]
    needed = [i for i, one in enumerate(names) if momentum and one.startswith(_ALWAYS_TRAINED)]
    check_optimizer(found, weights, name, slots, needed)
    if momentum and not found["state"]:
        raise ValueError(f"expected {name}.state of the parameters that were trained, found that of none")
    for i, group in enumerate(found["param_groups"]):
        check_rate(group["lr"], rate, f"{name}.param_groups[{i}].lr")


def check_config(found: Any, config: TrainingConfig) -> None:
    """Raise ValueError unless the configuration of a checkpoint is that of this run."""
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"expected config to be a dict of options, found {shown(found)}")
    differences = config.differences(found)
    if differences:
        raise ValueError(
            f"expected the configuration of this run, found another ({differences}): "
            "resume with the same options, or choose another folder"
        )


def check_history(found: Any, config: TrainingConfig, check_line: Callable[[Any, str], None]) -> None:
    """Raise ValueError unless this is the history of the first epochs, one or more.

    Args:    check_line: looks at what else a line has.
    """
    if not isinstance(found, list) or not 1 <= len(found) <= config.epochs:
        raise ValueError(
            f"expected history to be a list of 1 to {config.epochs} epochs, found {shown(found)}"
        )
    for number, line in enumerate(found):
        name = place("history", number)
        check_line(line, name)
        check_number(line["epoch"], place(name, "epoch"), number + 1, number + 1, whole=True)
        check_rate(line["lr"], cosine(number, config.epochs, config.lr, config.lr_min), place(name, "lr"))


def check_rate(found: Any, rate: float, name: str) -> None:
    """Raise ValueError unless a learning rate is the one of its epoch, but for the last bits of a cosine."""
    check_number(found, name, 0)
    if not math.isclose(found, rate, rel_tol=1e-9, abs_tol=1e-12):
        raise ValueError(f"expected {name} to be {rate:g}, found {found:g}")


def steering_steps(history: Sequence[Mapping[str, Any]], warmup_epochs: int) -> int:
    """How often a strategy has learned in the epochs of a history."""
    resting = min(warmup_epochs, len(history))
    before: int = history[resting - 1]["iterations"] if resting else 0
    steps: int = history[-1]["iterations"] - before
    return steps


def load_strategy(strategy: Strategy, state: dict[str, Any]) -> None:
    """Give a strategy its state, whatever it raises a ValueError."""
    try:
        strategy.load_state_dict(state)
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{type(strategy).__name__} cannot load its state: {error!r}") from error
