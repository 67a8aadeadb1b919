# SPDX-License-Identifier: MIT
"""What the search loop offers a strategy, and what it takes from one."""

import dataclasses

import pytest
import torch
from engine_helpers import CONFIG, TINY, history_file, tiny_data

from nasp_ext import derive
from nasp_ext.arch.gates import Gates
from nasp_ext.config import SearchConfig
from nasp_ext.engine import search
from nasp_ext.strategies import RandomStrategy, SteeringLoss
from nasp_ext.tasks.images.task import ClassificationTask

ONE_STEP = dataclasses.replace(CONFIG, epochs=1, batch=25, clip=1e9, momentum=0.0, weight_decay=0.0)


class Scripted(RandomStrategy):
    """Proposes what it is told; notes what it was given."""

    def __init__(self, proposed, report=None) -> None:
        super().__init__(TINY, seed=1)
        self._proposed, self._report, self.losses = proposed, report, []

    def propose(self):
        return self._proposed[0]

    def proposals(self):
        return self._proposed

    def step(self, loss_fn):
        self.losses.append(loss_fn)
        return loss_fn(self.propose()).detach()

    def report(self):
        return {} if self._report is None else self._report


def one_hot(*options) -> Gates:
    weight = torch.zeros(4, 4)
    for row, option in enumerate(options):
        weight[row, option] = 1
    return Gates(weight, options, unit=True)


def searched(strategy, config: SearchConfig = ONE_STEP, **options):
    return search(TINY, strategy, ClassificationTask(tiny_data()), config, **options)


def moves(proposed) -> dict[str, torch.Tensor]:
    """How far one weight step takes each weight from where every run starts."""
    start = searched(Scripted(proposed), dataclasses.replace(ONE_STEP, lr=0.0, lr_min=0.0)).network
    end = searched(Scripted(proposed)).network
    return {name: w - dict(start.named_parameters())[name] for name, w in end.named_parameters()}


def test_the_weight_step_goes_down_the_mean_loss_of_the_proposals():
    first, second = one_hot(3, 1, 3, 2), one_hot(2, 3, 1, 3)
    one, two, both = moves((first,)), moves((second,)), moves((first, second))
    for name, move in both.items():
        torch.testing.assert_close(move, (one[name] + two[name]) / 2, rtol=1e-4, atol=1e-6)
    assert any((one[name] - two[name]).abs().max() > 1e-3 for name in both)


def test_a_dense_strategy_searches_and_is_evaluated_at_its_discrete_best():
    strategy = Scripted((Gates(torch.full((4, 4), 0.25)),))
    result = searched(strategy, CONFIG)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert result.gates.active == strategy.best().active
    derived = derive(result.network, strategy, inherit_weights=True).eval()
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(derived(x), result.network.eval()(x, strategy.best()), rtol=1e-4, atol=1e-5)


def test_every_step_gets_a_loss_with_the_unrolled_gradient():
    strategy = Scripted((one_hot(3, 1, 3, 2),))
    searched(strategy, dataclasses.replace(ONE_STEP, batch=8))
    assert len(strategy.losses) == 3
    assert all(isinstance(loss, SteeringLoss) for loss in strategy.losses)


def test_the_virtual_step_is_on_the_training_batch_of_the_iteration():
    class Unrolling(Scripted):
        def step(self, loss_fn):
            return loss_fn.unrolled_gradient(self.propose())[0]

    seen = []

    class Noting(ClassificationTask):
        def loss(self, logits, target):
            seen.append(tuple(target.tolist()))
            return super().loss(logits, target)

    search(TINY, Unrolling((one_hot(3, 1, 3, 2),)), Noting(tiny_data()), ONE_STEP)
    train, steer, plus, minus, weight_step = seen[:5]
    assert train == plus == minus == weight_step != steer


def test_what_a_strategy_reports_is_in_the_history_file(tmp_path):
    report = {"step size": 0.25, "restarts": 3, "layers": (1, 2), "note": None}
    result = searched(Scripted((one_hot(3, 1, 3, 2),), report), out=tmp_path)
    assert result.history[0]["strategy"] == {**report, "layers": [1, 2]}
    assert history_file(tmp_path) == list(result.history)
    resumed = searched(Scripted((one_hot(3, 1, 3, 2),), report), out=tmp_path, resume=True)
    assert resumed.history == result.history


@pytest.mark.parametrize("report", [{"loss": float("nan")}, {"a": torch.zeros(1)}, [1]])
def test_a_report_that_is_not_json_is_refused(report):
    with pytest.raises(ValueError, match=r"expected Scripted\.report\(\)"):
        searched(Scripted((one_hot(3, 1, 3, 2),), report))
