# SPDX-License-Identifier: MIT
"""Networks of a search space and of a genotype, whatever their family."""

import inspect
from collections.abc import Callable
from typing import Any

from nasp_ext.arch.family import family_of
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.registry import space as space_named
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.families.genotypes import checked_genotype, published


def supernet(space: SearchSpace | str, *sizes: Any, **options: Any) -> Any:
    """The network that holds every option of a space, called ``net(x, gates)``.

    Args:
        space: or the name of a registered one.
        sizes, options: of networks of the space's family. Of cells, layers and wired cells they are
            ``channels=16, cells=8, classes=10, *, in_channels=3, stem_multiplier=None, affine=False,
            pool_norm=None, update_unselected_stats=True``. cells: in all, with the two that reduce, see
            ``NetworkSizes``; a LayeredSpace says how many. stem_multiplier: None = 3, or 1 for cells of one
            input; pool_norm: a BN follows the pools, None = as the space says. Of recurrent cells they are
            ``vocabulary, embedding=300, *, dropout=0.0, dropouth=0.0, dropoutx=0.0, dropouti=0.0,
            dropoute=0.0``: words, size of the embedding and of the hidden state, and ``Dropouts``.
    Returns:
        An ``nn.Module`` whose attribute ``space`` is the space; of the first three families a ``Network``, of
        recurrent cells a ``RecurrentNetwork``, called ``net(tokens, gates, hidden)``: tokens (T, B) int64,
        hidden (B, E) or None = zeros; it gives logits (T, B, V) and the hidden state (B, E).
    Raises:
        ValueError: a name or a size that does not exist; TypeError: an argument that there is none of.

    >>> import torch
    >>> from nasp_ext.arch.gates import Gates
    >>> net = supernet("nasp", channels=2, cells=3)
    >>> net(torch.zeros(2, 3, 8, 8), Gates(torch.eye(28, 8), tuple(range(8)) + (-1,) * 20)).shape
    torch.Size([2, 10])
    """
    found = space_named(space) if isinstance(space, str) else space
    if not isinstance(found, SearchSpace):
        raise TypeError(f"expected a search space or the name of one, got {type(found).__name__}")
    return _built(family_of(found).supernet, found, sizes, options)


def derived_network(genotype: AnyGenotype | str, *sizes: Any, **options: Any) -> Any:
    """The network of a genotype, called ``net(x)``.

    Args:
        genotype: or the name of a published one.
        sizes, options: of networks of the genotype's family. Of cells, shared or of each layer, they are
            ``channels=36, cells=20, classes=10, *, in_channels=3, stem_multiplier=None, auxiliary=False,
            affine=True, pool_norm=False, drop_path=0.0, coefficients=None, partial_channels=1, fused=None``.
            cells, stem_multiplier: see ``supernet``. auxiliary: see ``Network``; drop_path: first value of
            ``net.drop_path_prob``. coefficients: factors of the edges of each cell of the genotype, None = 1.
            partial_channels: as of the space of a supernet whose weights it is to take. fused: run the fused
            operators where they can; None = on the CPU. Of recurrent cells they are as of a supernet, with
            ``embedding=850``.
    Returns:
        An ``nn.Module`` whose attribute ``space`` is None; of cells a ``Network``, of recurrent cells a
        ``RecurrentNetwork``, called ``net(tokens, hidden)``.
    Raises:
        TypeError: no genotype, or an argument that there is none of; ValueError: a size that does not fit.

    >>> net = derived_network("DARTS_V2")
    >>> sum(p.numel() for p in net.parameters())
    3349342
    """
    named = published().get(genotype) if isinstance(genotype, str) else None
    found = checked_genotype(genotype) if named is None else named
    return _built(family_of(found).derived, found, sizes, options)


def of_images(value: SearchSpace | AnyGenotype) -> bool:
    """Whether the networks of a space or of a genotype take images: ``in_channels`` is one of their sizes.

    >>> of_images(space_named("darts"))
    True
    """
    return "in_channels" in inspect.signature(family_of(value).derived).parameters


def _built(build: Callable[..., Any], of: object, sizes: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The network; an argument that there is none of is answered by those that there are."""
    signature = inspect.signature(build)
    try:
        signature.bind(of, *sizes, **options)
    except TypeError as error:
        known = ", ".join(list(signature.parameters)[1:])
        raise TypeError(f"expected sizes among {known}: {error}") from error
    return build(of, *sizes, **options)
