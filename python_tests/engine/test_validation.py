# SPDX-License-Identifier: MIT
"""A retraining with a validation part: best weights, averaged SGD, rollbacks, and what goes on when cut."""

import dataclasses
import json
import math

import pytest
import torch
from engine_helpers import assert_same_run, history_file, timeless
from reading_task import LENGTHS, RETRAIN, Characters, Reader

from nasp_ext import Run, retrain
from nasp_ext.config import RetrainConfig
from nasp_ext.engine import evaluate
from nasp_ext.engine.checkpoint import load_checkpoint

STEPS = len(LENGTHS)
CPU = torch.device("cpu")
# Too large a rate: the validation loss goes up and down, the third epoch is best, and averaging starts in the
# sixth. With another seed it starts in the fourth, and epochs that average are the best.
ROUGH = dataclasses.replace(RETRAIN, lr=8.0, lr_min=8.0, seed=4)
AVERAGED = dataclasses.replace(ROUGH, epochs=9, average_after=2)
BETTER = dataclasses.replace(AVERAGED, seed=2)


def run(config=RETRAIN, task=None, **options):
    return retrain(Reader(), Characters() if task is None else task, config, **options)


class Cut(Characters):
    """Cut at its n-th batch."""

    def __init__(self, at, **options):
        super().__init__(**options)
        self.left = at

    def run(self, network, batch, gates=None, state=None):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return super().run(network, batch, gates, state)


class Counted(Characters):
    """Counts the batches of the test part, which has one column."""

    tests = 0

    def run(self, network, batch, gates=None, state=None):
        self.tests += batch[0].shape[1] == 1
        return super().run(network, batch, gates, state)


def test_the_best_weights_are_tested_once_after_the_last_epoch():
    task = Counted()
    result = run(ROUGH, task)
    losses = [line["val_loss"] for line in result.history]
    assert result.best_epoch == 1 + losses.index(min(losses)) < ROUGH.epochs
    assert task.tests == STEPS
    assert ["test_loss" in line for line in result.history] == [False] * (ROUGH.epochs - 1) + [True]
    assert result.history[-1]["best_epoch"] == result.best_epoch
    again = evaluate(result.network, task, task.validation_batches(ROUGH, CPU))
    assert again["loss"] == min(losses)
    assert evaluate(result.network, task, task.test_batches(ROUGH, CPU)) == result.test
    assert result.test_perplexity == result.history[-1]["test_perplexity"]


def test_the_perplexity_is_that_of_the_mean_over_all_characters():
    for line in run().history:
        for part in ("train", "val"):
            assert line[f"{part}_perplexity"] == pytest.approx(math.exp(line[f"{part}_loss"]), rel=1e-6)


def test_without_a_validation_part_every_epoch_is_tested_and_the_last_one_counts():
    task = Counted(validated=False)
    result = run(ROUGH, task)
    assert task.tests == STEPS * ROUGH.epochs
    assert all("test_loss" in line and "val_loss" not in line for line in result.history)
    assert result.best_epoch == ROUGH.epochs
    assert result.test_loss == result.history[-1]["test_loss"]


@pytest.mark.parametrize("name", ["average_after", "rollbacks"])
def test_what_needs_a_validation_part_is_refused_without_one(name, tmp_path):
    config = dataclasses.replace(RETRAIN, **{name: 2})
    with pytest.raises(
        ValueError, match=rf"expected {name} to be 0 for Characters, which has no valid.*got 2"
    ):
        run(config, Characters(validated=False), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=rf"expected {name} to be >= 0, got -1"):
        RetrainConfig(**{name: -1})


def test_a_network_with_running_statistics_is_not_averaged():
    with pytest.raises(
        ValueError, match=r"average_after=0 for a network with running statistics.*such as norm"
    ):
        run(AVERAGED, Characters(norm=True))
    assert run(task=Characters(norm=True)).history  # but may be validated


