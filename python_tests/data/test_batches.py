# SPDX-License-Identifier: MIT
"""Batches: order, augmentation, normalisation, errors."""

import pytest
import torch

from nasp_ext.tasks.images.batches import Batches


def numbered(count=10, channels=2, size=4):
    """Images whose first pixel tells which one they are, with labels = that number."""
    images = torch.randint(1, 256, (count, channels, size, size), dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(count)
    return images, torch.arange(count)


def batches(images, labels, batch=4, indices=None, **options):
    channels = images.shape[1]
    return Batches(images, labels, indices, batch, (0.0,) * channels, (1.0,) * channels, **options)


def windows(image, padding):
    """Every H × W window of the image with a black border of `padding`."""
    height, width = image.shape[1:]
    padded = torch.zeros(image.shape[0], height + 2 * padding, width + 2 * padding, dtype=image.dtype)
    padded[:, padding : padding + height, padding : padding + width] = image
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            yield padded[:, top : top + height, left : left + width]


def epoch(walker, seed=0, number=0):
    return list(walker.epoch(seed, number))


def test_the_same_seed_and_epoch_give_the_same_bits():
    images, labels = numbered()
    walker = batches(images, labels, crop_padding=1, flip=True, cutout=2)
    for (x, y), (again_x, again_y) in zip(epoch(walker, 3, 5), epoch(walker, 3, 5), strict=True):
        assert torch.equal(x, again_x)
        assert torch.equal(y, again_y)


@pytest.mark.parametrize("other", [(0, 1), (1, 0), (2, 3)])
def test_another_seed_or_epoch_gives_another_order(other):
    images, labels = numbered(100)
    walker = batches(images, labels, 100)
    assert not torch.equal(epoch(walker, 0, 0)[0][1], epoch(walker, *other)[0][1])


def test_seed_and_epoch_are_not_interchangeable():
    images, labels = numbered(100)
    walker = batches(images, labels, 100)
    assert not torch.equal(epoch(walker, 0, 1)[0][1], epoch(walker, 1, 0)[0][1])


def test_images_keep_their_labels():
    images, labels = numbered()
    for x, y in epoch(batches(images, labels)):
        assert torch.equal((x[:, 0, 0, 0] * 255).round().long(), y)


def test_training_drops_the_last_partial_batch():
    images, labels = numbered(10)
    walker = batches(images, labels, 4)
    assert [len(y) for _, y in epoch(walker)] == [4, 4]
    assert len(walker) == 2


def test_evaluation_keeps_every_image_in_order():
    images, labels = numbered(10)
    walker = batches(images, labels, 4, shuffle=False, drop_last=False)
    assert torch.cat([y for _, y in epoch(walker)]).tolist() == list(range(10))
    assert len(walker) == 3


def test_only_the_given_indices_appear_each_once():
    images, labels = numbered(10)
    walker = batches(images, labels, 2, torch.tensor([7, 1, 4]), drop_last=False)
    assert sorted(torch.cat([y for _, y in epoch(walker)]).tolist()) == [1, 4, 7]


def test_pixels_are_normalised_per_channel(assert_close):
    images, labels = numbered(3)
    mean, std = (0.25, 0.5), (0.5, 0.125)
    walker = Batches(images, labels, None, 3, mean, std, shuffle=False)
    ((x, _),) = epoch(walker)
    for channel in range(2):
        assert_close(x[:, channel], (images[:, channel] / 255 - mean[channel]) / std[channel])


def test_every_crop_is_a_window_of_its_padded_image_and_all_windows_occur():
    images, labels = numbered(1, size=3)
    walker = batches(images, labels, 1, crop_padding=1)
    expected = {tuple(window.reshape(-1).tolist()) for window in windows(images[0], 1)}
    found = set()
    for number in range(200):
        ((x, _),) = epoch(walker, 0, number)
        found.add(tuple((x * 255).round().long().reshape(-1).tolist()))
    assert found == expected


def test_flip_mirrors_about_half_of_the_images_left_to_right():
    images, labels = numbered(200)
    ((x, _),) = epoch(batches(images, labels, 200, flip=True, shuffle=False))
    pixels = (x * 255).round().to(torch.uint8)
    kept = (pixels == images).flatten(1).all(1)
    mirrored = (pixels == images.flip(3)).flatten(1).all(1)
    assert (kept ^ mirrored).all()
    assert 60 < int(mirrored.sum()) < 140


def test_cutout_blanks_one_square_cut_at_the_border():
    images, labels = numbered(50, size=6)
    ((x, _),) = epoch(batches(images, labels, 50, shuffle=False, cutout=3))
    for image, original in zip(x, images, strict=True):
        blank = (image == 0).all(0) & (original != 0).any(0)
        rows, columns = blank.any(1).nonzero().flatten(), blank.any(0).nonzero().flatten()
        assert 2 <= len(rows) <= 3
        assert 2 <= len(columns) <= 3
        assert int(blank.sum()) == len(rows) * len(columns)
    assert int((x == 0).all(1).flatten(1).sum(1).max()) == 9


def test_images_of_one_batch_are_augmented_independently():
    images, labels = numbered(1)
    walker = batches(images.expand(64, -1, -1, -1), labels.expand(64), 64, crop_padding=2)
    ((x, _),) = epoch(walker)
    assert len(x.flatten(1).unique(dim=0)) > 10


def test_no_augmentation_changes_the_stored_images():
    images, labels = numbered()
    before = images.clone()
    epoch(batches(images, labels, crop_padding=2, flip=True, cutout=2))
    assert torch.equal(images, before)


@pytest.mark.parametrize("batch", [0, -1, 11])
def test_a_batch_outside_the_number_of_images_is_refused(batch):
    images, labels = numbered(10)
    with pytest.raises(ValueError, match=rf"batch size in \[1, 10\].*got {batch}"):
        batches(images, labels, batch)


def test_evaluation_accepts_a_batch_larger_than_the_data():
    images, labels = numbered(3)
    assert [len(y) for _, y in epoch(batches(images, labels, 8, drop_last=False))] == [3]


def test_no_images_at_all_is_refused():
    images, labels = numbered(3)
    with pytest.raises(ValueError, match="at least one image"):
        batches(images, labels, 1, torch.tensor([], dtype=torch.int64))


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_the_data_is_refused(index):
    images, labels = numbered(3)
    with pytest.raises(ValueError, match=r"indices in \[0, 3\)"):
        batches(images, labels, 1, torch.tensor([0, index]))


@pytest.mark.parametrize("option", ["crop_padding", "cutout"])
def test_negative_augmentation_is_refused(option):
    images, labels = numbered(3)
    with pytest.raises(ValueError, match="crop_padding and cutout >= 0"):
        batches(images, labels, 1, **{option: -1})


@pytest.mark.parametrize("arguments", [(-1, 0), (0, -1)])
def test_a_negative_seed_or_epoch_is_refused_before_the_first_batch(arguments):
    images, labels = numbered(3)
    with pytest.raises(ValueError, match="seed and epoch >= 0"):
        batches(images, labels, 1).epoch(*arguments)


@pytest.mark.cuda
def test_a_gpu_gives_the_same_batches():
    images, labels = numbered()
    options = {"crop_padding": 1, "flip": True, "cutout": 2}
    walkers = [batches(images, labels, device=device, **options) for device in ("cpu", "cuda")]
    for (x, y), (gpu_x, gpu_y) in zip(*map(epoch, walkers), strict=True):
        assert gpu_x.is_cuda
        torch.testing.assert_close(gpu_x.cpu(), x)
        assert torch.equal(gpu_y.cpu(), y)


@pytest.mark.parametrize("option", ["cutout", "crop_padding"])
@pytest.mark.parametrize("value", [9, 10**20])
def test_a_square_or_border_larger_than_an_image_is_refused(option, value):
    images, labels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match=f"expected {option} <= 8, the side of the images, got {value}"):
        Batches(images, labels, None, 2, (0.0,), (1.0,), **{option: value})
