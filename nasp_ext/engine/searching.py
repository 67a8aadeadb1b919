# SPDX-License-Identifier: MIT
"""The search loop: steer the architecture on one half of the data, train weights on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace, check_made_for
from nasp_ext.config import SearchConfig
from nasp_ext.engine.architectures import counts, draw, space_drawings, write_all
from nasp_ext.engine.arguments import check_arguments, check_part, check_search_data, check_without
from nasp_ext.engine.folder import GENOTYPE, run_folder
from nasp_ext.engine.measures import check_metrics, headline, joined, words
from nasp_ext.engine.progress import Progress
from nasp_ext.engine.search_state import SearchState
from nasp_ext.engine.training import fixed_randomness
from nasp_ext.strategies import Strategy
from nasp_ext.tasks.base import Metric, Task


@dataclass(frozen=True)
class SearchResult:
    """What a search found, and the trained supernet."""

    genotype: AnyGenotype
    gates: Gates
    history: tuple[dict[str, Any], ...]
    network: Any
    files: tuple[Path, ...]


def search(
    space: SearchSpace,
    strategy: Strategy,
    task: Task,
    config: SearchConfig,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> SearchResult:
    """Search ``space`` with ``strategy`` on ``task``.

    A run that was cut at any moment and is resumed gives the bits of an uninterrupted one (same machine, same
    number of threads); at most the current epoch is lost.

    Args:
        space: the search space of the supernet; the one that ``strategy`` was made for.
        strategy: proposes architectures and learns from their loss.
        task: networks, data, loss and metrics.
        config: sizes, epochs, learning rates, seed, device.
        out: folder for config.json, history.jsonl, checkpoint.pt, genotype.json and the cell drawings;
            None writes nothing.
        resume: go on from the checkpoint in ``out``, if there is one.
        overwrite: replace another run in ``out``.
        progress: show a progress bar and a line per epoch.
    Raises:
        ValueError: a folder, checkpoint, batch size or configuration that cannot be used; before any work.
        FloatingPointError: the loss is no number any more.
    """
    if resume and out is None:
        raise ValueError("expected out, the folder to resume from, got None")
    check_arguments(space=(space, SearchSpace), strategy=(strategy, Strategy), task=(task, Task))
    check_arguments(config=(config, SearchConfig), out=(out, Path | str | None))
    check_made_for(strategy.space, space)
    check_metrics(task.metrics)
    check_without(task, config)
    device = config.torch_device()
    batches = task.search_batches(config, device)
    check_search_data(batches)
    if config.test_every:
        check_part(task.test_batches(config, device), "test part")
    with ExitStack() as stack:
        stack.enter_context(fixed_randomness(config, device))
        run = SearchState(space, strategy, task, config, device)
        run.try_out()
        folder = None
        if out is not None:
            chosen = run_folder(Path(out), "search", config, resume=resume, overwrite=overwrite)
            folder = stack.enter_context(chosen)
            if folder.checkpoint is not None:
                run.load_state_dict(folder.checkpoint, folder.file)
            folder.begin(run.history)
        steps = len(batches.train)
        with Progress(
            "search", task.metrics, config.epochs * steps, run.epoch * steps, shown=progress
        ) as shown:
            while run.epoch < config.epochs:
                line = run.run_epoch(batches, shown)
                if folder is not None:
                    folder.end_epoch(run.state_dict(), line)
                shown.line(_summary(line, config.epochs, task.metrics, counts(run.genotype())))
        gates = strategy.best()
        genotype = space.genotype(gates)
        files: list[Path] = []
        if folder is not None:
            folder.write(GENOTYPE, genotype.to_json() + "\n")
            drawn = draw(genotype, folder.path)
            drawn += write_all(space_drawings(space, run.history[-1]), folder.path)
            files = list(dict.fromkeys((*folder.files(), *drawn)))
    return SearchResult(genotype, gates, tuple(run.history), run.network, tuple(files))


def _summary(line: dict[str, Any], epochs: int, metrics: Sequence[Metric], counted: Mapping[str, int]) -> str:
    shown = headline(metrics)
    mixture = words("mixture", "mixture", shown, line)
    return joined(
        [
            f"epoch {line['epoch']}/{epochs}",
            f"loss {line['train_loss']:.3f}",
            words("train", "train", metrics, line),
            words("validation", "val", shown, line) + (f" ({mixture})" if mixture else ""),
            words("test", "test", shown, line),
            f"entropy {line['entropy']:.3f}",
            *(f"{name.replace('_', ' ')} {number}" for name, number in counted.items()),
            f"{line['seconds']:.1f} s",
        ]
    )