def test_a_finished_run_keeps_its_test_and_does_not_test_again(tmp_path):
    whole = run(ROUGH, out=tmp_path)
    task = Counted()
    again = run(ROUGH, task, out=tmp_path, resume=True)
    assert task.tests == 0
    assert again.test == whole.test
    assert again.best_epoch == whole.best_epoch
    assert_same_run(tmp_path, whole, again)
    last = Run.open(tmp_path).history[-1]
    assert (last["test_perplexity"], last["best_epoch"]) == (whole.test_perplexity, whole.best_epoch)
    stored = load_checkpoint(tmp_path / "checkpoint.pt", "retrain")
    trained = stored["network"]["decoder.weight"]  # of the last epoch, beside the best one
    assert torch.equal(stored["best"]["network"]["decoder.weight"], whole.network.decoder.weight)
    assert not torch.equal(trained, whole.network.decoder.weight)


# Batches of an epoch: STEPS of training, STEPS of validation.
@pytest.mark.parametrize("config, first", [(AVERAGED, 5), (BETTER, 3)])
@pytest.mark.parametrize("epoch", range(1, 9))
def test_a_cut_run_goes_on_bit_for_bit_with_sgd_and_with_averaging(tmp_path, config, first, epoch):
    whole = run(config)
    assert [line["averaged"] == 0 for line in whole.history] == [True] * first + [False] * (9 - first)
    with pytest.raises(KeyboardInterrupt):
        run(config, Cut(2 * STEPS * epoch + 3), out=tmp_path)
    assert len(history_file(tmp_path)) == epoch
    assert_same_run(tmp_path, whole, run(config, out=tmp_path, resume=True))


