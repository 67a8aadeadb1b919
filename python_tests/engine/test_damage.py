# SPDX-License-Identifier: MIT
"""A checkpoint with one entry damaged, wherever and however: one error with the file and the entry."""

import copy
import dataclasses
import math
import re
from pathlib import Path

import pytest
import torch
from engine_helpers import CONFIG, run, space_of, strategy_of, tiny_data
from reading_task import RETRAIN as READING
from reading_task import Characters, Reader
from test_retrain import CONFIG as RETRAIN
from test_retrain import GENOTYPE
from test_retrain import run as run_retrain

from nasp_ext import strategies
from nasp_ext.engine import derive_run, retrain
from nasp_ext.engine.checkpoint import load_checkpoint, save_checkpoint
from nasp_ext.engine.retrain_state import RetrainData, RetrainState
from nasp_ext.engine.search_state import SearchState
from nasp_ext.engine.training import fixed_randomness
from nasp_ext.tasks.images.task import ClassificationTask

FILE, CPU = Path("folder/checkpoint.pt"), torch.device("cpu")
TWO = dataclasses.replace(CONFIG, epochs=2)
MISSING = object()
# Where any finite number, or any that is not negative, is one that some run could have written.
ANY = re.compile(r"history\.\d\.(train|steer|val|test)_loss|strategy\.(lead|seed)|history\.\d\.strategy\..*")
# Tensors in which -1 is as good as another number, and choices in which it is a pruned row.
SIGNED = re.compile(
    r"(best\.(back\.)?)?network\..*(weight|bias|running_mean)|.*\.(momentum_buffer|exp_avg)"
    r"|(best\.back\.)?average\.weights\.\d+"
    r"|strategy\.(a|noise|beta|active|champion|challenger|asng\.tensors\.s\.\d|active\.\d+)"
)
# What is not there unless something happened: None or nothing at all may be right.
LATER = re.compile(
    r"history\.\d\.(steer_loss|steer_accuracy|mixture_accuracy|bn_batches|strategy(\..*)?)"
    r"|strategy\.challenger|((best\.back\.)?weights|strategy\.optimizer)\.state\.\d+"
)


def places(value, path=()):
    """All places in nested dicts and lists, of what is there many times some."""
    if path:
        yield path
    thinned = path[-1:] in (("network",), ("scores",)) or path[-2:] in (
        ("weights", "state"),
        ("asng", "asked"),
    )
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys[::11] if thinned else keys[:1] if path == ("history",) else keys:
        yield from places(value[key], (*path, key))


def damages(old):
    """Values that hardly any entry like ``old`` may have, and ``MISSING``."""
    yield from ("damage", torch.zeros(3, dtype=torch.int16), [[1.0]], {"x": 1}, None, MISSING)
    if isinstance(old, torch.Tensor):
        yield old.to(torch.float16)
        yield torch.cat([old.reshape(-1), old.reshape(-1)[:1]])
        if old.is_floating_point():
            yield torch.full_like(old, math.nan)
            yield torch.full_like(old, math.inf)
        yield torch.full_like(old, -1) if old.dtype != torch.uint8 else torch.zeros_like(old)
    elif isinstance(old, int | float) and not isinstance(old, bool):
        yield from (math.nan, math.inf, -1, True, 10**30)
    elif isinstance(old, tuple):
        yield from (old[:1], (math.nan,) * len(old), [*old, 0.5])
    elif isinstance(old, dict | list):
        yield type(old)()


def may_be(name, old, new) -> bool:
    """Whether a run could have written ``new`` there."""
    if new is old or (new is None and old is None):
        return True
    if new is MISSING and name.startswith("config."):  # then it has its default
        return True
    if (new is None or new is MISSING) and re.fullmatch(r"(history\.\d\.)?genotype\.\w+_nodes", name):
        return True  # two edges per node, as it is
    if new is None or new is MISSING:
        return LATER.fullmatch(name) is not None and not (new is MISSING and name == "strategy.challenger")
    if isinstance(new, torch.Tensor):
        same = isinstance(old, torch.Tensor) and (new.dtype, new.shape) == (old.dtype, old.shape)
        return same and SIGNED.fullmatch(name) is not None and bool((new == -1).all())
    if isinstance(new, int | float) and not isinstance(new, bool) and math.isfinite(new):
        if new == -1 and SIGNED.fullmatch(name):
            return True
        measured = re.fullmatch(r".*\.(seconds|search_seconds|start_memory|peak_memory|entropy)", name)
        counted = re.fullmatch(r"history\.\d\.(skip_connections|bn_batches|scores\..*)", name)
        counted = counted or re.fullmatch(r"history\.\d\.\w+_perplexity", name)
        steps = re.fullmatch(r"strategy\.(steps?|optimizer\.param_groups\.\d\.lr)", name)
        return bool(ANY.fullmatch(name)) or (new > 0 and bool(measured or counted or steps))
    # A report may be anything that JSON has.
    if re.fullmatch(r"history\.\d\.strategy\..*", name):
        return not isinstance(new, float) or math.isfinite(new)
    return re.fullmatch(r"history\.\d\.strategy", name) is not None and isinstance(new, dict)


