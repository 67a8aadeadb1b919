# SPDX-License-Identifier: MIT
"""Networks of a search space and of a genotype."""

from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor

from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.families.cells.layout import CellLayout, Norms, WiredLayout
from nasp_ext.families.cells.network import Network, NetworkSizes
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.layered.space import AnyGenotype, LayeredGenotype, LayeredSpace, checked_genotype
from nasp_ext.families.topology.space import WiredSpace

_T = TypeVar("_T")


def supernet(
    space: SearchSpace,
    channels: int = 16,
    cells: int = 8,
    classes: int = 10,
    *,
    in_channels: int = 3,
    stem_multiplier: int | None = None,
    affine: bool = False,
    pool_norm: bool | None = None,
    update_unselected_stats: bool = True,
) -> Network:
    """The network that holds every option of a space, called ``net(x, gates)``.

    Args:
        cells: in all, with the two that reduce; see ``NetworkSizes``. A LayeredSpace says how many.
        stem_multiplier: None = 3, or 1 for cells of one input; pool_norm: None = as the space says.

    >>> import torch
    >>> from nasp_ext.arch.gates import Gates
    >>> from nasp_ext.arch import space
    >>> net = supernet(space("nasp"), channels=2, cells=3)
    >>> net(torch.zeros(2, 3, 8, 8), Gates(torch.eye(28, 8), tuple(range(8)) + (-1,) * 20)).shape
    torch.Size([2, 10])
    """
    layouts, inputs, with_norm = _layouts(space)
    stem = _stem_multiplier(inputs) if stem_multiplier is None else stem_multiplier
    sizes = NetworkSizes(channels, cells, classes, in_channels, stem, _reductions(space, cells))
    norms = Norms(affine, with_norm if pool_norm is None else pool_norm, update_unselected_stats)
    net = Network(_places(layouts, sizes, isinstance(space, LayeredSpace)), sizes, norms)
    net.space = space
    return net


def _layouts(space: SearchSpace) -> tuple[Sequence[CellLayout | WiredLayout], int, bool]:
    """Each cell of a space, the inputs of a cell, whether a BN follows the pools."""
    if isinstance(space, WiredSpace):
        return [WiredLayout(space, reduction) for reduction in (False, True)], 2, space.pool_norm
    if not isinstance(space, CellSpace | LayeredSpace):
        found = type(space).__name__
        raise TypeError(f"expected a CellSpace, a LayeredSpace or a WiredSpace, got {found}")
    cell = space.cell if isinstance(space, LayeredSpace) else space
    return [CellLayout.of_space(space, rows) for rows in space.cell_rows], cell.inputs, cell.pool_norm


def derived_network(
    genotype: AnyGenotype,
    channels: int = 36,
    cells: int = 20,
    classes: int = 10,
    *,
    in_channels: int = 3,
    stem_multiplier: int | None = None,
    auxiliary: bool = False,
    affine: bool = True,
    pool_norm: bool = False,
    drop_path: float = 0.0,
    coefficients: Sequence[Tensor | None] | None = None,
    partial_channels: int = 1,
    fused: bool | None = None,
) -> Network:
    """The network of a genotype, called ``net(x)``.

    Args:
        cells, stem_multiplier: see ``supernet``.
        auxiliary: see ``Network``; drop_path: first value of ``net.drop_path_prob``.
        coefficients: factors of the edges of each cell of the genotype, None = 1.
        partial_channels: as of the space of a supernet whose weights it is to take.
        fused: run the fused operators where they can; None = on the CPU.

    >>> from nasp_ext.families.cells.genotype import GENOTYPES
    >>> net = derived_network(GENOTYPES["DARTS_V2"])
    >>> sum(p.numel() for p in net.parameters())
    3349342
    """
    inputs = checked_genotype(genotype).inputs
    stem = _stem_multiplier(inputs) if stem_multiplier is None else stem_multiplier
    sizes = NetworkSizes(channels, cells, classes, in_channels, stem, _reductions(genotype, cells))
    layered = isinstance(genotype, LayeredGenotype)
    layouts = [CellLayout.of_genotype(genotype, cell, partial_channels) for cell in genotype.cells]
    net = Network(
        _places(layouts, sizes, layered),
        sizes,
        Norms(affine, pool_norm),
        coefficients=None if coefficients is None else _places(coefficients, sizes, layered),
        auxiliary=auxiliary,
        drop_path=drop_path,
    )
    net.genotype, net.fused = genotype, fused
    return net


def _reductions(found: SearchSpace | AnyGenotype, cells: int) -> tuple[int, int] | None:
    """Where the layers reduce; another number of cells is refused by ``_places``."""
    if isinstance(found, LayeredSpace):
        return found.reductions if cells == found.cells else None
    return found.reductions if isinstance(found, LayeredGenotype) and cells == len(found.layers) else None


def _places(cells: Sequence[_T], sizes: NetworkSizes, layered: bool) -> Sequence[_T | None]:
    """What stands in each place of the network.

    Args:
        cells: of each layer if ``layered``; else of the normal and the reduction cell, or of the only one,
            which leaves the places of reductions to residual blocks (None).
    """
    if layered:
        if len(cells) != sizes.cells:
            raise ValueError(f"expected cells={len(cells)}, as each layer has its own, got {sizes.cells}")
        return cells
    both = (cells[0], cells[1] if len(cells) > 1 else None)
    return [both[sizes.reduces(number)] for number in range(sizes.cells)]


def _stem_multiplier(inputs: int) -> int:
    """Cells of one input have no preprocessing: the stem gives them their channels."""
    return 3 if inputs == 2 else 1
