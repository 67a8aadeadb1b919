# SPDX-License-Identifier: MIT
"""How an architecture changed over a search (Yao et al., AAAI 2020, Fig. 4): drawn, and in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean
from typing import Any

from nasp_ext.arch.gates import PRUNED
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.plots import Heatmap

History = Sequence[Mapping[str, Any]]
_Matrix = list[list[float]]


@dataclass(frozen=True)
class Steadiness:
    """Means over the rows of A and over pairs of consecutive epochs.

    Args:
        best: share of rows whose option of largest score is another one than the epoch before.
        derived: share of rows in which the derived architecture is another one, pruned rows included.
        ran: ½‖Δ‖₁ of the rows of what ran: of the scores, or of the one-hot Ā.
    """

    best: float
    derived: float
    ran: float


def steadiness(history: History, *, dense: bool) -> Steadiness:
    """How much an architecture changed from epoch to epoch.

    Args:
        history: lines of a search, with scores and active options.
        dense: the search ran mixtures with its scores as weights (DARTS); else its active options.
    Raises:
        ValueError: fewer than two epochs.

    >>> line = {"scores": [[0.5, 0.5]], "active": [0]}
    >>> steadiness([line, {"scores": [[0.25, 0.75]], "active": [0]}], dense=True)
    Steadiness(best=1.0, derived=0.0, ran=0.25)
    """
    if len(history) < 2:
        raise ValueError(f"expected at least two epochs to compare, got {len(history)}")
    scores: list[_Matrix] = [line["scores"] for line in history]
    active: list[list[int]] = [line["active"] for line in history]
    best = [[row.index(max(row)) for row in matrix] for matrix in scores]
    options = len(scores[0][0])
    ran = scores if dense else [[_one_hot(option, options) for option in chosen] for chosen in active]
    return Steadiness(
        best=mean(float(a != b) for one, two in pairwise(best) for a, b in zip(one, two, strict=True)),
        derived=mean(float(a != b) for one, two in pairwise(active) for a, b in zip(one, two, strict=True)),
        ran=mean(
            sum(abs(x - y) for x, y in zip(a, b, strict=True)) / 2
            for one, two in pairwise(ran)
            for a, b in zip(one, two, strict=True)
        ),
    )


def _one_hot(option: int, options: int) -> list[float]:
    return [float(k == option) for k in range(options)]


def architecture_maps(space: SearchSpace, history: History) -> list[Heatmap]:
    """A drawing of each row of A: an epoch per line, scores as colours, the derived option as a dot.

    Raises:  ValueError: the history is of another space, or has no scores.
    """
    shape = {(len(line.get("scores", ())), len(line.get("active", ()))) for line in history}
    if shape != {(space.rows, space.rows)}:
        found = ", ".join(str(rows) for rows, _ in sorted(shape)) or "no epoch"
        raise ValueError(f"expected scores of {space.rows} rows in every epoch, got {found}")
    epochs = [str(line["epoch"]) for line in history]
    maps = []
    for row in range(space.rows):
        names = space.choices(row)
        values = [line["scores"][row][: len(names)] for line in history]
        dots = [line["active"][row] for line in history]
        marked = [None if option == PRUNED else option for option in dots]
        maps.append(Heatmap(space.title(row), values, epochs, names, marked))
    return maps
