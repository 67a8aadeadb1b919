# SPDX-License-Identifier: MIT
"""From gates to a genotype and to the network of one architecture, whatever their family."""

from typing import Any, Protocol

from torch import nn

from nasp_ext.arch.family import family_of
from nasp_ext.arch.gates import Gates
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace, check_made_for


class Chooser(Protocol):
    """A strategy, as far as deriving goes."""

    def best(self) -> Gates: ...


def genotype_of(space: SearchSpace, gates: Gates) -> AnyGenotype:
    """The cells in which the active options stand: what the search used, edge for edge.

    Args:    gates: weight (R, K), discrete.
    Raises:  ValueError: if the gates are dense, of another space, or choose an option their row lacks.

    >>> import torch
    >>> from nasp_ext.arch import space
    >>> gates = Gates(torch.zeros(28, 8), (4, 3) + (-1,) * 26)
    >>> genotype_of(space("darts"), gates).cell_edges("normal")
    ((0, 'sep_conv_3x3', 0), (0, 'skip_connect', 1))
    """
    family_of(space)  # one that nobody knows has no genotypes
    return space.genotype(gates)


def derive(supernet: nn.Module, gates: Gates | Chooser, *, inherit_weights: bool = False) -> Any:
    """The network of the one architecture that the gates choose, at the sizes of the supernet.

    With inherited weights it is the supernet at those gates: the same logits, also the same BatchNorm
    statistics. An active weight other than 1 becomes a factor of its edge; where the supernet takes channels
    past its options, so does it. Without, it is the network that a retraining starts from: BatchNorms learn a
    scale, pools have none, every factor is 1, all channels go through the operations.

    Args:
        supernet: as ``nasp_ext.supernet`` makes it; its attribute ``space`` says of what.
        gates: discrete gates, or a strategy made for the space of the supernet, which is asked for its best.
    Returns:
        An ``nn.Module`` as ``derived_network`` gives it.
    Raises:
        ValueError: if ``supernet`` is a derived network, the strategy is of another space, or as
            ``genotype_of`` raises.
        TypeError: an argument of another type.
    """
    if not isinstance(supernet, nn.Module) or not hasattr(supernet, "space"):
        raise TypeError(f"expected a supernet to derive from, got {type(supernet).__name__}")
    if not isinstance(gates, Gates) and not callable(getattr(gates, "best", None)):
        raise TypeError(f"expected Gates, or a strategy, which has best(), got {type(gates).__name__}")
    space: Any = supernet.space
    if space is None:
        raise ValueError("expected a supernet to derive from, got a derived network")
    if not isinstance(gates, Gates):
        check_made_for(getattr(gates, "space", None), space)
        gates = gates.best()
    return family_of(space).derive(supernet, gates, inherit_weights=inherit_weights)
