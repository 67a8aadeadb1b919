# SPDX-License-Identifier: MIT
"""BatchNorm's statistics for the architecture that is evaluated, and a search that does not notice."""

import dataclasses

import pytest
import torch
from engine_helpers import (
    CONFIG,
    TINY,
    logits_as_evaluated,
    run,
    space_of,
    strategy_of,
    timeless,
    tiny_data,
)
from reading_task import SEARCH as READING
from reading_task import Characters, ReaderFamily, Readers
from torch import nn
from torch.optim.swa_utils import update_bn

from nasp_ext.arch.family import _FAMILIES, register_family
from nasp_ext.arch.gates import Gates
from nasp_ext.engine import derive_run, evaluate, search
from nasp_ext.engine.checkpoint import load_checkpoint, save_checkpoint
from nasp_ext.engine.statistics import own_statistics, reestimate_
from nasp_ext.families.derivation import derive
from nasp_ext.families.networks import supernet
from nasp_ext.nn import plain_modules
from nasp_ext.strategies import strategy
from nasp_ext.tasks.images.task import ClassificationTask

ONE_HOT = Gates(torch.eye(4)[[3, 1, 2, 3]].double(), (3, 1, 2, 3), unit=True)
EVALUATED = ("val_loss", "val_accuracy", "bn_batches")


class DroppingTask(ClassificationTask):
    """Its supernets draw random numbers in each forward of training."""

    def supernet(self, space, config):
        network = super().supernet(space, config)
        network.head = nn.Dropout(0.3)
        return network


@pytest.fixture
def network():
    torch.manual_seed(2)
    net = supernet(TINY, 4, 3, 2, in_channels=1).double()
    for x in images(5, first=50):  # statistics of something else
        net(x, Gates(torch.full((4, 4), 0.25, dtype=torch.float64)))
    return net


def images(count: int, first: int = 0):
    return [torch.randn(6, 1, 8, 8, generator=seeded(first + i)).double() + i for i in range(count)]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def copied(net) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def assert_equal(net, before) -> None:
    after = net.state_dict()
    assert [name for name in before if not torch.equal(after[name], before[name])] == []


@pytest.mark.parametrize("plain", [False, True])
def test_the_statistics_are_the_mean_over_the_batches(network, plain):
    one, other = (derive(network, ONE_HOT, inherit_weights=True) for _ in range(2))
    with plain_modules(plain):
        reestimate_(one, one, images(3))
    update_bn(images(3), other)
    expected = {name: value for name, value in other.state_dict().items() if "running" in name}
    assert len(expected) > 10
    for name, value in expected.items():
        torch.testing.assert_close(one.state_dict()[name], value, rtol=1e-9, atol=1e-9)


def test_a_supernet_has_inside_the_logits_of_the_derived_network(network):
    derived = derive(network, ONE_HOT, inherit_weights=True)
    before = derived.eval()(images(1)[0])
    reestimate_(derived, derived, images(3))
    with own_statistics(network, lambda x: network(x, ONE_HOT), images(3)):
        found = network.eval()(images(1)[0], ONE_HOT)
    torch.testing.assert_close(found, derived(images(1)[0]), rtol=1e-9, atol=1e-9)
    assert (found - before).abs().max() > 0.1


def test_layers_that_do_not_run_keep_their_statistics_inside(network):
    before = copied(network)
    with own_statistics(network, lambda x: network(x, ONE_HOT), images(2)):
        after = network.state_dict()
        moved = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert "cells.0._ops.0._ops.3.op.2.running_mean" in moved  # conv_1x1 runs in the first row only
    assert not [name for name in moved if name.startswith("cells.0._ops.1._ops.3.")]


@pytest.mark.parametrize("failing", [False, True])
def test_everything_is_put_back_bit_for_bit(network, failing):
    network.head = nn.Dropout(0.3)
    network.cells[1].eval()
    network.stem[1].momentum = 0.2
    before, random = copied(network), torch.get_rng_state()
    modes = [part.training for part in network.modules()]
    calls = []

    def forward(x):
        calls.append(network(x, ONE_HOT))
        if failing and len(calls) == 2:
            raise KeyboardInterrupt

    if failing:
        with pytest.raises(KeyboardInterrupt), own_statistics(network, forward, images(3)):
            pass
    else:
        with own_statistics(network, forward, images(3)):
            assert torch.equal(torch.get_rng_state(), random)
    assert len(calls) == 3 - failing
    assert_equal(network, before)
    assert torch.equal(torch.get_rng_state(), random)
    assert [part.training for part in network.modules()] == modes
    momenta = {part.momentum for part in network.modules() if isinstance(part, nn.BatchNorm2d)}
    assert momenta == {0.1, 0.2}
    assert not calls[0].requires_grad


def test_no_batches_leave_the_running_statistics(network):
    before = copied(network)
    with own_statistics(network, lambda x: network(x, ONE_HOT), []):
        assert_equal(network, before)


@pytest.mark.parametrize("name", ["darts", "pc-darts", "darts-2nd", "gdas", "asng", "random", "asm", "nasp"])
def test_the_search_does_not_notice(name):
    results = [
        run(
            name,
            task=DroppingTask(tiny_data()),
            config=dataclasses.replace(CONFIG, epochs=2, warmup_epochs=int(name == "gdas"), bn_batches=count),
        )
        for count in (0, 2)
    ]
    assert_equal(results[1].network, copied(results[0].network))
    off, on = (timeless(result.history) for result in results)
    selected = () if name != "asm" else ("scores", "active", "entropy", "genotype", "skip_connections")
    for one, other in zip(off, on, strict=True):
        assert one["bn_batches"] == 0
        changed = {key for key in one if one[key] != other[key]}
        assert changed <= {*EVALUATED, *selected}
        assert ("bn_batches" in changed) == (name != "nasp")


