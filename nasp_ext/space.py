# SPDX-License-Identifier: MIT
"""Search spaces: the choices that a strategy makes, and what a network makes of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

NONE = "none"


@dataclass(frozen=True)
class Space(ABC):
    """What a strategy knows of a search space: an ordered list of R choices with up to K options each.

    ``supernet`` and ``genotype_of`` know what the choices of each subclass mean.
    """

    name: str

    @property
    def edges_per_node(self) -> int | None:
        """How many rows of a node an architecture keeps, None = all."""
        return None

    @property
    def has_gradient(self) -> bool:
        """Whether the loss has a gradient with respect to the gates."""
        return True

    @property
    @abstractmethod
    def rows(self) -> int:
        """R, the rows of A."""

    @property
    @abstractmethod
    def node_offsets(self) -> tuple[int, ...]:
        """Row bounds of the nodes: node n owns rows offsets[n] … offsets[n + 1] - 1."""

    @abstractmethod
    def choices(self, row: int) -> tuple[str, ...]:
        """The names of the options of a row."""

    @property
    def options(self) -> int:
        """K, the columns of A: the length of the longest row."""
        return max(len(self.choices(row)) for row in range(self.rows))

    def mask(self) -> Tensor:
        """(R, K) bool: True where the option exists."""
        lengths = torch.tensor([len(self.choices(row)) for row in range(self.rows)])
        return torch.arange(self.options) < lengths[:, None]

    def selectable(self) -> Tensor:
        """(R, K) bool: the options that an architecture may choose."""
        return self.mask()

    def _checked(self, row: int) -> int:
        if not 0 <= row < self.rows:
            raise ValueError(f"expected a row of space {self.name!r} in 0..{self.rows - 1}, got {row}")
        return row


_S = TypeVar("_S", bound=Space)


def _check_primitives(cell: str, names: tuple[str, ...]) -> None:
    if not names or len(set(names)) != len(names):
        raise ValueError(f"expected {cell} primitives without repetition, at least one, got {names}")


@dataclass(frozen=True)
class SearchSpace(Space):
    """A cell space, one choice per edge: rows 0 … edges-1 are the normal cell, the rest the reduction.

    Edges are numbered node by node, sources ascending: with two inputs, node 0 has the sources 0, 1 (the
    outputs of the two cells before), node 1 has 0, 1, 2 (2 is node 0), and so on.

    Args:
        name: the name it is found by.
        normal, reduce: names of the primitives an edge of the cell may hold, in the order of the options.
            No ``reduce``: there is one kind of cell, and residual blocks reduce.
        nodes: intermediate nodes of a cell.
        inputs: cell inputs: 2, the two cells before, or 1, the cell before (then without ``reduce``).
        edges_per_node: edges a node keeps, None = all.
        output: "concat", all intermediate nodes side by side, or "last", the last one alone.
        none_allowed: an architecture may choose ``none``; else it only takes part in mixtures.
        pool_norm: in a supernet a BN(affine=False) follows each pool.
    Raises:
        ValueError: if a list is empty or repeats a name, a number is too small, or parts do not fit.

    >>> space("darts").edges, space("darts").rows, space("darts").options
    (14, 28, 8)
    >>> space("nas-bench-201").edges, space("nas-bench-201").rows, space("nas-bench-201").options
    (6, 6, 5)
    """

    normal: tuple[str, ...]
    reduce: tuple[str, ...] = ()
    nodes: int = 4
    inputs: int = 2
    edges_per_node: int | None = 2
    output: str = "concat"
    none_allowed: bool = False
    pool_norm: bool = True

    def __post_init__(self) -> None:
        for cell in ("normal", "reduce"):
            object.__setattr__(self, cell, tuple(getattr(self, cell)))
        if self.inputs not in (1, 2):
            raise ValueError(f"expected a cell of 2 inputs (the two cells before it) or 1, got {self.inputs}")
        _check_primitives("normal", self.normal)
        if self.inputs == 2:
            _check_primitives("reduce", self.reduce)
        elif self.reduce:
            found = f"{self.reduce}: residual blocks reduce"
            raise ValueError(f"expected no reduce primitives beside cells of 1 input, got {found}")
        kept = self.edges_per_node
        if self.nodes < 1 or not (kept is None or 1 <= kept <= self.inputs):
            found = f"nodes={self.nodes}, inputs={self.inputs}, edges_per_node={kept}"
            raise ValueError(f"expected nodes >= 1 and edges_per_node None or 1 … inputs, got {found}")
        if self.output not in ("concat", "last"):
            raise ValueError(f"expected output to be 'concat' or 'last', got {self.output!r}")

    @property
    def cell_edges(self) -> tuple[tuple[int, int], ...]:
        """(node, source) of every edge of one cell; nodes count from 0, sources from the cell inputs."""
        return tuple((node, source) for node in range(self.nodes) for source in range(self.inputs + node))

    @property
    def edges(self) -> int:
        return len(self.cell_edges)

    @property
    def kinds(self) -> int:
        """2 with reduction cells, else 1."""
        return 2 if self.reduce else 1

    @property
    def rows(self) -> int:
        """R, the rows of A."""
        return self.kinds * self.edges

    @property
    def cell_rows(self) -> tuple[range, ...]:
        """The rows of each kind of cell."""
        return tuple(range(first, first + self.edges) for first in range(0, self.rows, self.edges))

    @property
    def node_offsets(self) -> tuple[int, ...]:
        """Row bounds of the nodes, normal cell first: node n owns rows offsets[n] … offsets[n + 1] - 1."""
        bounds = [0]
        for node in self.kinds * tuple(range(self.nodes)):
            bounds.append(bounds[-1] + self.inputs + node)
        return tuple(bounds)

    @property
    def concat(self) -> tuple[int, ...]:
        """The states whose concatenation is the output of a cell."""
        states = tuple(range(self.inputs, self.inputs + self.nodes))
        return states if self.output == "concat" else states[-1:]

    def is_reduction(self, row: int) -> bool:
        return self._checked(row) >= self.edges

    def primitives(self, row: int) -> tuple[str, ...]:
        """The options of a row, without the masked ones."""
        return self.reduce if self.is_reduction(row) else self.normal

    def choices(self, row: int) -> tuple[str, ...]:
        return self.primitives(row)

    def edge(self, row: int) -> tuple[int, int]:
        """(node, source) of a row."""
        return self.cell_edges[self._checked(row) % self.edges]

    def selectable(self) -> Tensor:
        """(R, K) bool: the mask, without ``none`` unless the space allows it."""
        keep = self.mask()
        for row in range(self.rows):
            if NONE in self.primitives(row) and not self.none_allowed:
                keep[row, self.primitives(row).index(NONE)] = False
        return keep


# Liu, Simonyan, Yang 2019 (DARTS), section 3.1; NASP searches it without `none`: `selectable()`.
_DARTS = (
    NONE,
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
# Yao et al. 2020, appendix B.3, as in the authors' released space (the printed list lacks sep_conv_7x7).
_NASP_NORMAL = (
    "skip_connect",
    "conv_3x1_1x3",
    "dil_conv_3x3",
    "conv_1x1",
    "conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
)
_NASP_REDUCE = ("skip_connect", "avg_pool_3x3", "max_pool_3x3", "max_pool_5x5", "max_pool_7x7")

# Dong & Yang 2020 (NAS-Bench-201), section 2.1.
_NAS_BENCH_201 = (NONE, "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")

DARTS = SearchSpace("darts", _DARTS, _DARTS)
NAS_BENCH_201 = SearchSpace(
    "nas-bench-201",
    _NAS_BENCH_201,
    nodes=3,
    inputs=1,
    edges_per_node=None,
    output="last",
    none_allowed=True,
    pool_norm=False,
)
_SPACES: dict[str, Space] = {
    found.name: found for found in (DARTS, SearchSpace("nasp", _NASP_NORMAL, _NASP_REDUCE), NAS_BENCH_201)
}


def space(name: str) -> Space:
    """The registered space of that name.

    Raises:  ValueError: if there is none; the message lists the names.
    >>> space("nasp").choices(14)
    ('skip_connect', 'avg_pool_3x3', 'max_pool_3x3', 'max_pool_5x5', 'max_pool_7x7')
    """
    if name not in _SPACES:
        raise ValueError(f"expected the name of a search space, one of {sorted(_SPACES)}, got {name!r}")
    return _SPACES[name]


def register_space(new: _S) -> _S:
    """Make a space of one's own known by its name; registering an equal one again is allowed.

    Raises:  ValueError: if the name belongs to a different space.
    """
    if _SPACES.setdefault(new.name, new) != new:
        raise ValueError(f"expected a new name for a search space, got {new.name!r}, which is taken")
    return new
