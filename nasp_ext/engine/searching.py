# SPDX-License-Identifier: MIT
"""The search loop: steer the architecture on one half of the data, train weights on the other."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasp_ext.arch.gates import Gates
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace, check_made_for
from nasp_ext.config import SearchConfig
from nasp_ext.engine.arguments import check_arguments
from nasp_ext.engine.attention import attention_svg
from nasp_ext.engine.folder import ATTENTION, GENOTYPE, run_folder
from nasp_ext.engine.progress import Progress
from nasp_ext.engine.search_state import SearchState
from nasp_ext.engine.training import fixed_randomness
from nasp_ext.families.cells.network import Network
from nasp_ext.families.derivation import genotype_of
from nasp_ext.families.genotypes import write_drawings
from nasp_ext.strategies import Strategy
from nasp_ext.tasks.images.task import ClassificationTask


@dataclass(frozen=True)
class SearchResult:
    """What a search found, and the trained supernet."""

    genotype: AnyGenotype
    gates: Gates
    history: tuple[dict[str, Any], ...]
    network: Network
    files: tuple[Path, ...]


def search(
    space: SearchSpace,
    strategy: Strategy,
    task: ClassificationTask,
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
        task: data and loss.
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
    check_arguments(
        space=(space, SearchSpace), strategy=(strategy, Strategy), task=(task, ClassificationTask)
    )
    check_arguments(config=(config, SearchConfig), out=(out, Path | str | None))
    check_made_for(strategy.space, space)
    device = config.torch_device()
    batches = task.search_batches(config, device)
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
        with Progress("search", config.epochs * steps, run.epoch * steps, shown=progress) as shown:
            while run.epoch < config.epochs:
                line = run.run_epoch(batches, shown)
                if folder is not None:
                    folder.end_epoch(run.state_dict(), line)
                shown.line(_summary(line, config.epochs))
        gates = strategy.best()
        genotype = genotype_of(space, gates)
        files: list[Path] = []
        if folder is not None:
            folder.write(GENOTYPE, genotype.to_json() + "\n")
            write_drawings(genotype, folder.path)
            if space.attention:
                last = run.history[-1]
                folder.write(ATTENTION, attention_svg(space, last["scores"], last["active"]))
            files = folder.files()
    return SearchResult(genotype, gates, tuple(run.history), run.network, tuple(files))


def _summary(line: dict[str, Any], epochs: int) -> str:
    mixture = line["mixture_accuracy"]
    mixed = "" if mixture is None else f" (mixture {mixture:.1%})"
    return (
        f"epoch {line['epoch']}/{epochs}  loss {line['train_loss']:.3f}  train {line['train_accuracy']:.1%}  "
        f"validation {line['val_accuracy']:.1%}{mixed}  entropy {line['entropy']:.3f}  "
        f"skips {line['skip_connections']}  {line['seconds']:.1f} s"
    )