def test_what_was_trained_last_is_evaluated_as_it_is():
    config = dataclasses.replace(CONFIG, warmup_epochs=2)
    assert [line["bn_batches"] for line in run("nasp", config=config).history] == [8, 8, 0, 0]


def test_the_selected_network_of_asm_leaves_the_chance_level():
    task = ClassificationTask(tiny_data(100))
    config = dataclasses.replace(CONFIG, epochs=6, channels=4, batch=20)
    off = run("asm", task=task, config=dataclasses.replace(config, bn_batches=0)).history[-1]
    on = run("asm", task=task, config=config).history[-1]
    assert off["val_accuracy"] <= 0.65  # of two classes
    assert on["val_accuracy"] >= 0.95


@pytest.mark.parametrize("name", ["darts", "nasp"])
def test_a_derived_network_is_stored_as_the_search_evaluated_it(tmp_path, name):
    result = run(name, out=tmp_path)
    before = copied(result.network)
    task, found = ClassificationTask(tiny_data()), strategy_of(name, 0)
    derived = derive_run(space_of(name), found, task, CONFIG, tmp_path, tmp_path / "out").network
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(derived.eval()(x), logits_as_evaluated(result, x), rtol=1e-4, atol=1e-5)
    assert_equal(result.network, before)
    assert_equal(derived, torch.load(tmp_path / "out" / "derived.pt", weights_only=True))


def test_a_checkpoint_of_a_version_without_bn_batches_is_resumed_and_derived(tmp_path):
    config = dataclasses.replace(CONFIG, epochs=2)
    whole = run("darts", config=config, out=tmp_path)
    stored = load_checkpoint(tmp_path / "checkpoint.pt", "search")
    del stored["config"]["bn_batches"]
    for line in stored["history"]:
        del line["bn_batches"]
    save_checkpoint(tmp_path / "checkpoint.pt", stored)
    resumed = run("darts", config=config, out=tmp_path, resume=True)
    assert_equal(resumed.network, copied(whole.network))
    derive_run(TINY, strategy_of("darts", 0), ClassificationTask(tiny_data()), config, tmp_path)
    with pytest.raises(ValueError, match=r"found another \(bn_batches 8 → 2\)"):
        run("darts", config=dataclasses.replace(config, bn_batches=2), out=tmp_path, resume=True)


def test_a_negative_number_of_batches_is_refused():
    with pytest.raises(ValueError, match="expected bn_batches to be >= 0, got -1"):
        dataclasses.replace(CONFIG, bn_batches=-1)


class Repeated(nn.Module):
    """One norm for every step of a sequence (T, B, H), a norm of its own for the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.single = nn.BatchNorm1d(2, affine=False), nn.BatchNorm1d(2, affine=False)
        self.seen: list[torch.Tensor] = []

    def forward(self, sequence):
        self.seen += list(sequence)
        self.single(sequence[0])
        return torch.stack([self.shared(step) for step in sequence])


def test_statistics_of_a_layer_that_runs_in_every_step_are_the_mean_over_all_steps():
    net = Repeated()
    sequences = [torch.randn(length, 6, 2, generator=seeded(length)) + length for length in (2, 5, 3)]
    before = copied(net)
    with own_statistics(net, net, sequences):
        steps = torch.cat(sequences)
        torch.testing.assert_close(net.shared.running_mean, steps.mean((0, 1)))
        torch.testing.assert_close(net.shared.running_var, steps.var(1).mean(0))
        firsts = torch.stack([sequence[0] for sequence in sequences])
        torch.testing.assert_close(net.single.running_mean, firsts.mean((0, 1)))
        torch.testing.assert_close(net.single.running_var, firsts.var(1).mean(0))
    assert_equal(net, before)
    assert [part.momentum for part in (net.shared, net.single)] == [0.1, 0.1]
    assert len(net.seen) == 2 * 2 + 5 + 3  # the first sequence twice


def test_a_search_evaluates_a_layer_that_runs_in_every_step_with_such_statistics():
    space = Readers()
    found = search(space, strategy("nasp", space, lr=0.05, seed=1), Characters(), READING)
    assert [line["bn_batches"] for line in found.history] == [READING.bn_batches] * READING.epochs
    off = dataclasses.replace(READING, bn_batches=0)
    other = search(space, strategy("nasp", space, lr=0.05, seed=1), Characters(), off)
    assert_equal(other.network, copied(found.network))  # what trains does not notice
    assert found.history[-1]["val_loss"] < other.history[-1]["val_loss"]


def test_a_network_derived_of_a_search_of_sequences_is_what_the_search_evaluated(tmp_path):
    class Sober(Characters):
        """Its statistics hang on no random numbers."""

        def supernet(self, space, config):
            network = super().supernet(space, config)
            network.dropout = nn.Identity()
            return network

    register_family(ReaderFamily())
    try:
        found, task = strategy("darts", Readers(), lr=0.05), Sober()
        whole = search(Readers(), found, task, READING, out=tmp_path)
        fresh = strategy("darts", Readers(), lr=0.05)
        network = derive_run(Readers(), fresh, task, READING, tmp_path).network.eval()
        validate = task.search_batches(READING, torch.device("cpu")).validate
        assert evaluate(network, task, validate)["loss"] == pytest.approx(
            whole.history[-1]["val_loss"], rel=1e-5
        )
    finally:
        del _FAMILIES["reader"]
