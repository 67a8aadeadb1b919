# SPDX-License-Identifier: MIT
"""A search that takes a fraction of a second: two edges per cell, 8×8 images, three cells of two channels."""

import json
from pathlib import Path

import torch

from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.config import SearchConfig
from nasp_ext.engine import SearchResult, search
from nasp_ext.engine.statistics import own_statistics
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.layered.space import LayeredSpace
from nasp_ext.strategies import Strategy, strategy
from nasp_ext.strategies.base import looks, option_types, partial_channels
from nasp_ext.tasks.images.images import ImageData
from nasp_ext.tasks.images.task import ClassificationTask

OPTIONS = ("none", "skip_connect", "max_pool_3x3", "conv_1x1")
TINY = CellSpace("tiny", OPTIONS, OPTIONS, nodes=1)
CONFIG = SearchConfig(cells=3, channels=2, epochs=4, batch=8, seed=3, lr=0.1, device="cpu", threads=1)


def tiny_data(images: int = 50) -> ImageData:
    """Two classes that differ in brightness; crops and flips are on, so that their randomness matters."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(images) % 2
    noise = torch.randint(0, 100, (images, 1, 8, 8), generator=generator)
    pixels = (noise + 100 * labels[:, None, None, None]).to(torch.uint8)
    parts = (pixels, labels, pixels[:9], labels[:9])
    return ImageData("tiny", *parts, ("dark", "light"), (0.4,), (0.2,), crop_padding=1, flip=True)


class CutTask(ClassificationTask):
    """A task that calls ``cut`` at its n-th loss, and counts them."""

    def __init__(self, data: ImageData, at: int, cut) -> None:
        super().__init__(data)
        self._at, self._cut, self.calls = at, cut, 0

    def loss(self, logits, target):
        self.calls += 1
        if self.calls == self._at:
            self._cut()
        return super().loss(logits, target)


def run(name: str = "nasp", task: ClassificationTask | None = None, config=CONFIG, **options) -> SearchResult:
    """A tiny search; the strategy breaks ties at random and moves fast."""
    lr = {"lr": 0.05} if name == "nasp" else {}
    task = task if task is not None else ClassificationTask(tiny_data())
    found = strategy_of(name, 5, device=config.torch_device(), **lr)
    return search(space_of(name), found, task, config, **options)


def space_of(name: str) -> SearchSpace:
    """The tiny space; each of the three cells its own for a strategy that looks at attention, half of the
    channels past the options for one that is made for partial channels."""
    if looks(name):
        return LayeredSpace.of(TINY, 3, attention=True)
    return TINY.with_partial_channels(2) if partial_channels(name) > 1 else TINY


def strategy_of(name: str, seed: int, **options) -> Strategy:
    """The strategy in the tiny space; the seed goes to those that draw."""
    seeded = {"seed": seed} if "seed" in option_types(name) else {}
    return strategy(name, space_of(name), **seeded, **options)


def timeless(lines) -> list[dict]:
    """History lines without what differs from run to run: seconds and memory."""
    measured = ("seconds", "search_seconds", "start_memory", "peak_memory")
    return [{key: value for key, value in line.items() if key not in measured} for line in lines]


def logits_as_evaluated(result: SearchResult, x: torch.Tensor) -> torch.Tensor:
    """Of the architecture found, with the statistics that the last epoch of ``run`` evaluated it with."""
    network, line = result.network, result.history[-1]
    batches = ClassificationTask(tiny_data()).search_batches(CONFIG, torch.device("cpu"))
    first = batches.first_batches(CONFIG.seed, line["epoch"] - 1, line["bn_batches"])
    with own_statistics(network, lambda batch: network(batch[0], result.gates), first):
        return network.eval()(x, result.gates)


def history_file(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def assert_same_run(folder: Path, whole, part) -> None:
    """Bit for bit the same weights and history, in memory and in the files."""
    assert timeless(part.history) == timeless(whole.history)
    assert timeless(history_file(folder)) == timeless(whole.history)
    one, two = whole.network.state_dict(), part.network.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
