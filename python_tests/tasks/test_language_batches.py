# SPDX-License-Identifier: MIT
"""Segments of texts: what trains, what steers, what is evaluated, and what each process sees of it."""

import numpy as np
import pytest
import torch

from nasp_ext.tasks import DataPart
from nasp_ext.tasks.language import EvaluationText, SteeringText, TrainingText


def ids(count):
    return torch.arange(count, dtype=torch.int32)


def segments(part, seed=0, epoch=0):
    return list(part.epoch(seed, epoch))


def columns_of(found):
    """The columns (L, B) that segments are cut from, words and targets."""
    return [torch.cat([getattr(segment, name) for segment in found]) for name in ("tokens", "targets")]


def check_neighbours(found):
    """Each target is the word after its token, and each column goes on from segment to segment."""
    tokens, targets = columns_of(found)
    real = targets >= 0
    assert torch.equal(targets[real], tokens[real] + 1)
    steps = tokens[1:] - tokens[:-1]
    assert bool((steps[real[1:]] == 1).all())


@pytest.mark.parametrize("count, columns, sequence", [(1001, 4, 10), (1003, 7, 35), (500, 1, 35), (60, 5, 3)])
def test_an_epoch_of_training_is_the_whole_text(count, columns, sequence):
    part = TrainingText(ids(count), columns, sequence)
    assert isinstance(part, DataPart)
    for epoch in range(3):
        found = segments(part, 1, epoch)
        assert len(found) == len(part)
        tokens, targets = columns_of(found)
        rows = -(-(count - 1) // columns)
        assert tokens.shape == targets.shape == (rows, columns)
        assert tokens.dtype == targets.dtype == torch.int64
        check_neighbours(found)
        assert sorted(set(targets.flatten().tolist())) == list(range(1, count))
        assert targets.numel() - (count - 1) < columns  # in two columns
        assert [segment.count for segment in found] == [segment.targets.numel() for segment in found]
        assert [segment.first for segment in found] == [True] + [False] * (len(found) - 1)
        assert all(segment.training for segment in found)


def test_lengths_are_those_of_a_seed_and_an_epoch():
    part = TrainingText(ids(20_000), 4, 35)
    lengths = part.lengths(3, 5)
    assert lengths == TrainingText(ids(20_000), 4, 35).lengths(3, 5)
    assert [segment.length for segment in segments(part, 3, 5)] == lengths
    others = [part.lengths(*pair) for pair in ((3, 6), (5, 3), (0, 0), (2**63 - 1, 0))]
    assert lengths not in others
    assert all(sum(other) == sum(lengths) and len(other) == len(lengths) for other in others)


def test_lengths_are_about_the_usual_one_with_some_halves():
    part = TrainingText(ids(1_000_001), 1, 35)
    lengths = np.array(part.lengths(0, 0))
    assert sum(lengths) == 1_000_000
    assert abs(lengths.mean() - 35 * 0.975) < 0.01
    assert abs((lengths < 17.5).mean() - 0.05 / 2) < 0.004
    # Within 5.5 of 35 are 72.9 % of the others: 1.1 standard deviations.
    assert abs((abs(lengths - 35) <= 5).mean() - 0.95 * 0.729) < 0.015
    assert lengths.min() >= 5
    assert abs(np.median(lengths) - 35) <= 1


@pytest.mark.parametrize("rows", [35, 36, 50, 100, 333])
@pytest.mark.parametrize("sequence", [1, 2, 5, 9, 35])
def test_every_length_is_one_at_least_in_any_text(rows, sequence):
    part = TrainingText(ids(rows + 1), 1, sequence)
    for seed in range(20):
        lengths = part.lengths(seed, 0)
        assert sum(lengths) == rows
        assert len(lengths) == len(part)
        assert min(lengths) >= min(5, rows // len(part))


def test_the_steering_text_goes_round_across_epochs():
    part = SteeringText(ids(3 * 24 + 1), 3, 10, batches=4)
    assert isinstance(part, DataPart)
    assert len(part) == 4
    found = [segment for epoch in range(3) for segment in segments(part, epoch, epoch)]
    starts = [segment.tokens[0].tolist() for segment in found]
    assert starts[:4] == [[0, 24, 48], [10, 34, 58], [20, 44, 68], [0, 24, 48]]
    assert starts[3:] == [starts[number % 3] for number in range(3, 12)]
    assert [segment.length for segment in found] == [10, 10, 4] * 4
    assert [segment.first for segment in found] == [True, False, False] * 4
    assert not any(segment.training for segment in found)
    check_neighbours(found[:3])
    assert [s.tokens[0].tolist() for s in segments(part, 5, 1)] == starts[4:8]  # of an epoch alone


@pytest.mark.parametrize(
    "count, columns, sequence", [(1001, 4, 10), (1000, 7, 35), (36, 1, 35), (12, 11, 3), (2, 1, 1)]
)
def test_an_evaluation_has_each_word_and_target_once(count, columns, sequence):
    part = EvaluationText(ids(count), columns, sequence)
    assert isinstance(part, DataPart)
    found = segments(part)
    assert len(found) == len(part)
    check_neighbours(found)
    tokens, targets = columns_of(found)
    real = targets >= 0
    assert sorted(tokens[real].tolist()) == list(range(count - 1))
    assert sorted(targets[real].tolist()) == list(range(1, count))
    assert bool((targets[~real] == -100).all())
    assert bool(real[:-1].all())  # only a last row has columns that have ended
    assert sum(segment.count for segment in found) == count - 1
    assert [segment.count for segment in found] == [int((s.targets >= 0).sum()) for s in found]
    assert all(segment.length == sequence for segment in found[:-1])
    assert [segment.first for segment in found] == [True] + [False] * (len(found) - 1)
    assert not any(segment.training for segment in found)
    again = segments(part, 4, 7)
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(found, again, strict=True))


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_the_columns(ranks):
    def make(cls, columns, shard=(0, 1), **more):
        return cls(ids(500), columns, 10, shard, **more)

    for cls, more in ((TrainingText, {}), (SteeringText, {"batches": 5})):
        whole = segments(make(cls, 6, **more), 2, 3)
        shares = [segments(make(cls, 6, (rank, ranks), **more), 2, 3) for rank in range(ranks)]
        for number, segment in enumerate(whole):
            parts = [share[number] for share in shares]
            assert all(part.tokens.shape[1] == 6 // ranks for part in parts)
            joined = torch.cat([part.tokens for part in parts], 1)
            assert torch.equal(joined.sort(1).values, segment.tokens.sort(1).values)
        assert {len(share) for share in shares} == {len(whole)}
    for columns in (ranks, 5, 7):
        shares = [segments(make(EvaluationText, columns, (rank, ranks))) for rank in range(ranks)]
        found = torch.cat([s.targets.flatten() for share in shares for s in share])
        assert sorted(found[found >= 0].tolist()) == list(range(1, 500))
        assert all(segment.count > 0 for share in shares for segment in share)


def test_a_row_that_only_other_processes_have_is_no_batch():
    part = EvaluationText(ids(10), 2, 4, (0, 2))  # nine targets: a column of four, one of five
    other = EvaluationText(ids(10), 2, 4, (1, 2))
    assert [[s.count for s in segments(p)] for p in (part, other)] == [[4], [4, 1]]


def test_what_processes_cannot_share_is_refused():
    with pytest.raises(ValueError, match="a batch that 2 processes share evenly, got 5 columns"):
        TrainingText(ids(500), 5, 10, (0, 2))
    with pytest.raises(ValueError, match="a batch that 4 processes share evenly, got 6 columns"):
        SteeringText(ids(500), 6, 10, (0, 4), batches=2)
    with pytest.raises(
        ValueError, match=r"a column of text or more for each of 2 processes, got 1: use a larger"
    ):
        EvaluationText(ids(500), 1, 10, (0, 2))


def test_a_text_that_is_too_short_is_refused():
    message = r"expected a {} text of more than {} words, {} columns of {}, got {}: use a smaller batch"
    with pytest.raises(ValueError, match=message.format("training", 40, 4, 10, 40)):
        TrainingText(ids(40), 4, 10)
    with pytest.raises(ValueError, match=message.format("validation", 40, 4, 10, 40)):
        SteeringText(ids(40), 4, 10, batches=3)
    with pytest.raises(ValueError, match=message.format("test", 40, 40, 1, 40)):
        EvaluationText(ids(40), 40, 10)
    with pytest.raises(ValueError, match=message.format("validation", 40, 40, 1, 40)):
        EvaluationText(ids(40), 40, 10, name="validation")
    assert len(TrainingText(ids(41), 4, 10)) == 1
    assert len(EvaluationText(ids(41), 40, 10)) == 1


def test_words_stay_small_numbers_until_they_are_a_batch():
    part = TrainingText(ids(500), 5, 10)
    kept = [value for value in vars(part._columns).values() if isinstance(value, torch.Tensor)]
    assert sum(value.numel() * value.element_size() for value in kept) < 500 * 4 + 200
