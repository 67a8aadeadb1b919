# SPDX-License-Identifier: MIT
"""The retraining loop: train a derived network from scratch on all training data, and test it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.config import RetrainConfig
from nasp_ext.engine.accept import check_body, check_head, check_history, naming
from nasp_ext.engine.architectures import draw, is_stored, plain, warn_if_constant
from nasp_ext.engine.arguments import check_arguments, check_batches, check_part, placed
from nasp_ext.engine.collectives import LOCAL, Collective
from nasp_ext.engine.evaluation import evaluate
from nasp_ext.engine.folder import GENOTYPE, run_folder
from nasp_ext.engine.history import check_retrain_line
from nasp_ext.engine.measures import (
    Means,
    OnTest,
    Totals,
    check_metrics,
    fields,
    headline,
    joined,
    words,
)
from nasp_ext.engine.progress import Progress
from nasp_ext.engine.stream import Stream, check_state
from nasp_ext.engine.training import (
    WeightStep,
    fixed_randomness,
    random_state,
    rate_of,
    set_random_state,
)
from nasp_ext.tasks.base import LOSS, DataPart, Metric, Task

_STREAM = "stream"  # of a checkpoint, where a task carries a state from batch to batch


@dataclass(frozen=True)
class RetrainResult(OnTest):
    """The trained network and what it reached on the test part after the last epoch.

    ``result.test`` holds the means by name; each is ``result.test_<name>`` too, as in the history.
    """

    test: Means
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
    """Train the network of ``genotype`` and test it after every epoch; the last epoch counts, not the best.

    Args:
        genotype: that the task makes a network of.
        task: networks, data, loss and metrics.
        config: sizes, epochs, learning rates, regularisation, seed, device.
        out: folder for config.json, history.jsonl, checkpoint.pt, genotype.json and the cell drawings;
            None writes nothing.
        resume, overwrite, progress: as for ``search``.
    Raises:
        ValueError: a folder, checkpoint, batch size or configuration that cannot be used; before any work.
        FloatingPointError: the loss is no number any more.
    Warns:
        UserWarning: the output of the network is the same for every input: too many rows have no edge.
    """
    if resume and out is None:
        raise ValueError("expected out, the folder to resume from, got None")
    check_arguments(genotype=(genotype, AnyGenotype), task=(task, Task))
    check_arguments(config=(config, RetrainConfig), out=(out, Path | str | None))
    check_metrics(task.metrics)
    warn_if_constant(genotype, config.cells)
    device = config.torch_device()
    train = task.training_batches(config, device)
    test = task.test_batches(config, device)
    check_part(train, "train part")
    check_part(test, "test part")
    with ExitStack() as stack:
        stack.enter_context(fixed_randomness(config, device))
        run = _Retraining(genotype, task, config, device)
        folder = None
        if out is not None:
            chosen = run_folder(Path(out), "retrain", config, resume=resume, overwrite=overwrite)
            folder = stack.enter_context(chosen)
            if folder.checkpoint is not None:
                run.load_state_dict(folder.checkpoint, folder.file)
            folder.begin(run.history)
            folder.write(GENOTYPE, genotype.to_json() + "\n")
            drawn = draw(genotype, folder.path)
        steps = len(train)
        with Progress(
            "retrain", task.metrics, config.epochs * steps, run.epoch * steps, shown=progress
        ) as shown:
            while run.epoch < config.epochs:
                line = run.run_epoch(train, test, shown)
                if folder is not None:
                    folder.end_epoch(run.state_dict(), line)
                shown.line(_summary(line, config.epochs, task.metrics))
        files = () if folder is None else tuple(dict.fromkeys((*folder.files(), *drawn)))
    last = run.history[-1]
    return RetrainResult(
        test={metric.name: last[f"test_{metric.name}"] for metric in (LOSS, *task.metrics)},
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
            words("test", "test", headline(metrics), line),
            f"{line['seconds']:.1f} s",
        ]
    )


class _Retraining:
    """The state of a retraining between two epochs, and how one epoch changes it."""

    def __init__(
        self,
        genotype: AnyGenotype,
        task: Task,
        config: RetrainConfig,
        device: torch.device,
        collective: Collective = LOCAL,
    ) -> None:
        self._genotype, self._task, self._config = genotype, task, config
        self._device, self._collective = device, collective
        self.network = placed(task.derived(genotype, config), device)
        with torch.no_grad():
            collective.broadcast_([*self.network.parameters(), *self.network.buffers()])
        self._weights = WeightStep(self.network.parameters(), config, collective)
        self._stream = Stream(task, self.network)
        self.history: list[dict[str, Any]] = []

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    def run_epoch(self, train: DataPart, test: DataPart, shown: Progress) -> dict[str, Any]:
        start = time.perf_counter()
        number, config, metrics = self.epoch, self._config, self._task.metrics
        lr = self._weights.start_epoch(number)
        self._task.start_epoch(self.network, config, number)
        totals = Totals(metrics, self._collective)
        self.network.train()
        done = 0
        for batch in train.epoch(config.seed, number):
            done += 1
            outcome = self._stream.run(batch)
            totals.add(outcome)
            loss = outcome.loss
            if outcome.auxiliary is not None:
                loss = loss + config.auxiliary * outcome.auxiliary
            self._weights(loss, rate_of(self._task, batch, self._device, self._collective))
            self._stream.advance()
            shown.advance(totals)
        check_batches(done, train, "train part")
        means = totals.means()
        tested = evaluate(self.network, self._task, test, collective=self._collective)
        line = {
            "epoch": number + 1,
            "lr": lr,
            **fields("train", metrics, means),
            **fields("test", metrics, tested),
            "seconds": round(time.perf_counter() - start, 3),
        }
        self.history.append(line)
        return line

    def state_dict(self) -> dict[str, Any]:
        carried = self._stream.state_after()
        check_state(carried, _STREAM)
        return {
            "genotype": plain(self._genotype),
            "config": self._config.flat(),
            "history": self.history,
            "network": self.network.state_dict(),
            "weights": self._weights.optimizer.state_dict(),
            "random": random_state(self._device),
            **({} if carried is None else {_STREAM: carried}),
        }

    def load_state_dict(self, state: dict[str, Any], where: Path) -> None:
        """Go on from a checkpoint, all of which is looked at before any of it is taken.

        Raises:  ValueError: it is none that this run could have written; names ``where`` and the entry.
        """
        with naming(where):
            own = self.state_dict()
            check_head(state, own, self._config, optional=(_STREAM,))
            if not is_stored(state["genotype"], self._genotype, "genotype"):
                raise ValueError(
                    "expected the checkpoint of this genotype, found one of another: "
                    "give the genotype that was trained there, or choose another folder"
                )
            line = partial(check_retrain_line, metrics=self._task.metrics)
            check_history(state["history"], self._config, line)
            check_state(state.get(_STREAM), _STREAM)
            check_body(state, own, self._weights.optimizer, self.network)
        self.history = list(state["history"])
        self.network.load_state_dict(state["network"])
        self._weights.optimizer.load_state_dict(state["weights"])
        set_random_state(state["random"], self._device)
        self._stream.restore(state.get(_STREAM), self._device)
