# SPDX-License-Identifier: MIT
"""From gates to a genotype and to the network of one architecture."""

from typing import Any, Protocol

import torch
from torch import Tensor

from nasp_ext.arch.gates import MIXED, PRUNED, Gates
from nasp_ext.arch.search_space import SearchSpace, check_made_for
from nasp_ext.families.cells.cell import Cell
from nasp_ext.families.cells.genotype import Genotype
from nasp_ext.families.cells.network import Network
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.families.layered.space import AnyGenotype, LayeredGenotype, LayeredSpace
from nasp_ext.families.networks import derived_network
from nasp_ext.families.topology.cell import WiredCell
from nasp_ext.families.topology.space import WiredSpace


class Chooser(Protocol):
    """A strategy, as far as deriving goes."""

    def best(self) -> Gates: ...


def genotype_of(space: SearchSpace, gates: Gates) -> AnyGenotype:
    """The cells in which the active options stand: what the search used, edge for edge.

    Raises:  ValueError: if the gates are dense, of another space, or choose an option their row lacks.

    >>> import torch
    >>> from nasp_ext.arch import space
    >>> gates = Gates(torch.zeros(28, 8), (4, 3) + (-1,) * 26)
    >>> genotype_of(space("darts"), gates).cell_edges("normal")
    ((0, 'sep_conv_3x3', 0), (0, 'skip_connect', 1))
    """
    active = _active(space, gates)
    if isinstance(space, WiredSpace):
        return _wired_genotype(space, active)
    if not isinstance(space, CellSpace | LayeredSpace):
        found = type(space).__name__
        raise TypeError(f"expected a CellSpace, a LayeredSpace or a WiredSpace, got {found}")
    cell = space.cell if isinstance(space, LayeredSpace) else space
    pairs, counts = [], []
    for rows in space.cell_rows:
        kept = [row for row in rows if active[row] != PRUNED]
        nodes = [space.edge(row)[0] for row in kept]
        pairs.append(tuple((space.choices(row)[active[row]], space.edge(row)[1]) for row in kept))
        counts.append(tuple(nodes.count(node) for node in range(cell.nodes)))
    if isinstance(space, LayeredSpace):
        return LayeredGenotype(tuple(pairs), tuple(counts), cell.concat, space.reductions)
    fields: dict[str, Any] = {"reduce": (), "reduce_concat": (), "inputs": space.inputs}
    for kind, edges, nodes_of_kind in zip(("normal", "reduce"), pairs, counts, strict=False):
        fields |= {kind: edges, f"{kind}_nodes": nodes_of_kind, f"{kind}_concat": space.concat}
    return Genotype(**fields)


def _wired_genotype(space: WiredSpace, active: tuple[int, ...]) -> Genotype:
    fields: dict[str, Any] = {"projected": True}
    for cell, names in (("normal", space.normal), ("reduce", space.reduce)):
        terms = space.terms(active, cell == "reduce")
        fields[cell] = tuple((names[option], source) for _, source, option in terms)
        fields[f"{cell}_concat"] = tuple(2 + node for node in space.loose_ends(terms))
        fields[f"{cell}_nodes"] = (space.slots,) * space.nodes
    return Genotype(**fields)


def derive(supernet: Network, gates: Gates | Chooser, *, inherit_weights: bool = False) -> Network:
    """The network of the one architecture that the gates choose, at the sizes of the supernet.

    With inherited weights it is the supernet at those gates: the same logits, also the same BatchNorm
    statistics. An active weight other than 1 becomes a factor of its edge; where the supernet takes channels
    past its options, so does it. Without, it is the network that a retraining starts from: BatchNorms learn a
    scale, pools have none, every factor is 1, all channels go through the operations.

    Args:
        gates: discrete gates, or a strategy made for the space of the supernet, which is asked for its best.
    Raises:
        ValueError: if ``supernet`` is a derived network, the strategy is of another space, or as
            ``genotype_of`` raises.
        TypeError: an argument of another type.
    """
    if not isinstance(supernet, Network):
        raise TypeError(f"expected a supernet to derive from, got {type(supernet).__name__}")
    if not isinstance(gates, Gates) and not callable(getattr(gates, "best", None)):
        raise TypeError(f"expected Gates, or a strategy, which has best(), got {type(gates).__name__}")
    if supernet.space is None:
        raise ValueError("expected a supernet to derive from, got a derived network")
    if not isinstance(gates, Gates):
        check_made_for(getattr(gates, "space", None), supernet.space)
        gates = gates.best()
    genotype = genotype_of(supernet.space, gates)
    sizes, norms = supernet.sizes, supernet.norms
    net = derived_network(
        genotype,
        sizes.channels,
        sizes.cells,
        sizes.classes,
        in_channels=sizes.in_channels,
        stem_multiplier=sizes.stem_multiplier,
        affine=norms.affine if inherit_weights else True,
        pool_norm=norms.pool_norm if inherit_weights else False,
        coefficients=_coefficients(supernet.space, gates) if inherit_weights else None,
        partial_channels=supernet.space.partial_channels if inherit_weights else 1,
    )
    like = next(supernet.parameters())
    net.to(like.device, like.dtype)
    if inherit_weights:
        net.load_state_dict(_inherited(supernet, net, _active(supernet.space, gates)))
        net.train(supernet.training)
    return net


def _active(space: SearchSpace, gates: Gates) -> tuple[int, ...]:
    expected = (space.rows, space.options)
    if gates.weight.shape != expected:
        raise ValueError(
            f"expected gates of space {space.name!r}, {expected}, got {tuple(gates.weight.shape)}"
        )
    if gates.active is None or MIXED in gates.active:
        raise ValueError("expected discrete gates, got dense rows: ops.select_active makes them")
    for row, option in enumerate(gates.active):
        if option >= len(space.choices(row)):
            raise ValueError(f"expected an option of {space.choices(row)} in row {row}, got number {option}")
    return gates.active


def _coefficients(space: SearchSpace, gates: Gates) -> list[Tensor | None] | None:
    """The active weights of the kept edges of each cell, None where all are 1."""
    if not isinstance(space, CellSpace | LayeredSpace):
        return None  # its gates have no other weight than 1
    active = _active(space, gates)
    factors: list[Tensor | None] = []
    for rows in space.cell_rows:
        kept = [(row, active[row]) for row in rows if active[row] != PRUNED]
        values = torch.stack([gates.weight.detach()[at] for at in kept]) if kept else torch.ones(0)
        factors.append(None if (values == 1).all() else values)
    return factors


def _inherited(supernet: Network, net: Network, active: tuple[int, ...]) -> dict[str, Tensor]:
    """The supernet's state under the names of the derived network."""
    source, state = supernet.state_dict(), {}
    prefixes = {}
    for number, cell in enumerate(supernet.cells):
        edges = cell.derived_edges(active) if isinstance(cell, Cell | WiredCell) else []
        for position, name in enumerate(edges):
            prefixes[f"cells.{number}._ops.{position}"] = f"cells.{number}.{name}"
        if isinstance(cell, WiredCell):
            source[f"cells.{number}.post.op.1.weight"] = cell.derived_weight(active)
    for name, value in net.state_dict().items():
        edge = ".".join(name.split(".")[:4])
        own = name.endswith(".coefficients")
        state[name] = value if own else source[prefixes.get(edge, edge) + name[len(edge) :]]
    return state
