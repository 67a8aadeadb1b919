# SPDX-License-Identifier: MIT
"""One class for the supernet of a search and for the network derived from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasp_ext.arch.gates import Choice, Gates
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.checks import MOST_CHANNELS, MOST_OF, check_whole
from nasp_ext.families.cells.cell import Cell
from nasp_ext.families.cells.heads import AuxiliaryHead
from nasp_ext.families.cells.layout import CellMaker, NetworkCell, Norms, Place
from nasp_ext.families.cells.residual import ResidualBlock
from nasp_ext.nn.foreign import UnwrappedNames
from nasp_ext.nn.fused.autograd import run_cell
from nasp_ext.nn.fused.plan import CellPlan
from nasp_ext.nn.fused.policy import Fusion, plain_modules, why_not_fused
from nasp_ext.nn.fused.watch import Watch


def reduction_cells(cells: int) -> tuple[int, int]:
    """The places, from 0, of the cells that reduce: 1/3 and 2/3 of the depth.

    >>> reduction_cells(8)
    (2, 5)
    """
    return cells // 3, 2 * cells // 3


@dataclass(frozen=True)
class NetworkSizes:
    """Sizes of a network.

    Args:
        channels: C of the first cells, doubled in each reduction.
        cells: how many, residual blocks counted: 3 N + 2 gives three stages of N between two reductions.
        stem_multiplier: the stem has this many times C channels.
    """

    channels: int
    cells: int
    classes: int
    in_channels: int = 3
    stem_multiplier: int = 3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_whole(name, value, 1, MOST_OF.get(name, MOST_CHANNELS))

    def reduces(self, cell: int) -> bool:
        """Reductions stand at 1/3 and 2/3 of the depth."""
        return cell in reduction_cells(self.cells)


class Network(UnwrappedNames):
    """A stack of cells between a convolutional stem and a linear classifier (Liu et al. 2019).

    Where there is one kind of cell, residual blocks stand in the places of the reduction cells, and a BN and
    a ReLU in front of the pool of the classifier (Dong & Yang 2020).

    Built by ``supernet`` and ``derived_network``. Attributes: ``sizes``; ``space`` of a supernet, else None;
    ``genotype`` of a derived network, else None; ``drop_path_prob`` and ``fused`` (see ``derived_network``),
    which may be set anew at any time.

    Args:
        makers: of the cell in each place, None for a residual block.
        auxiliary: a second classifier after 2/3 of the depth; in training mode the output is then
            (logits, auxiliary logits).
    """

    def __init__(
        self,
        makers: Sequence[CellMaker | None],
        sizes: NetworkSizes,
        norms: Norms,
        *,
        auxiliary: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ValueError(f"expected drop_path in [0, 1), got {drop_path}")
        found_cells = [maker for maker in makers if maker is not None]
        if not found_cells:
            raise ValueError(
                f"expected cells >= 3, because residual blocks take two places, got {sizes.cells}"
            )
        if found_cells[0].inputs == 1 and sizes.stem_multiplier != 1:
            found = sizes.stem_multiplier
            raise ValueError(f"expected stem_multiplier=1 for cells of one input, got {found}")
        self.sizes, self.norms = sizes, norms
        self.space: SearchSpace | None = None
        self.genotype: AnyGenotype | None = None
        self.drop_path_prob = drop_path
        self.fused: bool | None = None
        self._fusion = Fusion()
        width = sizes.stem_multiplier * sizes.channels
        stem_conv = nn.Conv2d(sizes.in_channels, width, 3, padding=1, bias=False)
        self.stem = nn.Sequential(stem_conv, nn.BatchNorm2d(width))
        self.cells = nn.ModuleList()
        previous, channels, shrunk = (width, width), sizes.channels, False
        for number, maker in enumerate(makers):
            reduction = sizes.reduces(number)
            channels *= 1 + reduction
            place = Place(previous, channels, reduction, shrunk)
            if maker is None:
                cell: NetworkCell = ResidualBlock(previous[1], channels)
            else:
                cell = maker(place, norms)
            width = channels if maker is None else maker.width * channels
            self.cells.append(cell)
            previous, shrunk = (previous[1], width), reduction
            if number == self._auxiliary_cell and auxiliary:
                self.auxiliary_head = AuxiliaryHead(previous[1], sizes.classes)
        self.auxiliary = auxiliary
        residual = len(found_cells) < len(makers)
        self.head = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU()) if residual else nn.Identity()
        self.classifier = nn.Linear(previous[1], sizes.classes)

    def cell_list(self) -> list[Cell]:
        """The cells with a choice per edge, in order."""
        return [cell for cell in self.cells if isinstance(cell, Cell)]

    @property
    def _auxiliary_cell(self) -> int:
        return 2 * self.sizes.cells // 3

    def forward(self, x: Tensor, gates: Gates | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """(B, in_channels, H, W) -> logits (B, classes); in training with an auxiliary head two of them.

        Args:    gates: the architecture, for a supernet only.
        Raises:  ValueError: if gates are missing, superfluous or of another space.
        """
        if x.dim() != 4 or x.shape[1] != self.sizes.in_channels:
            raise ValueError(f"expected x (B, {self.sizes.in_channels}, H, W), got {tuple(x.shape)}")
        choices = self._choices(gates)
        if self.runs_fused(x.device.type):
            return self._run(x, gates, choices)
        with plain_modules():
            return self._run(x, gates, choices)

    def runs_fused(self, device: str) -> bool:
        """Whether the fused operators run on a kind of device, where they can.

        Not the ones of derived networks on CUDA, unless ``fused`` is True: by the instructions that they
        execute they take about four times as long there as PyTorch's own kernels.
        """
        if self.fused is not None:
            return self.fused
        return self.genotype is None or device != "cuda"

    def _run(
        self, x: Tensor, gates: Gates | None, choices: list[Choice] | None
    ) -> Tensor | tuple[Tensor, Tensor]:
        gates_weight = None if gates is None else gates.weight
        s0 = s1 = self._stem(x)
        auxiliary_logits = None
        for number, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1, choices, self.drop_path_prob, gates_weight)
            if self.auxiliary and self.training and number == self._auxiliary_cell:
                auxiliary_logits = self.auxiliary_head(s1)
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(self.head(s1), 1).flatten(1))
        return logits if auxiliary_logits is None else (logits, auxiliary_logits)

    def _stem(self, x: Tensor) -> Tensor:
        if why_not_fused(x) is None:
            plan = self._fusion.plan(self, self._plan)
            if plan is not None:
                return run_cell(plan, (x,), None, (0,))
        out: Tensor = self.stem(x)
        return out

    def _plan(self) -> CellPlan:
        watched = Watch(mappings=[self._modules])
        return CellPlan((None,), [(0, 0, [self.stem], None, True)], 1, (1,), watched)

    def weight_parameters(self) -> list[nn.Parameter]:
        """What the weight optimizer trains: all parameters, for the architecture is none of the network's."""
        return list(self.parameters())

    def option_costs(self) -> Tensor:
        """(R, K) float64: parameters of each option of a supernet, counted in all cells of the row.

        Raises:  ValueError: for a derived network, which has no options, and where options depend on others.
        """
        if self.space is None or not self.space.has_gradient:
            found = "a derived network" if self.space is None else f"one of space {self.space.name!r}"
            raise ValueError(f"expected a supernet with a choice per edge to count the costs, got {found}")
        costs = torch.zeros(self.space.rows, self.space.options, dtype=torch.float64)
        for cell in self.cell_list():
            for row, mixed in cell.mixed_edges():
                for option, module in enumerate(mixed._ops):
                    costs[row, option] += sum(p.numel() for p in module.parameters())
        return costs

    def _choices(self, gates: Gates | None) -> list[Choice] | None:
        if self.space is None:
            if gates is not None:
                raise ValueError(
                    "expected no gates for a derived network, got some: its architecture is fixed"
                )
            return None
        expected = (self.space.rows, self.space.options)
        if not isinstance(gates, Gates):
            raise ValueError(f"expected Gates with weight {expected}, got {type(gates).__name__}")
        if gates.weight.shape != expected:
            raise ValueError(
                f"expected gates of space {self.space.name!r}, {expected}, got {tuple(gates.weight.shape)}"
            )
        return gates.choices()