def test_a_run_that_is_cut_in_its_test_loses_the_last_epoch_alone(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(ROUGH, Cut(2 * STEPS * ROUGH.epochs + 2), out=tmp_path)
    assert len(history_file(tmp_path)) == ROUGH.epochs - 1
    assert_same_run(tmp_path, run(ROUGH), run(ROUGH, out=tmp_path, resume=True))


def test_averaging_begins_when_epochs_have_not_been_better_and_the_mean_is_evaluated():
    result = run(AVERAGED)
    plain = run(dataclasses.replace(AVERAGED, average_after=0))
    best, first = 2, 5  # the third epoch; two have not been better when the sixth begins
    losses = [line["val_loss"] for line in plain.history]
    assert losses[1] > losses[best] < min(losses[best + 1 : first])
    assert [line["averaged"] for line in result.history] == [0] * first + [4, 8, 12, 16]
    assert timeless(result.history[:first]) == timeless(plain.history[:first])
    # SGD goes on as it would have: what trains is the same, what is validated is not.
    for one, two in zip(result.history[first:], plain.history[first:], strict=True):
        assert one["train_loss"] == two["train_loss"]
        assert one["val_loss"] != two["val_loss"]


def test_a_loss_that_is_no_number_goes_back_to_the_best_epoch(capsys):
    task = Characters(diverges=(3,))
    result = run(dataclasses.replace(ROUGH, rollbacks=1), task, progress=True)
    plain = run(ROUGH)
    assert timeless(result.history)[:3] == [{**line, "rollbacks": 0} for line in timeless(plain.history)[:3]]
    assert [line["rollbacks"] for line in result.history] == [0, 0, 0, 1, 1, 1]
    assert all(math.isfinite(line["train_loss"]) for line in result.history)
    best = result.history[2]["best_epoch"]
    printed = capsys.readouterr().out
    assert "epoch 4: expected a finite loss, found nan: the run has diverged" in printed
    assert f": back to epoch {best} (1 of 1)" in printed


def test_too_many_losses_that_are_no_number_are_an_error(tmp_path):
    config = dataclasses.replace(ROUGH, rollbacks=1)
    with pytest.raises(FloatingPointError, match="finite loss, found nan: the run has diverged"):
        run(config, Characters(diverges=(3, 4)), out=tmp_path)
    assert len(history_file(tmp_path)) == 3
    with pytest.raises(FloatingPointError):
        run(ROUGH, Characters(diverges=(3,)))
    with pytest.raises(FloatingPointError):  # there is nothing to go back to
        run(config, Characters(diverges=(0,)))


def test_a_rollback_restores_weights_optimizer_and_phase_and_forgets_the_state():
    config = dataclasses.replace(ROUGH, rollbacks=2, momentum=0.5, epochs=4)
    seen = []

    class Watched(Characters):
        def start_epoch(self, network, config, epoch):
            seen.append((epoch, network.decoder.weight.detach().clone()))

        def run(self, network, batch, gates=None, state=None):
            if torch.is_grad_enabled():
                states.append(state)
            return super().run(network, batch, gates, state)

    states = []
    result = run(config, Watched(diverges=(2, 3)))
    assert [epoch for epoch, _ in seen] == [0, 1, 2, 2, 2, 3]
    best = result.history[1]["best_epoch"]
    assert torch.equal(seen[3][1], seen[best][1])  # weights at the end of the best epoch
    assert torch.equal(seen[4][1], seen[best][1])  # again, though the run went on from the copy in between
    assert [state is None for state in states[::STEPS]] == [True, False, False, True, True, False]
    assert result.history[2]["rollbacks"] == 2


def test_a_rollback_to_an_epoch_that_averages_restores_the_weights_behind_the_mean():
    seen = []

    class Watched(Characters):
        def start_epoch(self, network, config, epoch):
            seen.append(network.decoder.weight.detach().clone())

    result = run(dataclasses.replace(BETTER, rollbacks=1), Watched(diverges=(6,)))
    assert result.history[5]["best_epoch"] == 6
    assert torch.equal(seen[6], seen[7])  # the seventh epoch began twice, behind the sixth
    assert not torch.equal(seen[6], result.network.decoder.weight)


@pytest.mark.parametrize("diverges", [(2,), (5,), (7,), (5, 6), (3, 8)])
@pytest.mark.parametrize("config, momentum", [(AVERAGED, 0.0), (BETTER, 0.0), (AVERAGED, 0.5)])
def test_a_cut_run_goes_on_bit_for_bit_around_rollbacks(tmp_path, diverges, config, momentum):
    config = dataclasses.replace(config, rollbacks=3, momentum=momentum)
    whole = run(config, Characters(diverges=diverges))
    assert whole.history[-1]["rollbacks"] == len(diverges)
    counted = Cut(0, diverges=diverges)
    run(config, counted)
    batches = -counted.left
    for number, at in enumerate(range(2 * STEPS + 1, batches, 7)):
        folder = tmp_path / str(number)
        with pytest.raises(KeyboardInterrupt):
            run(config, Cut(at, diverges=diverges), out=folder)
        resumed = run(config, Characters(diverges=diverges), out=folder, resume=True)
        assert_same_run(folder, whole, resumed)


def test_a_rollback_goes_back_to_the_phase_of_the_best_epoch():
    for config, averaged in ((AVERAGED, [0, 4, 0, 0]), (BETTER, [8, 12, 16, 20])):
        lines = run(dataclasses.replace(config, rollbacks=1), Characters(diverges=(6,))).history[4:8]
        assert [line["rollbacks"] for line in lines] == [0, 0, 1, 1]
        assert [line["averaged"] for line in lines] == averaged


def test_a_folder_of_a_validated_run_is_plain_json(tmp_path):
    run(dataclasses.replace(AVERAGED, rollbacks=3), Characters(diverges=(5,)), out=tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())["training"]
    assert (config["average_after"], config["rollbacks"]) == (2, 3)
    line = history_file(tmp_path)[-1]
    assert all(isinstance(line[name], int) for name in ("best_epoch", "averaged", "rollbacks"))
