# SPDX-License-Identifier: MIT
"""From lowered modules to options of ``ops.program`` whose tensors are places in a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor, nn

from nasp_ext.nn.fused.lowering import LoweredOption
from nasp_ext.ops.program_values import Block, Norm, Option, Pool

Getter = tuple[Mapping[str, Tensor | None], str]  # a tensor of a module, looked up at each call
Mode = tuple[bool, bool, float | None, float]  # of a BatchNorm: training, track_running_stats, momentum, eps


def modes_of(norms: Sequence[nn.BatchNorm2d]) -> tuple[Mode, ...]:
    """The modes that BatchNorms are in: what of them may change without a layer being replaced."""
    return tuple([(n.training, n.track_running_stats, n.momentum, n.eps) for n in norms])


def read(getters: Sequence[Getter]) -> list[Tensor]:
    """The tensors as they are now; each exists, or the module would not have been lowered."""
    return [tensors[name] for tensors, name in getters]  # type: ignore[misc]


@dataclass(frozen=True)
class Candidate:
    """An option of an edge by places in a ``Table``: equal for equal layers in equal places.

    Args:
        option: with the places of its tensors, None for ``none``; its running statistics are named wherever
            they exist.
        norms: where its BatchNorms are.
    """

    option: Option[int] | None
    norms: range

    def in_mode(self, modes: Sequence[Mode], update: bool) -> Option[int]:
        """The option as it runs.

        Args:    modes: of all BatchNorms of the table; update: whether its running statistics move.
        """
        assert self.option is not None
        own = iter(modes[self.norms.start : self.norms.stop])
        pool, chain = self.option.pool, self.option.chain
        return Option(
            None if pool is None else replace(pool, norm=_in_mode(pool.norm, own, update)),
            tuple(replace(block, norm=_in_mode(block.norm, own, update)) for block in chain),
        )


def _in_mode(norm: Norm[int] | None, modes: Iterator[Mode], update: bool) -> Norm[int] | None:
    if norm is None:
        return None
    training, tracked, momentum, eps = next(modes)
    assert momentum is not None
    batch = training or norm.running is None
    moves = update and training and tracked and norm.running is not None
    running = norm.running if moves or not batch else None
    return Norm(batch, moves, eps, momentum, norm.affine, running, norm.batches if moves else None)


class Places(NamedTuple):
    """The tensors and BatchNorms of a plan's options in a row: what candidates call 0, 1, 2 …"""

    weights: list[Getter]
    statistics: list[Getter]
    norms: list[nn.BatchNorm2d]

    def add(self, lowered: LoweredOption) -> Candidate:
        """Append the layers of an option."""
        first = len(self.norms)
        option = None
        if not lowered.none:
            pool = lowered.pool
            option = Option(
                None if pool is None else Pool(pool.max, pool.kernel, pool.stride, self._norm(pool.norm)),
                tuple(
                    Block(
                        block.geometry,
                        None if block.depthwise is None else self._weight(block.depthwise),
                        tuple(self._weight(product) for product in block.products),
                        block.relu,
                        self._norm(block.norm),
                    )
                    for block in lowered.chain
                ),
            )
        return Candidate(option, range(first, len(self.norms)))

    def _weight(self, module: nn.Module, name: str = "weight") -> int:
        # Without the detour of nn.Module.__getattr__.
        self.weights.append((module._parameters, name))
        return len(self.weights) - 1

    def _statistic(self, norm: nn.BatchNorm2d, name: str) -> int:
        self.statistics.append((norm._buffers, name))
        return len(self.statistics) - 1

    def _norm(self, norm: nn.BatchNorm2d | None) -> Norm[int] | None:
        if norm is None:
            return None
        self.norms.append(norm)
        affine, running, batches = None, None, None
        if norm.affine:
            affine = self._weight(norm), self._weight(norm, "bias")
        if norm._buffers["running_mean"] is not None:
            running = self._statistic(norm, "running_mean"), self._statistic(norm, "running_var")
            batches = self._statistic(norm, "num_batches_tracked")
        return Norm(False, False, 0.0, 0.0, affine, running, batches)
