# SPDX-License-Identifier: MIT
"""ImageData: what it accepts, and the batches it makes."""

import dataclasses

import pytest
import torch

from nasp_ext.tasks.images.images import ImageData, channel_statistics


def small(**changes):
    fields = {
        "name": "small",
        "train_images": torch.full((6, 1, 4, 4), 51, dtype=torch.uint8),
        "train_labels": torch.arange(6) % 3,
        "test_images": torch.full((5, 1, 4, 4), 102, dtype=torch.uint8),
        "test_labels": torch.zeros(5, dtype=torch.int64),
        "classes": ("a", "b", "c"),
        "mean": (0.2,),
        "std": (0.5,),
    }
    return ImageData(**(fields | changes))


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        small().name = "other"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"train_images": torch.zeros(6, 1, 4, 4)}, "train part: expected uint8 images.*got torch.float32"),
        ({"test_images": torch.zeros(5, 4, 4, dtype=torch.uint8)}, r"test part: expected uint8.*\(5, 4, 4\)"),
        ({"train_labels": torch.zeros(6)}, "expected int64 labels"),
        ({"train_labels": torch.arange(5) % 3}, "got 6 images, 5 labels"),
        ({"train_labels": torch.arange(6)}, r"labels in \[0, 3\), found 0 to 5"),
        ({"train_labels": -torch.ones(6, dtype=torch.int64)}, "found -1 to -1"),
        (
            {
                "test_images": torch.zeros(0, 1, 4, 4, dtype=torch.uint8),
                "test_labels": torch.zeros(0, dtype=torch.int64),
            },
            "test part: the data set is empty",
        ),
        (
            {"test_images": torch.zeros(5, 1, 5, 5, dtype=torch.uint8)},
            r"train images are \(1, 4, 4\) but test",
        ),
        ({"mean": (0.1, 0.2)}, "expected 1 mean values, got 2"),
        ({"std": (0.0,)}, "expected std above 0"),
        ({"crop_padding": -1}, "crop_padding >= 0"),
    ],
)
def test_bad_data_are_refused_with_what_was_found(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="'train' or 'test', got 'validation'"):
        small().part("validation")


def test_training_batches_use_the_training_part_and_the_data_set_augmentation():
    batches = small(crop_padding=1).training_batches(6)
    ((x, y),) = batches.epoch()
    assert sorted(y.tolist()) == [0, 0, 1, 1, 2, 2]
    assert x.unique().tolist() == pytest.approx([-0.4, 0.0], abs=1e-6)


def test_evaluation_batches_are_not_augmented(assert_close):
    for (x, y), size in zip(small(crop_padding=1).evaluation_batches(3).epoch(), (3, 2), strict=True):
        assert len(y) == size
        assert_close(x, torch.full((size, 1, 4, 4), 0.4))


def test_evaluation_batches_can_be_taken_from_the_training_part():
    ((_, y),) = small().evaluation_batches(9, "train", torch.tensor([4, 2])).epoch()
    assert y.tolist() == [1, 2]


def test_channel_statistics_are_those_of_the_pixels():
    images = torch.randint(0, 256, (7, 3, 5, 4), dtype=torch.uint8)
    mean, std = channel_statistics(images)
    pixels = images.double().transpose(0, 1).flatten(1) / 255
    torch.testing.assert_close(torch.tensor(mean, dtype=torch.float64), pixels.mean(1))
    torch.testing.assert_close(torch.tensor(std, dtype=torch.float64), pixels.std(1, correction=0))


def test_a_constant_channel_has_standard_deviation_one():
    assert channel_statistics(torch.zeros(2, 1, 3, 3, dtype=torch.uint8)) == ((0.0,), (1.0,))
