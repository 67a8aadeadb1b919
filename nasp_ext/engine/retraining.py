# SPDX-License-Identifier: MIT
"""The retraining loop: train a derived network from scratch, and test it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.config import RetrainConfig
from nasp_ext.engine.architectures import draw, warn_if_constant
from nasp_ext.engine.arguments import check_arguments, check_without
from nasp_ext.engine.folder import GENOTYPE, run_folder
from nasp_ext.engine.measures import Means, OnTest, check_metrics, headline, joined, words
from nasp_ext.engine.progress import Progress
from nasp_ext.engine.retrain_state import RetrainData, RetrainState
from nasp_ext.engine.training import fixed_randomness
from nasp_ext.tasks.base import LOSS, Metric, Task


@dataclass(frozen=True)
class RetrainResult(OnTest):
    """The trained network and what it reached on the test part.

    ``result.test`` holds the means by name; each is ``result.test_<name>`` too, as in the last line of the
    history. ``best_epoch`` is the epoch whose weights were tested and ``network`` has: of least validation
    loss, or the last one of a task without validation data.
    """

    test: Means
    best_epoch: int
    parameters: int
    history: tuple[dict[str, Any], ...]
    network: Any
    files: tuple[Path, ...]


def retrain(
    genotype: AnyGenotype,
    task: Task,
    config: RetrainConfig,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> RetrainResult:
    """Train the network of ``genotype`` and test it.

    It is tested after every epoch, and the last epoch counts, not the best; of a task with
    ``validation_batches`` once, with the weights of the epoch of least validation loss.

    Args:
        genotype: that the task makes a network of.
        task: networks, data, loss and metrics.
        config: sizes, epochs, learning rates, regularisation, seed, device.
        out: folder for config.json, history.jsonl, checkpoint.pt, genotype.json and the cell drawings;
            None writes nothing.
        resume, overwrite, progress: as for ``search``.
    Raises:
        ValueError: a folder, checkpoint, batch size or configuration that cannot be used; before any work.
        FloatingPointError: the loss is no number any more, and ``config.rollbacks`` are used up.
    Warns:
        UserWarning: the output of the network is the same for every input: too many rows have no edge.
    """
    if resume and out is None:
        raise ValueError("expected out, the folder to resume from, got None")
    check_arguments(genotype=(genotype, AnyGenotype), task=(task, Task))
    check_arguments(config=(config, RetrainConfig), out=(out, Path | str | None))
    check_metrics(task.metrics)
    check_without(task, config)
    warn_if_constant(genotype, config.cells)
    device = config.torch_device()
    data = RetrainData.of(task, config, device)
    with ExitStack() as stack:
        stack.enter_context(fixed_randomness(config, device))
        run = RetrainState(genotype, task, config, device, data)
        folder = None
        if out is not None:
            chosen = run_folder(Path(out), "retrain", config, resume=resume, overwrite=overwrite)
            folder = stack.enter_context(chosen)
            if folder.checkpoint is not None:
                run.load_state_dict(folder.checkpoint, folder.file)
            folder.begin(run.history)
            folder.write(GENOTYPE, genotype.to_json() + "\n")
            drawn = draw(genotype, folder.path)
        steps, patient = len(data.train), config.rollbacks > 0
        total, done = config.epochs * steps, run.epoch * steps
        with Progress("retrain", task.metrics, total, done, shown=progress, patient=patient) as shown:
            while run.epoch < config.epochs:
                line = run.run_epoch(shown)
                if folder is not None:
                    folder.end_epoch(run.state_dict(), line)
                shown.line(_summary(line, config.epochs, task.metrics))
        run.take_best()
        files = () if folder is None else tuple(dict.fromkeys((*folder.files(), *drawn)))
    last = run.history[-1]
    return RetrainResult(
        test={metric.name: last[f"test_{metric.name}"] for metric in (LOSS, *task.metrics)},
        best_epoch=run.best_epoch,
        parameters=sum(p.numel() for p in run.network.parameters()),
        history=tuple(run.history),
        network=run.network,
        files=files,
    )


def _summary(line: dict[str, Any], epochs: int, metrics: Sequence[Metric]) -> str:
    return joined(
        [
            f"epoch {line['epoch']}/{epochs}",
            f"loss {line['train_loss']:.3f}",
            words("train", "train", metrics, line),
            words("validation", "val", headline(metrics), line),
            "averaged" if line.get("averaged") else "",
            f"best epoch {line['best_epoch']}" if "best_epoch" in line else "",
            words("test", "test", headline(metrics), line),
            f"{line['seconds']:.1f} s",
        ]
    )