def try_all(state, load):
    """Load ``state`` with each place damaged in each way; the number of refusals."""
    count = 0
    for path in places(state):
        name, holder = ".".join(map(str, path)), state
        if path[0] in ("format", "kind"):
            continue
        for key in path[:-1]:
            holder = holder[key]
        old = holder[path[-1]]
        for new in damages(old):
            if may_be(name, old, new) or (new is MISSING and isinstance(holder, list)):
                continue
            before = list(holder.items()) if isinstance(holder, dict) else None
            if new is MISSING:
                del holder[path[-1]]
            else:
                holder[path[-1]] = new
            try:
                load(state)
                message = "taken"
            except ValueError as error:
                message = str(error)
            finally:
                if before is None:
                    holder[path[-1]] = old
                else:
                    holder.clear()
                    holder.update(before)
            assert message.startswith(f"{FILE}: "), f"{name} = {new!r:.60}: {message}"
            assert "\n" not in message
            count += 1
    return count


def same(one, two) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


@pytest.mark.parametrize("name", strategies.names())
def test_no_damaged_entry_of_a_search_is_taken_nor_anything_beside_it(tmp_path, name):
    run(name, config=TWO, out=tmp_path)
    state = load_checkpoint(tmp_path / "checkpoint.pt", "search")
    lr = {"lr": 0.05} if name == "nasp" else {}
    with fixed_randomness(TWO, CPU):
        task = ClassificationTask(tiny_data())
        fresh = SearchState(space_of(name), strategy_of(name, 5, **lr), task, TWO, CPU)
        before = copy.deepcopy(fresh.state_dict())
        assert try_all(state, lambda damaged: fresh.load_state_dict(damaged, FILE)) > 400
        assert same(fresh.state_dict(), before)
        fresh.load_state_dict(state, FILE)
        after = fresh.state_dict()
    assert same(after, {key: state[key] for key in after})


def test_no_damaged_entry_of_a_retraining_is_taken(tmp_path):
    config = dataclasses.replace(RETRAIN, epochs=2)
    run_retrain(config, out=tmp_path)
    state = load_checkpoint(tmp_path / "checkpoint.pt", "retrain")
    with fixed_randomness(config, CPU):
        task = ClassificationTask(tiny_data())
        fresh = RetrainState(GENOTYPE, task, config, CPU, RetrainData.of(task, config, CPU))
        before = copy.deepcopy(fresh.state_dict())
        assert try_all(state, lambda damaged: fresh.load_state_dict(damaged, FILE)) > 300
        assert same(fresh.state_dict(), before)


@pytest.mark.parametrize("seed, rollbacks", [(4, 1), (2, 1), (2, 0)])
def test_no_damaged_entry_of_a_validated_retraining_is_taken(tmp_path, seed, rollbacks):
    """The best epoch is one of SGD with the first seed, one that averages with the other."""
    sizes = {"momentum": 0.5, "lr": 8.0, "lr_min": 8.0, "epochs": 7}
    config = dataclasses.replace(READING, **sizes, average_after=2, seed=seed, rollbacks=rollbacks)
    retrain(Reader(), Characters(), config, out=tmp_path)
    state = load_checkpoint(tmp_path / "checkpoint.pt", "retrain")
    assert state["average"]["steps"] > 0
    assert (state["best"]["back"] is None) == (rollbacks == 0)
    del state["stream"]  # of which the engine knows nothing but that it is finite
    with fixed_randomness(config, CPU):
        fresh = RetrainState(Reader(), Characters(), config, CPU, RetrainData.of(Characters(), config, CPU))
        before = copy.deepcopy(fresh.state_dict())
        assert try_all(state, lambda damaged: fresh.load_state_dict(damaged, FILE)) > 300
        assert same(fresh.state_dict(), before)
        fresh.load_state_dict(state, FILE)
        after = fresh.state_dict()
    assert same(after, {key: state[key] for key in after})
    assert after.keys() == state.keys() - {"format", "kind"}


def test_the_checkpoint_of_a_retraining_without_validation_is_not_one_with_it(tmp_path):
    retrain(Reader(), Characters(), READING, out=tmp_path / "with")
    retrain(Reader(), Characters(validated=False), READING, out=tmp_path / "without")
    for folder, validated in (("with", False), ("without", True)):
        with pytest.raises(ValueError, match=r"checkpoint\.pt: expected .* with the entries"):
            retrain(Reader(), Characters(validated), READING, out=tmp_path / folder, resume=True)


def test_an_entry_too_many_is_refused(tmp_path):
    run(config=TWO, out=tmp_path)
    state = load_checkpoint(tmp_path / "checkpoint.pt", "search")
    holders = (
        *(state, state["config"], state["network"], state["weights"], state["weights"]["state"]),
        *(state["strategy"], state["strategy"]["optimizer"], state["strategy"]["optimizer"]["state"][0]),
        *(state["weights"]["param_groups"][0], state["random"], state["history"][0], state["space"]),
    )
    for holder in holders:
        holder["extra"] = None
        save_checkpoint(tmp_path / "checkpoint.pt", state)
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        with pytest.raises(ValueError, match=r"checkpoint\.pt: expected .*extra"):
            run(config=TWO, out=tmp_path, resume=True)
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
        del holder["extra"]


def test_derive_refuses_a_checkpoint_of_another_configuration(tmp_path):
    run("darts", config=TWO, out=tmp_path)
    other = dataclasses.replace(TWO, batch=4)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: .*found another \(batch 8 → 4\)"):
        derive_run(
            space_of("darts"), strategy_of("darts", 5), ClassificationTask(tiny_data()), other, tmp_path
        )
