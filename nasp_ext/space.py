# SPDX-License-Identifier: MIT
"""Search spaces of cells: which operation may stand on which edge."""

from dataclasses import dataclass

import torch
from torch import Tensor

NONE = "none"


@dataclass(frozen=True)
class SearchSpace:
    """A cell space, one choice per edge: rows 0 … edges-1 are the normal cell, the rest the reduction.

    Edges are numbered node by node, sources ascending: with two inputs, node 0 has the sources 0, 1 (the
    outputs of the two cells before), node 1 has 0, 1, 2 (2 is node 0), and so on.

    Args:
        name: the name it is found by.
        normal, reduce: names of the primitives an edge of the cell may hold, in the order of the options.
        nodes: intermediate nodes of a cell; inputs: cell inputs; edges_per_node: edges a node keeps.
    Raises:
        ValueError: if a list is empty or repeats a name, or a number is too small.

    >>> space("darts").edges, space("darts").rows, space("darts").options
    (14, 28, 8)
    """

    name: str
    normal: tuple[str, ...]
    reduce: tuple[str, ...]
    nodes: int = 4
    inputs: int = 2
    edges_per_node: int = 2

    def __post_init__(self) -> None:
        for cell in ("normal", "reduce"):
            names = tuple(getattr(self, cell))
            object.__setattr__(self, cell, names)
            if not names or len(set(names)) != len(names):
                raise ValueError(f"expected {cell} primitives without repetition, at least one, got {names}")
        if self.nodes < 1 or not 1 <= self.edges_per_node <= self.inputs:
            found = f"nodes={self.nodes}, inputs={self.inputs}, edges_per_node={self.edges_per_node}"
            raise ValueError(f"expected nodes >= 1 and 1 <= edges_per_node <= inputs, got {found}")
        if self.inputs != 2:
            raise ValueError(f"expected a cell of 2 inputs (the two cells before it), got {self.inputs}")

    @property
    def cell_edges(self) -> tuple[tuple[int, int], ...]:
        """(node, source) of every edge of one cell; nodes count from 0, sources from the cell inputs."""
        return tuple((node, source) for node in range(self.nodes) for source in range(self.inputs + node))

    @property
    def edges(self) -> int:
        return len(self.cell_edges)

    @property
    def rows(self) -> int:
        """R, the rows of A."""
        return 2 * self.edges

    @property
    def options(self) -> int:
        """K, the columns of A: the length of the longest row."""
        return max(len(self.normal), len(self.reduce))

    @property
    def node_offsets(self) -> tuple[int, ...]:
        """Row bounds of the nodes, normal cell first: node n owns rows offsets[n] … offsets[n + 1] - 1."""
        bounds = [0]
        for node in 2 * tuple(range(self.nodes)):
            bounds.append(bounds[-1] + self.inputs + node)
        return tuple(bounds)

    @property
    def concat(self) -> tuple[int, ...]:
        """The states whose concatenation is the output of a cell: all intermediate nodes."""
        return tuple(range(self.inputs, self.inputs + self.nodes))

    def is_reduction(self, row: int) -> bool:
        return self._checked(row) >= self.edges

    def primitives(self, row: int) -> tuple[str, ...]:
        """The options of a row, without the masked ones."""
        return self.reduce if self.is_reduction(row) else self.normal

    def edge(self, row: int) -> tuple[int, int]:
        """(node, source) of a row."""
        return self.cell_edges[self._checked(row) % self.edges]

    def mask(self) -> Tensor:
        """(R, K) bool: True where the option exists."""
        lengths = torch.tensor([len(self.primitives(row)) for row in range(self.rows)])
        return torch.arange(self.options) < lengths[:, None]

    def selectable(self) -> Tensor:
        """(R, K) bool: the mask without `none`, which no derived cell of the literature keeps."""
        keep = self.mask()
        for row in range(self.rows):
            if NONE in self.primitives(row):
                keep[row, self.primitives(row).index(NONE)] = False
        return keep

    def _checked(self, row: int) -> int:
        if not 0 <= row < self.rows:
            raise ValueError(f"expected a row of space {self.name!r} in 0..{self.rows - 1}, got {row}")
        return row


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

_SPACES = {
    "darts": SearchSpace("darts", _DARTS, _DARTS),
    "nasp": SearchSpace("nasp", _NASP_NORMAL, _NASP_REDUCE),
}


def space(name: str) -> SearchSpace:
    """The registered space of that name.

    Raises:  ValueError: if there is none; the message lists the names.
    >>> space("nasp").primitives(14)
    ('skip_connect', 'avg_pool_3x3', 'max_pool_3x3', 'max_pool_5x5', 'max_pool_7x7')
    """
    if name not in _SPACES:
        raise ValueError(f"expected the name of a search space, one of {sorted(_SPACES)}, got {name!r}")
    return _SPACES[name]


def register_space(new: SearchSpace) -> SearchSpace:
    """Make a space of one's own known by its name; registering an equal one again is allowed.

    Raises:  ValueError: if the name belongs to a different space.
    """
    if _SPACES.setdefault(new.name, new) != new:
        raise ValueError(f"expected a new name for a search space, got {new.name!r}, which is taken")
    return new
