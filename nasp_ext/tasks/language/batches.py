# SPDX-License-Identifier: MIT
"""A text in columns side by side, and segments of them that follow each other: batches for a language model.

Down a column the text goes on, so that the hidden state behind one segment is where the next one starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nasp_ext.checks import MOST_IMAGES, check_whole
from nasp_ext.tasks.base import WHOLE, Shard
from nasp_ext.tasks.language.corpus import check_ids

NO_TARGET = -100  # what cross_entropy of PyTorch leaves out

# Lengths of training segments as Merity et al. (2018) draw them, which DARTS and NASP train with.
_HALVED, _JITTER, _SHORTEST = 0.05, 5.0, 5


@dataclass(frozen=True, eq=False)
class Segment:
    """Some rows of the columns of a text.

    Args:
        tokens: (T, B) int64, numbers of words.
        targets: (T, B) int64, the word after each token; -100 where the column has ended, which only happens
            in the last row of an evaluation.
        first: the hidden state starts anew here.
        count: targets that are words.
        training: the loss is the one that weights train with, penalties and all.
    """

    tokens: Tensor
    targets: Tensor
    first: bool
    count: int
    training: bool = False

    @property
    def length(self) -> int:
        """T, the rows."""
        return self.tokens.shape[0]


class Columns:
    """A text of n words as columns of word and next word.

    Args:
        ids: (n,) int32.
        starts: where each column starts, and lengths: how many words each has, on the CPU.
        device: where segments live.
    """

    def __init__(
        self, ids: Tensor, starts: Tensor, lengths: Tensor, device: torch.device | str = "cpu"
    ) -> None:
        self._ids, self._starts = ids.to(device), starts.to(device)
        self._lengths = lengths
        self.rows = int(lengths.max())
        self._even = bool((lengths == self.rows).all())

    @classmethod
    def overlapping(cls, ids: Tensor, columns: int, shard: Shard, device: torch.device | str) -> Columns:
        """Columns of one length that together are the whole text.

        Where it does not divide, fewer words than there are columns stand in two of them: none is left out.
        Each of several processes has as many of the columns.

        Raises:  ValueError: processes cannot share the columns evenly.
        """
        rank, ranks = shard
        if columns % ranks:
            raise ValueError(
                f"expected a batch that {ranks} processes share evenly, got {columns} columns of text: use "
                "a multiple of the number of processes"
            )
        length = -((1 - len(ids)) // columns)
        starts = torch.arange(columns) * (len(ids) - 1 - length) // max(columns - 1, 1)
        return cls(ids, starts[rank::ranks], torch.full((columns // ranks,), length), device)

    @classmethod
    def disjoint(cls, ids: Tensor, columns: int, shard: Shard, device: torch.device | str) -> Columns:
        """Columns whose lengths differ by one at most, so that each word is in one of them.

        Raises:  ValueError: there are fewer columns than processes.
        """
        rank, ranks = shard
        if columns < ranks:
            raise ValueError(
                f"expected a column of text or more for each of {ranks} processes, got {columns}: use a "
                "larger batch to evaluate with"
            )
        bounds = torch.arange(columns + 1) * (len(ids) - 1) // columns
        return cls(ids, bounds[:-1][rank::ranks], bounds.diff()[rank::ranks], device)

    def segment(self, begin: int, end: int, first: bool, training: bool = False) -> Segment:
        """Rows begin … end - 1 of every column."""
        rows = torch.arange(begin, end, device=self._ids.device)[:, None]
        places = rows + self._starts
        if self._even:
            targets = self._ids[places + 1].long()
        else:
            places = places.clamp(max=len(self._ids) - 2)
            ended = rows >= self._lengths.to(rows.device)
            targets = self._ids[places + 1].long().masked_fill(ended, NO_TARGET)
        count = int((self._lengths - begin).clamp(0, end - begin).sum())
        return Segment(self._ids[places].long(), targets, first, count, training)


class TrainingText:
    """The text that weights train on: the whole of it in each epoch, in segments of random lengths.

    Lengths are drawn as for the AWD-LSTM: about ``sequence``, in 5 % of the draws half of it, with a normal
    jitter of 5, at least 5. There each epoch goes on until the text ends, in more or fewer segments; here all
    lengths of an epoch are stretched by one factor near 1, so that every epoch has as many segments.

    Args:
        ids: (n,) int32, n > columns × sequence.
        columns: B, of all processes together.
        sequence: T, the usual length of a segment.
        shard: (rank, ranks), the process and how many there are; device: where batches live.
    Raises:
        ValueError: the text is too short, or processes cannot share the columns evenly.
        TypeError: ``ids`` are no such tensor, or a number is no whole one.

    >>> text = TrainingText(torch.arange(100, dtype=torch.int32), 2, 10)
    >>> len(text), sum(segment.length for segment in text.epoch())
    (5, 50)
    """

    def __init__(
        self,
        ids: Tensor,
        columns: int,
        sequence: int,
        shard: Shard = WHOLE,
        device: torch.device | str = "cpu",
    ) -> None:
        check_text("training", ids, columns, sequence)
        self._columns = Columns.overlapping(ids, columns, shard, device)
        self._sequence = sequence
        usual = sequence * (1 - _HALVED / 2)
        self._segments = min(max(round(self._columns.rows / usual), 1), self._columns.rows)

    def __len__(self) -> int:
        """Segments in each epoch."""
        return self._segments

    def epoch(self, seed: int = 0, epoch: int = 0) -> Iterator[Segment]:
        """The segments of an epoch; (seed, epoch) fixes their lengths, and the first starts anew."""
        begin = 0
        for length in self.lengths(seed, epoch):
            yield self._columns.segment(begin, begin + length, first=begin == 0, training=True)
            begin += length

    def lengths(self, seed: int, epoch: int) -> list[int]:
        """The rows of each segment of an epoch."""
        draw = np.random.default_rng([seed, epoch])
        rows, count = self._columns.rows, self._segments
        shortest = min(_SHORTEST, rows // count)
        usual = np.where(draw.random(count) < _HALVED, self._sequence / 2, self._sequence)
        drawn = np.maximum(draw.normal(usual, _JITTER), _SHORTEST)
        over = np.cumsum(drawn - shortest + 1e-9)  # what each has beyond the shortest; never 0 in all
        ends = np.rint(over / over[-1] * (rows - shortest * count)).astype(np.int64)
        lengths: list[int] = (np.diff(ends, prepend=0) + shortest).tolist()
        return lengths


class SteeringText:
    """The text that steers a search, in segments of one length; it goes round from epoch to epoch.

    Batch k of epoch e is segment e · batches + k of a text that starts anew after its end.

    Args:
        batches: in each epoch; else as of ``TrainingText``.
    Raises:
        ValueError, TypeError: as for ``TrainingText``.

    >>> text = SteeringText(torch.arange(22, dtype=torch.int32), 2, 5, batches=3)
    >>> [(s.tokens[0].tolist(), s.first) for epoch in (0, 1) for s in text.epoch(epoch=epoch)][:4]
    [([0, 10], True), ([5, 15], False), ([10, 20], False), ([0, 10], True)]
    """

    def __init__(
        self,
        ids: Tensor,
        columns: int,
        sequence: int,
        shard: Shard = WHOLE,
        device: torch.device | str = "cpu",
        *,
        batches: int,
    ) -> None:
        check_text("validation", ids, columns, sequence)
        check_whole("batches", batches, 1, MOST_IMAGES)
        self._columns = Columns.overlapping(ids, columns, shard, device)
        self._sequence, self._batches = sequence, batches

    def __len__(self) -> int:
        """Segments in each epoch."""
        return self._batches

    def epoch(self, seed: int = 0, epoch: int = 0) -> Iterator[Segment]:
        """The segments that follow those of the epoch before; nothing of them is random."""
        rows = self._columns.rows
        round_ = -(-rows // self._sequence)
        for number in range(epoch * self._batches, (epoch + 1) * self._batches):
            begin = number % round_ * self._sequence
            yield self._columns.segment(begin, min(begin + self._sequence, rows), first=begin == 0)


class EvaluationText:
    """A text that is evaluated: each word once, and each but the first as a target once.

    Args:
        ids: (n,) int32, n > columns; else as of ``TrainingText``.
        name: of the text, for messages.
    Raises:
        ValueError: the text is too short, or there are fewer columns than processes.
        TypeError: as for ``TrainingText``.

    >>> text = EvaluationText(torch.arange(6, dtype=torch.int32), 2, 2)
    >>> [segment.targets.tolist() for segment in text.epoch()]
    [[[1, 3], [2, 4]], [[-100, 5]]]
    """

    def __init__(
        self,
        ids: Tensor,
        columns: int,
        sequence: int,
        shard: Shard = WHOLE,
        device: torch.device | str = "cpu",
        *,
        name: str = "test",
    ) -> None:
        check_text(name, ids, columns, sequence, evaluated=True)
        self._columns = Columns.disjoint(ids, columns, shard, device)
        self._sequence = sequence

    def __len__(self) -> int:
        """Segments."""
        return -(-self._columns.rows // self._sequence)

    def epoch(self, seed: int = 0, epoch: int = 0) -> Iterator[Segment]:
        """The segments, always the same."""
        rows = self._columns.rows
        for begin in range(0, rows, self._sequence):
            yield self._columns.segment(begin, min(begin + self._sequence, rows), first=begin == 0)


def check_text(name: str, ids: Tensor, columns: int, sequence: int, *, evaluated: bool = False) -> None:
    """Raise ValueError unless a text fills its columns with one segment each, and has a word more.

    Args:    evaluated: a word in each column will do.
    Raises:  TypeError: ``ids`` are no tensor (n,) int32, or a number is no whole one.
    """
    check_ids(f"{name} text", ids)
    check_whole("columns", columns, 1, MOST_IMAGES)
    check_whole("sequence", sequence, 1, MOST_IMAGES)
    rows = 1 if evaluated else sequence
    smaller = "a smaller batch to evaluate with" if evaluated else "a smaller batch, shorter sequences"
    if len(ids) <= columns * rows:
        raise ValueError(
            f"expected a {name} text of more than {columns * rows:,} words, {columns:,} columns of {rows:,}, "
            f"got {len(ids):,}: use {smaller} or a longer text"
        )
