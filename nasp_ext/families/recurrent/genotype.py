# SPDX-License-Identifier: MIT
"""Recurrent cells as data: what a search exports and a retraining reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, ClassVar

from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.genotype_text import genotype_in
from nasp_ext.checks import shown
from nasp_ext.families.recurrent.activations import ACTIVATIONS

MOST_STEPS = 32
_LONGEST = MOST_STEPS * (MOST_STEPS + 1) // 2  # pairs of a cell
_FIELDS = ("recurrent", "concat", "nodes")


@dataclass(frozen=True)
class RecurrentGenotype(AnyGenotype):
    """A recurrent cell: (activation, predecessor) pairs, step by step (the form of Liu et al. 2019).

    State 0 comes from the input and the hidden state, state i from step i. Lists and ranges are taken.

    Args:
        recurrent: the pairs; a predecessor is a state before the step.
        concat: the states whose mean is the new hidden state.
        nodes: how many of the pairs enter each step; None = one each.
    Raises:
        ValueError: an unknown activation, a predecessor or state that does not exist, the same one twice, or
            counts that do not add up.

    >>> cell = RecurrentGenotype((("tanh", 0), ("relu", 0)), concat=range(1, 3))
    >>> cell.terms
    ((1, 0, 'tanh'), (2, 0, 'relu'))
    """

    kind: ClassVar[str] = "recurrent"
    recurrent: tuple[tuple[str, int], ...]
    concat: tuple[int, ...]
    nodes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        pairs = tuple(_pair(pair) for pair in _listed("recurrent", self.recurrent))
        counts = (1,) * len(pairs) if self.nodes is None else _listed("nodes", self.nodes)
        if not all(_is_whole(count) and count >= 0 for count in counts) or sum(counts) != len(pairs):
            raise ValueError(
                f"expected nodes to say how many of the {len(pairs)} pairs of recurrent enter each step, "
                f"got {shown(self.nodes)}"
            )
        if not 1 <= len(counts) <= MOST_STEPS:
            raise ValueError(f"expected 1 to {MOST_STEPS} steps of a recurrent cell, got {len(counts)}")
        object.__setattr__(self, "recurrent", pairs)
        object.__setattr__(self, "nodes", None if set(counts) == {1} else tuple(counts))
        for step, source, name in self.terms:
            if not 0 <= source < step:
                raise ValueError(
                    f"expected a predecessor 0 … {step - 1} of step {step}, got ({name!r}, {source})"
                )
        for (step, source, _), (after, following, _) in pairwise(self.terms):
            if after == step and following <= source:
                raise ValueError(
                    f"expected the pairs of step {step} by ascending predecessors, each once, got "
                    f"{source} and then {following}"
                )
        concat = _listed("concat", self.concat)
        states = all(_is_whole(state) and 0 <= state <= len(counts) for state in concat)
        if not concat or not states or any(after <= before for before, after in pairwise(concat)):
            raise ValueError(
                f"expected concat to be states 0 … {len(counts)}, ascending, one or more, "
                f"got {shown(self.concat)}"
            )
        object.__setattr__(self, "concat", concat)

    @property
    def steps(self) -> int:
        """N."""
        return len(self.counts_per_step)

    @property
    def counts_per_step(self) -> tuple[int, ...]:
        """How many pairs enter each step."""
        return (1,) * len(self.recurrent) if self.nodes is None else self.nodes

    @property
    def terms(self) -> tuple[tuple[int, int, str], ...]:
        """(step, predecessor, activation) of every pair; steps count from 1."""
        pairs = iter(self.recurrent)
        named = (
            (step, *next(pairs)) for step, count in enumerate(self.counts_per_step, 1) for _ in range(count)
        )
        return tuple((step, source, name) for step, name, source in named)

    @property
    def operations(self) -> tuple[str, ...]:
        """The activation of every pair."""
        return tuple(name for name, _ in self.recurrent)

    def counts(self) -> dict[str, int]:
        """What a history counts: ``identities``, the pairs without an activation."""
        return {"identities": self.operations.count("identity")}

    def to_json(self) -> str:
        """One line of JSON that ``from_json`` reads back to an equal genotype."""
        fields = {"kind": self.kind, "recurrent": self.recurrent, "concat": self.concat}
        return json.dumps(fields if self.nodes is None else {**fields, "nodes": self.nodes})

    @classmethod
    def from_json(cls, data: str | Mapping[str, Any]) -> "RecurrentGenotype":
        """Read a genotype from text, see ``from_text``, or from parsed JSON.

        Raises:  ValueError: there is none, or a field is missing, unknown or invalid.
        """
        if isinstance(data, str):
            return cls.from_text(data)
        if not isinstance(data, Mapping):
            raise ValueError(f"expected a genotype as a JSON object, got {type(data).__name__}")
        fields = {name: data[name] for name in data if name != "kind"}
        if data.get("kind", cls.kind) != cls.kind or not {*_FIELDS[:2]} <= set(fields) <= {*_FIELDS}:
            raise ValueError(
                f"expected the genotype of a recurrent cell with the fields {', '.join(_FIELDS[:2])}, got "
                f"{', '.join(map(str, data)) or 'none'}"
            )
        return cls(**fields)

    @classmethod
    def from_text(cls, text: str, which: str | int | None = None) -> "RecurrentGenotype":
        """Read a genotype as code of the field prints it: ``Genotype(recurrent=[…], concat=range(1, 9))``.

        Nothing of the text is run; it may be a dictionary or JSON of these fields, and stand in a log.

        Args:    which: the name, or the line, of the one that is meant, where the text holds several.
        Raises:  ValueError: there is none, it is invalid, or there are several.

        >>> text = "V1 = Genotype(recurrent=[('relu', 0)], concat=range(1, 2))"
        >>> RecurrentGenotype.from_text(text).recurrent
        (('relu', 0),)
        """
        found = genotype_in(text, which)
        if isinstance(found, str):
            raise ValueError(f"expected the genotype of a recurrent cell, found the cell {found:.80}")
        return cls.from_json(found)


def _listed(name: str, found: Any) -> tuple[Any, ...]:
    if isinstance(found, str | Mapping) or not hasattr(found, "__iter__"):
        raise ValueError(f"expected {name} to be a list, got {shown(found)}")
    listed = tuple(islice(found, _LONGEST + 1))
    if len(listed) > _LONGEST:
        raise ValueError(f"expected {name} to have at most {_LONGEST} entries, got more")
    return tuple(value if isinstance(value, list | tuple | str) else _plain(value) for value in listed)


def _plain(value: Any) -> Any:
    """A whole number of another library, as Python's."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return value
    try:
        return value.__index__()
    except TypeError:  # a tensor of several
        return value


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _pair(found: Any) -> tuple[str, int]:
    pair = _listed("a pair of recurrent", found)
    if len(pair) != 2 or pair[0] not in ACTIVATIONS or not _is_whole(pair[1]):
        raise ValueError(
            f"expected pairs (activation, predecessor) in recurrent, activations among "
            f"{', '.join(ACTIVATIONS)}, got {shown(found)}"
        )
    return pair[0], pair[1]
