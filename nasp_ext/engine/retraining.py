# SPDX-License-Identifier: MIT
"""The retraining loop: train a derived network from scratch on all training images, report test accuracy."""

from __future__ import annotations

import dataclasses
import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.config import RetrainConfig
from nasp_ext.engine.accept import check_body, check_head, check_history, naming
from nasp_ext.engine.arguments import check_arguments
from nasp_ext.engine.evaluation import evaluate
from nasp_ext.engine.folder import GENOTYPE, run_folder
from nasp_ext.engine.history import check_retrain_line, read_stored
from nasp_ext.engine.progress import Progress
from nasp_ext.engine.training import Totals, WeightStep, fixed_randomness, random_state, set_random_state
from nasp_ext.families.cells.network import Network
from nasp_ext.families.genotypes import write_drawings
from nasp_ext.tasks.images.batches import Batches
from nasp_ext.tasks.images.task import ClassificationTask


@dataclass(frozen=True)
class RetrainResult:
    """The trained network and what it reached after the last epoch."""

    test_accuracy: float
    parameters: int
    history: tuple[dict[str, Any], ...]
    network: Network
    files: tuple[Path, ...]


def retrain(
    genotype: AnyGenotype,
    task: ClassificationTask,
    config: RetrainConfig,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> RetrainResult:
    """Train the network of ``genotype`` and test it after every epoch; the last epoch counts, not the best.

    Args:
        genotype: the cells.
        task: data and loss.
        config: sizes, epochs, learning rates, regularisation, seed, device.
        out: folder for config.json, history.jsonl, checkpoint.pt, genotype.json and the cell drawings;
            None writes nothing.
        resume, overwrite, progress: as for ``search``.
    Raises:
        ValueError: a folder, checkpoint, batch size or configuration that cannot be used; before any work.
        FloatingPointError: the loss is no number any more.
    """
    if resume and out is None:
        raise ValueError("expected out, the folder to resume from, got None")
    check_arguments(genotype=(genotype, AnyGenotype), task=(task, ClassificationTask))
    check_arguments(config=(config, RetrainConfig), out=(out, Path | str | None))
    device = config.torch_device()
    train = task.training_batches(config, device)
    test = task.test_batches(config, device)
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
            write_drawings(genotype, folder.path)
        with Progress("retrain", config.epochs * len(train), run.epoch * len(train), shown=progress) as shown:
            while run.epoch < config.epochs:
                line = run.run_epoch(train, test, shown)
                if folder is not None:
                    folder.end_epoch(run.state_dict(), line)
                shown.line(_summary(line, config.epochs))
        files = () if folder is None else tuple(folder.files())
    return RetrainResult(
        test_accuracy=run.history[-1]["test_accuracy"],
        parameters=sum(p.numel() for p in run.network.parameters()),
        history=tuple(run.history),
        network=run.network,
        files=files,
    )


def _summary(line: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {line['epoch']}/{epochs}  loss {line['train_loss']:.3f}  train {line['train_accuracy']:.1%}  "
        f"test {line['test_accuracy']:.1%}  {line['seconds']:.1f} s"
    )


class _Retraining:
    """The state of a retraining between two epochs, and how one epoch changes it."""

    def __init__(
        self, genotype: AnyGenotype, task: ClassificationTask, config: RetrainConfig, device: torch.device
    ) -> None:
        self._genotype, self._task, self._config, self._device = genotype, task, config, device
        self.network = task.derived(genotype, config).to(device)
        self._weights = WeightStep(self.network.weight_parameters(), config)
        self.history: list[dict[str, Any]] = []

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    def run_epoch(self, train: Batches, test: Batches, shown: Progress) -> dict[str, Any]:
        start = time.perf_counter()
        number, config = self.epoch, self._config
        lr = self._weights.start_epoch(number)
        self.network.drop_path_prob = config.drop_path * number / max(config.epochs - 1, 1)
        totals = Totals(self._device)
        self.network.train()
        for x, y in train.epoch(config.seed, number):
            self._weights(self._loss(x, y, totals))
            shown.advance(totals)
        train_loss, train_accuracy = totals.means()
        test_loss, test_accuracy = evaluate(self.network, self.network, self._task, test)
        line = {
            "epoch": number + 1,
            "lr": lr,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "seconds": round(time.perf_counter() - start, 3),
        }
        self.history.append(line)
        return line

    def _loss(self, x: Tensor, y: Tensor, totals: Totals) -> Tensor:
        output = self.network(x)
        logits, auxiliary = output if isinstance(output, tuple) else (output, None)
        loss = self._task.loss(logits, y)
        totals.add(loss, self._task.correct(logits.detach(), y), len(y))
        if auxiliary is None:
            return loss
        return loss + self._config.auxiliary * self._task.loss(auxiliary, y)

    def state_dict(self) -> dict[str, Any]:
        return {
            "genotype": json.loads(self._genotype.to_json()),
            "config": dataclasses.asdict(self._config),
            "history": self.history,
            "network": self.network.state_dict(),
            "weights": self._weights.optimizer.state_dict(),
            "random": random_state(self._device),
        }

    def load_state_dict(self, state: dict[str, Any], where: Path) -> None:
        """Go on from a checkpoint, all of which is looked at before any of it is taken.

        Raises:  ValueError: it is none that this run could have written; names ``where`` and the entry.
        """
        with naming(where):
            own = self.state_dict()
            check_head(state, own, self._config)
            if read_stored(state["genotype"], "genotype") != self._genotype:
                raise ValueError(
                    "expected the checkpoint of this genotype, found one of another: "
                    "give the genotype that was trained there, or choose another folder"
                )
            check_history(state["history"], self._config, check_retrain_line)
            check_body(state, own, self._weights.optimizer, self.network)
        self.history = list(state["history"])
        self.network.load_state_dict(state["network"])
        self._weights.optimizer.load_state_dict(state["weights"])
        set_random_state(state["random"], self._device)
