# SPDX-License-Identifier: MIT
"""From the settings of a search to its space, task and strategy."""

from __future__ import annotations

from typing import Any

import torch

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.registry import space
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.engine.genotype import read_genotype
from nasp_ext.engine.settings import RetrainRun, SearchRun
from nasp_ext.nn.partial import part_of
from nasp_ext.strategies import Strategy, StrategyContext, strategy
from nasp_ext.strategies.base import context_options, looks, partial_channels
from nasp_ext.tasks import Task, task_kind


def build_task(run: SearchRun | RetrainRun) -> Task:
    """The task of a run, with its data.

    Raises:
        ValueError, FileNotFoundError: there are no such data; says what was looked for.
        ValueError: the task and its settings do not agree which settings mean nothing to it.
    """
    found = task_kind(run.task.name).make(run.task.options)
    if {*getattr(found, "without", ())} != {*run.task.without}:
        raise ValueError(
            f"expected {type(run.task.options).__name__}.without to be that of {type(found).__name__}, "
            f"{found.without}, got {run.task.without}"
        )
    return found


def build_genotype(run: RetrainRun) -> AnyGenotype:
    """What a retraining trains: what the settings of its task say, or what is read.

    Raises:  ValueError: there is none; says what was looked for.
    """
    own = run.task.genotype(run.seed)
    return read_genotype(str(run.genotype)) if own is None else own


def search_space(run: SearchRun) -> SearchSpace:
    """The space that the settings ask for: for strategies that look, one of layers with attention.

    Its nodes keep all their edges, as Alg. 1 of ASM-NAS does. With the partial channels of the settings, or
    those that the strategy is made for.

    Raises:  ValueError: an unknown space, or what does not go together.
    """
    found, asked = space(run.space.name), run.space.partial_channels
    divisor = partial_channels(run.strategy.name) if asked is None else asked
    if divisor > 1:
        found = found.with_partial_channels(divisor)
        part_of(run.channels, divisor)  # told before the data are read
    if not looks(run.strategy.name):
        if run.space.reductions:
            raise ValueError(
                "expected reductions only with a strategy that gives each layer a cell of its own (asm), got "
                f"strategy {run.strategy.name!r}"
            )
        return found
    places: Any = run.space.reductions or None  # checked by the space
    return found.with_edges_per_node(None).in_layers(run.cells, attention=True, reductions=places)


def build_strategy(run: SearchRun, found: SearchSpace, task: Task) -> Strategy:
    """The strategy that the settings ask for, with what follows from the rest of the run.

    Raises:  ValueError: a value that an option cannot have.
    """
    name, options = run.strategy.name, run.strategy.options
    takes = context_options(name)
    steps, costs = None, None
    if "steps" in takes:
        batches = len(task.search_batches(run, torch.device("cpu")).steer)
        steps = batches * (run.epochs - run.warmup_epochs)
    if options.get("eta") and "costs" in takes:
        with torch.device("meta"):  # counting parameters needs no memory
            network = task.supernet(found, run)
        counted: Any = getattr(network, "option_costs", None)
        if counted is None:
            raise ValueError(
                f"expected networks that count the costs of their options (option_costs) for eta="
                f"{options['eta']:g}, got {type(network).__name__}"
            )
        costs = counted()
    context = StrategyContext(seed=run.seed, device=run.torch_device(), costs=costs, steps=steps)
    return strategy(name, found, context=context, **options)
