# SPDX-License-Identifier: MIT
"""The seam of tasks: what is registered, and that a folder is all a new one needs."""

import dataclasses
import sys

import pytest
import torch

import nasp_ext.tasks
from nasp_ext.arch import Gates
from nasp_ext.config import SearchConfig
from nasp_ext.tasks import DataPart, Metric, Task, register_task, registry, task_kind, task_kinds
from nasp_ext.tasks.images import ClassificationTask, load_data
from nasp_ext.tasks.images.settings import ImageSettings

CPU = torch.device("cpu")
CONFIG = SearchConfig(batch=8, cells=3, channels=2)

NEW_TASK = """
from dataclasses import dataclass
from nasp_ext.tasks import register_task

@dataclass(frozen=True)
class Settings:
    corpus: str = "none"

register_task("reading", Settings, lambda settings: settings.corpus)
"""


@pytest.fixture
def kinds(monkeypatch):
    """A registry of this test's own."""
    monkeypatch.setattr(registry, "_KINDS", dict(task_kinds()))


def test_a_folder_with_settings_is_a_task_and_nothing_else_changes(tmp_path, monkeypatch, kinds):
    folder = tmp_path / "reading"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "settings.py").write_text(NEW_TASK)
    known = set(task_kinds())
    assert {"images", "language"} <= known
    monkeypatch.setattr(nasp_ext.tasks, "__path__", [*nasp_ext.tasks.__path__, str(tmp_path)])
    assert set(task_kinds()) == known | {"reading"}
    found = task_kind("reading")
    assert found.make(found.settings(corpus="a book")) == "a book"
    for name in ("nasp_ext.tasks.reading", "nasp_ext.tasks.reading.settings"):
        monkeypatch.delitem(sys.modules, name)


def test_images_are_made_of_their_settings():
    kind = task_kind("images")
    assert kind.settings is ImageSettings
    task = kind.make(ImageSettings(limit=30))
    assert isinstance(task, ClassificationTask)
    assert isinstance(task, Task)
    assert len(task.data.train_labels) == 30
    assert [field.name for field in dataclasses.fields(ImageSettings)] == ["data", "data_dir", "limit"]
    with pytest.raises(ValueError, match=r"expected limit to be int \| None, got 'x'"):
        ImageSettings(limit="x")


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(ValueError, match=r"the name of a task, one of images, .*got 'sounds'"):
        task_kind("sounds")


def test_a_name_belongs_to_one_task(kinds):
    register_task("images", ImageSettings, task_kind("images").make)
    with pytest.raises(ValueError, match="new name for a task, got 'images'"):
        register_task("images", ImageSettings, print)
    with pytest.raises(TypeError, match="settings of task 'sounds' to be a dataclass"):
        register_task("sounds", dict, print)


@pytest.mark.parametrize("name", ["Accuracy", "top 1", "", "3d"])
def test_a_metric_is_named_like_a_field(name):
    with pytest.raises(ValueError, match="name of a metric"):
        Metric(name)


def test_processes_share_the_examples():
    task = ClassificationTask(load_data("digits", limit=45))
    whole = task.search_batches(CONFIG, CPU)
    parts = [task.search_batches(CONFIG, CPU, (rank, 2)) for rank in (0, 1)]
    for name in ("train", "steer", "validate"):
        shares = [getattr(part, name).indices.tolist() for part in parts]
        every = getattr(whole, name).indices.tolist()
        assert not set(shares[0]) & set(shares[1])
        assert isinstance(getattr(whole, name), DataPart)
        if name == "validate":  # each exactly once
            assert sorted(shares[0] + shares[1]) == sorted(every)
            assert len(every) == 23
        else:  # as many steps in each process
            assert len(shares[0]) == len(shares[1]) == 11
            assert set(shares[0] + shares[1]) <= set(every)
    tested = [task.test_batches(CONFIG, CPU, (rank, 2)).indices.tolist() for rank in (0, 1)]
    assert sorted(tested[0] + tested[1]) == list(range(45))
    with pytest.raises(ValueError, match=r"of at most 7 images.*shared by 3 processes, got 8"):
        task.search_batches(CONFIG, CPU, (0, 3))


def test_a_batch_of_images_gives_loss_and_sums():
    task = ClassificationTask(load_data("digits", limit=40))
    (x, y), *_ = task.test_batches(CONFIG, CPU).epoch()
    logits = torch.nn.functional.one_hot(y, 10).float()
    logits[0] = logits[0].roll(1)  # one of eight is wrong
    found = task.run(lambda images: logits, (x, y))
    assert (found.count, int(found.sums["accuracy"]), found.state) == (8, 7, None)
    # Seven times log(e + 9) - 1 and once log(e + 9).
    wanted = (8 * torch.tensor(torch.e + 9).log() - 7) / 8
    torch.testing.assert_close(found.loss, wanted)
    seen = []
    gates = Gates(torch.eye(2, 3))
    task.run(lambda images, given: (seen.append(given), logits)[1], (x, y), gates)
    assert seen == [gates]
