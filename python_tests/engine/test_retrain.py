# SPDX-License-Identifier: MIT
"""Retraining a genotype: it learns, resumes bit for bit, and applies each part of the recipe."""

import dataclasses
import warnings

import pytest
import torch
from engine_helpers import CutTask, assert_same_run, tiny_data

from nasp_ext.config import RetrainConfig
from nasp_ext.engine import retrain
from nasp_ext.engine.checkpoint import load_checkpoint, save_checkpoint
from nasp_ext.engine.training import cosine
from nasp_ext.families.cells.genotype import Genotype
from nasp_ext.tasks.images.task import ClassificationTask

CELL = (("skip_connect", 0), ("sep_conv_3x3", 1))
GENOTYPE = Genotype(CELL, (2,), CELL, (2,))
SIZES = {"cells": 3, "channels": 2, "epochs": 3, "batch": 8, "seed": 1, "lr": 0.1}
CONFIG = RetrainConfig(**SIZES, auxiliary=0.4, drop_path=0.3, cutout=2, device="cpu", threads=1)


def run(config=CONFIG, task=None, **options):
    return retrain(GENOTYPE, task if task is not None else ClassificationTask(tiny_data()), config, **options)


def test_it_learns_and_reports_the_last_epoch():
    result = run(dataclasses.replace(CONFIG, epochs=8, drop_path=0.0))
    assert result.test_accuracy == result.history[-1]["test_accuracy"] > 0.8
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert result.parameters == sum(p.numel() for p in result.network.parameters())


def test_a_cut_run_goes_on_bit_for_bit_with_drop_path(tmp_path):
    def interrupt():  # in the third epoch: the first one drops no path and draws no number
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(task=CutTask(tiny_data(), 31, interrupt), out=tmp_path)
    part = run(out=tmp_path, resume=True)
    assert_same_run(tmp_path, run(), part)


def test_the_auxiliary_head_takes_part_in_the_loss():
    with_head, without = run(), run(dataclasses.replace(CONFIG, auxiliary=0.0))
    assert with_head.network.auxiliary_head.classifier.weight.grad is not None
    assert not hasattr(without.network, "auxiliary_head")


def test_drop_path_grows_to_its_value():
    assert run().network.drop_path_prob == pytest.approx(0.3)


def test_cutout_changes_the_training():
    one, two = run(), run(dataclasses.replace(CONFIG, cutout=0))
    assert one.history[0]["train_loss"] != two.history[0]["train_loss"]


def test_a_checkpoint_of_a_version_without_averaging_and_rollbacks_is_resumed(tmp_path):
    whole = run(out=tmp_path)
    stored = load_checkpoint(tmp_path / "checkpoint.pt", "retrain")
    assert not {"best", "average"} & {*stored}
    for name in ("average_after", "rollbacks"):
        del stored["config"][name]
    save_checkpoint(tmp_path / "checkpoint.pt", stored)
    assert_same_run(tmp_path, whole, run(out=tmp_path, resume=True))


def test_another_genotype_is_not_resumed(tmp_path):
    run(out=tmp_path)
    other = Genotype(CELL[:1] * 2, (2,), CELL, (2,))
    with pytest.raises(ValueError, match="found one of another"):
        retrain(other, ClassificationTask(tiny_data()), CONFIG, out=tmp_path, resume=True)


def test_the_checkpoint_of_a_search_is_not_resumed(tmp_path):
    torch.save({"format": 1, "kind": "search"}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="expected the checkpoint of a retrain, found one of a search"):
        run(out=tmp_path, resume=True)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match=r"expected a batch size in \[1, 50\]"):
        run(dataclasses.replace(CONFIG, batch=51))


def test_cosine_starts_at_the_first_and_would_end_at_the_last():
    assert cosine(0, 10, 0.025, 0.001) == 0.025
    assert cosine(10, 10, 0.025, 0.001) == pytest.approx(0.001)
    assert cosine(5, 10, 0.025, 0.001) == pytest.approx(0.013)


DEAD = ((), (2,))
NONE = ((("none", 0), ("none", 1)), (2,))


@pytest.mark.parametrize(
    "cells, dead",
    [
        (Genotype(*DEAD, *DEAD, (0,), (0,)), True),
        (Genotype(*NONE, CELL, (2,)), True),
        (Genotype(CELL, (2,), *DEAD, None, (0,)), False),  # input 0 of a cell passes the reduction before it
        (Genotype(CELL[1:], (2,), *DEAD, (1,), (0,)), True),
        (Genotype.from_arch("|none~0|+|nor_conv_3x3~0|none~1|"), False),
        (Genotype.from_arch("|nor_conv_3x3~0|+|none~0|none~1|"), True),
    ],
)
def test_a_network_that_cannot_see_its_input_is_told_before_it_trains(cells, dead):
    config = dataclasses.replace(CONFIG, cells=5, epochs=1, auxiliary=0.0)
    task = ClassificationTask(tiny_data())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = retrain(cells, task, config).network.eval()
    assert [str(warning.message)[:7] for warning in caught] == ["no path"] * dead
    one, other = network(torch.randn(2, *task.data.train_images.shape[1:])).detach()
    assert torch.equal(one, other) == dead
