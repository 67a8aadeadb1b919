# SPDX-License-Identifier: MIT
"""From the folder of a search to its genotype, and to the network with the weights of the search."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace, check_made_for
from nasp_ext.config import SearchConfig
from nasp_ext.engine.architectures import draw
from nasp_ext.engine.arguments import check_arguments, check_part
from nasp_ext.engine.checkpoint import write_atomic
from nasp_ext.engine.evaluation import evaluate
from nasp_ext.engine.folder import CHECKPOINT, GENOTYPE
from nasp_ext.engine.lock import locked_folder
from nasp_ext.engine.measures import Means, OnTest
from nasp_ext.engine.run import Run
from nasp_ext.engine.search_state import SearchState
from nasp_ext.engine.statistics import reestimate_derived_
from nasp_ext.engine.training import fixed_randomness
from nasp_ext.families.derivation import derive, genotype_of
from nasp_ext.strategies import Strategy
from nasp_ext.tasks.base import Task

WEIGHTS = "derived.pt"


@dataclass(frozen=True)
class DeriveResult(OnTest):
    """The network that a search stands for, with the weights it has there.

    ``result.test`` holds the means on the test part by name; each is ``result.test_<name>`` too.
    """

    genotype: AnyGenotype
    network: Any
    parameters: int
    test: Means
    files: tuple[Path, ...]


def derive_run(
    space: SearchSpace,
    strategy: Strategy,
    task: Task,
    config: SearchConfig,
    run: Path | str,
    out: Path | str | None = None,
) -> DeriveResult:
    """Derive the network of a search, finished or not, from its checkpoint.

    Its BatchNorms have the statistics that the search evaluated it with (``SearchConfig.bn_batches``).

    Args:
        space, strategy, task, config: as the search was started with; the strategy takes the stored state.
        run: folder of the search.
        out: folder for genotype.json, derived.pt and the cell drawings; None writes nothing.
    Raises:
        ValueError: the checkpoint is missing, damaged, or of another space, strategy or configuration.
    """
    check_arguments(space=(space, SearchSpace), strategy=(strategy, Strategy), task=(task, Task))
    check_arguments(config=(config, SearchConfig), run=(run, Path | str), out=(out, Path | str | None))
    check_made_for(strategy.space, space)
    run, out = Path(run), None if out is None else Path(out)
    device = config.torch_device()
    file = run / CHECKPOINT
    with fixed_randomness(config, device):
        state = SearchState(space, strategy, task, config, device)
        state.load_state_dict(Run.open(run).checkpoint, file)
        gates = strategy.best()
        genotype = genotype_of(space, gates)
        network = derive(state.network, gates, inherit_weights=True)
        last = state.epoch - 1
        count = state.history[last].get("bn_batches", config.bn_batches)
        batches = task.search_batches(config, device).first_batches(config.seed, last, count)
        reestimate_derived_(task, network, batches)
        tested = task.test_batches(config, device)
        check_part(tested, "test part")
        test = evaluate(network, task, tested)
    files: list[Path] = []
    if out is not None:
        with locked_folder(out):
            write_atomic(out / GENOTYPE, (genotype.to_json() + "\n").encode())
            buffer = io.BytesIO()
            torch.save(network.state_dict(), buffer)
            write_atomic(out / WEIGHTS, buffer.getvalue())
            files = [out / GENOTYPE, out / WEIGHTS, *draw(genotype, out)]
    parameters = sum(p.numel() for p in network.parameters())
    return DeriveResult(genotype, network, parameters, test, tuple(files))
