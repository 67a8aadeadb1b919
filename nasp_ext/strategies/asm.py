# SPDX-License-Identifier: MIT
"""ASM-NAS as a search strategy: Hao & Zhu 2021, eq. 4.6 and Alg. 1, lines 6-13."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from nasp_ext.arch.gates import MIXED, PRUNED, Gates
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.states import check_keys, check_number, check_tensor, place
from nasp_ext.strategies.base import AttentionFn, AttentionStrategy, LossFn
from nasp_ext.strategies.matrix import kept_edges


class ASMStrategy(AttentionStrategy):
    """Trains the mixture of every edge, attention included, as one network; then selects cell by cell.

    Nothing is drawn at random and no loss moves it: what it knows is the mean attention of each edge over the
    validation images. ``select`` measures one cell after the other; those before are already the cells they
    were replaced by, those after do not matter to it and are left out.

    Args:
        space: of layers with attention, ``space.in_layers(cells, attention=True)``.
        edges_per_node: rows that ``best()`` keeps per node, those whose selected option is attended to most;
            None = all, as Alg. 1 does, "preset" = the space's number.
        allow_none: ``none`` may be selected too. Alg. 1 takes the argmax of all options; the cells of DARTS,
            whose space it is, never hold ``none``.
        dtype, device: of the gates.
    Raises:
        ValueError: the space has no layers or no attention.

    >>> from nasp_ext.arch import space
    >>> cells = space("darts").in_layers(3, attention=True)
    >>> search = ASMStrategy(cells, edges_per_node=None)
    >>> liked = torch.rand(42, 8)
    >>> search.select(lambda gates: liked)
    >>> search.best().active == tuple((liked[:, 1:].argmax(1) + 1).tolist())
    True
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        edges_per_node: int | str | None = "preset",
        allow_none: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if not space.attention:
            raise ValueError(
                f"expected a space of layers whose edges are mixed by attention, got {space.name!r}: "
                "space.in_layers(cells, attention=True) makes one"
            )
        self.space = space
        self._space, self._keep = space, kept_edges(space, edges_per_node)
        self._exists = space.mask()
        self._selectable = (space.mask() if allow_none else space.selectable()).tolist()
        self._like = torch.zeros((), dtype=dtype, device=device)
        uniform = self._exists.double() / self._exists.sum(1, keepdim=True)
        self._mixture = Gates(uniform.to(self._like))
        self._attention = uniform
        self._active = tuple(
            o for rows in space.cell_rows for o in self._chosen(rows, uniform[rows].tolist())
        )

    def propose(self) -> Gates:
        """The same prior for all options of every edge."""
        return self._mixture

    def step(self, loss_fn: LossFn) -> Tensor:
        """The loss of the mixture; there is nothing to learn from it."""
        with torch.no_grad():
            return loss_fn(self.propose()).detach()

    def select(self, attention: AttentionFn) -> None:
        active: list[int] = []
        measured = torch.zeros_like(self._attention)
        for rows in self._space.cell_rows:
            later = self._space.rows - rows.stop
            gates = self._gates((*active, *(MIXED,) * len(rows), *(PRUNED,) * later))
            values = attention(gates)[rows.start : rows.stop].double().cpu()
            values = values.masked_fill(~self._exists[rows.start : rows.stop], 0.0)
            measured[rows.start : rows.stop] = values
            active += self._chosen(rows, values.tolist())
        self._attention, self._active = measured, tuple(active)

    def _chosen(self, rows: range, values: Sequence[Sequence[float]]) -> list[int]:
        """The option of each row of a cell; the lowest index wins ties."""
        if not all(math.isfinite(value) for row in values for value in row):
            raise ValueError(
                f"expected finite attention for rows {rows.start} to {rows.stop - 1}, got others"
            )
        chosen, scores = [], []
        for row, attention in zip(rows, values, strict=True):
            options = [k for k, selectable in enumerate(self._selectable[row]) if selectable]
            chosen.append(max(options, key=attention.__getitem__))
            scores.append(attention[chosen[-1]])
        if self._keep is not None:
            bounds = [bound - rows.start for bound in self._space.node_offsets if bound in (*rows, rows.stop)]
            for low, high in pairwise(bounds):
                for edge in sorted(range(low, high), key=lambda e: -scores[e])[self._keep :]:
                    chosen[edge] = PRUNED
        return chosen

    def _gates(self, active: tuple[int, ...]) -> Gates:
        """One-hot rows, the mixture's where the option is MIXED, zeros where it is PRUNED."""
        options = torch.tensor(active)[:, None]
        one_hot = torch.arange(self._exists.shape[1]) == options
        weight = one_hot.to(self._like) + (options == MIXED).to(self._like) * self._mixture.weight
        return Gates(weight, active, unit=True)

    def best(self) -> Gates:
        return self._gates(self._active)

    def scores(self) -> Tensor:
        """The attention that ``select`` measured last, ``none`` included; 1/K before the first time."""
        return self._attention.to(self._like)

    def state_dict(self) -> dict[str, Any]:
        return {"attention": self._attention.clone(), "active": list(self._active)}

    def check_state(self, state: dict[str, Any], steps: int | None = None) -> None:
        check_keys(state, self.state_dict(), "the state")
        found, active = state["attention"], state["active"]
        if isinstance(found, Tensor) and found.shape != self._attention.shape:
            raise ValueError(
                f"expected the state of a {tuple(self._attention.shape)} attention matrix, found "
                f"{tuple(found.shape)}: it is of another search space"
            )
        check_tensor(found, self._attention, "attention", low=0)
        if not isinstance(active, list) or len(active) != len(self._active):
            raise ValueError(f"expected active to be a list of {len(self._active)} options")
        for row, option in enumerate(active):
            at = place("active", row)
            check_number(option, at, PRUNED, len(self._selectable[row]) - 1, whole=True)
            if option != PRUNED and not self._selectable[row][option]:
                raise ValueError(f"expected {at} to be an option that may be selected, found {option}")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.check_state(state)
        self._attention, self._active = state["attention"].clone(), tuple(state["active"])
