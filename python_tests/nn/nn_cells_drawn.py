# SPDX-License-Identifier: MIT
"""Cells of drawn shape: edges, options, gates, sizes, layouts and modes, each from the number of its case."""

import random
from dataclasses import dataclass

import torch
from nn_fused import WIDE
from torch import Tensor, nn

from nasp_ext.arch.gates import MIXED, PRUNED, Gates
from nasp_ext.families.cells.cell import Cell
from nasp_ext.families.cells.layout import CellLayout, EdgeLayout, Norms, Place
from nasp_ext.nn import PRIMITIVES, MixedOp

OPTIONS = 4
LAYOUTS = ("NCHW", "NCHW", "channels_last", "sliced", "transposed", "expanded")


@dataclass
class DrawnCase:
    """A module in float64 and one call of it: ``call(module, *inputs)`` gives the output."""

    module: nn.Module
    inputs: list[Tensor]
    gates: Gates | None
    ones: bool  # the gradient of the output is 1 everywhere

    def call(self, cell: nn.Module, s0: Tensor, s1: Tensor, *weight: Tensor) -> Tensor:
        if self.gates is None:
            return cell(s0, s1, None, self.module.drop)
        gates = Gates(weight[0], self.gates.active, self.gates.unit)
        return cell(s0, s1, gates.choices(), self.module.drop, gates=weight[0])

    def upstream(self, out: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return torch.ones_like(out) if self.ones else torch.randn(out.shape, dtype=WIDE, generator=generator)


class DrawnOp(DrawnCase):
    """A MixedOp and a call of it."""

    def call(self, op: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
        choice = Gates(weight, self.gates.active, self.gates.unit).choices()[0]
        return op(x, weight[0, : len(op.primitives)], active=choice.active, unit=choice.unit)


def drawn_case(number: int) -> DrawnCase:
    """The case of this number: of every five one is a MixedOp, the others are cells."""
    draw = random.Random(number)
    generator = torch.Generator().manual_seed(number)
    return _drawn_op(draw, generator) if number % 5 == 4 else _drawn_cell(draw, generator)


def _drawn_op(draw: random.Random, generator: torch.Generator) -> DrawnCase:
    channels, stride = draw.randint(1, 8), draw.choice([1, 1, 2])
    edge = EdgeLayout(0, 0, _options(draw, channels, stride == 2, draw.randint(1, OPTIONS)), 0)
    settings = {name: draw.random() < 0.5 for name in ("affine", "pool_norm", "update_unselected_stats")}
    op = MixedOp(channels, stride, edge.primitives, **settings).double().train(draw.random() < 0.8)
    _fill(op, draw.choice([1.0, 1.0, 1e-3]), generator)
    _freeze(op, draw)
    shape = (draw.randint(1, 5), channels, draw.randint(1, 9), draw.randint(1, 9))
    gates = _gates(draw, CellLayout((edge,), 1, (1,), 1), 1, generator)
    return DrawnOp(op, [_images(draw, shape, generator), gates.weight], gates, draw.random() < 0.15)


def _options(draw: random.Random, channels: int, reduction: bool, count: int) -> tuple[str, ...]:
    """``count`` names; none that would halve an odd number of channels."""
    names = [n for n in PRIMITIVES if channels % 2 == 0 or not reduction or n != "skip_connect"]
    return tuple(draw.choices(names, k=count))


def _drawn_cell(draw: random.Random, generator: torch.Generator) -> DrawnCase:
    cell, sizes = _cell(draw)
    training = draw.random() < 0.8
    cell.train(training)
    _fill(cell, draw.choice([1.0, 1.0, 1e-3]), generator)
    _freeze(cell, draw)
    batch = sizes[0][0]
    inputs = [_images(draw, (batch, *shape[1:]), generator) for shape in sizes]
    rows = sum(edge.row is not None for edge in cell.layout.edges)
    gates = _gates(draw, cell.layout, rows, generator) if rows else None
    wanted = gates is not None and gates.weight.requires_grad
    cell.drop = draw.choice([0.0, 0.0, 0.4]) if training and not wanted else 0.0
    if not wanted and draw.random() < 0.3:
        cell.coefficients = torch.rand(len(cell.layout.edges), dtype=WIDE, generator=generator)
    return DrawnCase(cell, inputs if gates is None else [*inputs, gates.weight], gates, draw.random() < 0.15)


def _cell(draw: random.Random) -> tuple[Cell, list[tuple[int, ...]]]:
    """A cell, and the shapes of its two inputs."""
    channels, reduction, two = draw.randint(1, 8), draw.random() < 0.4, draw.random() < 0.7
    shrunk = two and channels % 2 == 0 and draw.random() < 0.3
    inputs, nodes = 1 + two, draw.randint(1, 3)
    edges, row = [], 0
    for node in range(nodes):
        for source in sorted(draw.sample(range(inputs + node), draw.randint(0, min(3, inputs + node)))):
            mixed = draw.random() < 0.75
            some = _options(draw, channels, reduction, draw.randint(1, OPTIONS) if mixed else 1)
            times = 1 if mixed else draw.choice([1, 1, 2])
            edges.append(EdgeLayout(node, source, some, row if mixed else None, times=times))
            row += mixed
    concat = draw.sample(range(inputs, inputs + nodes), draw.randint(1, nodes) if row == 0 else nodes)
    given = [draw.randint(1, 9) for _ in range(2)] if two else [channels, channels]
    layout = CellLayout(tuple(edges), nodes, tuple(concat), inputs, projected=draw.random() < 0.2)
    norms = Norms(draw.random() < 0.5, draw.random() < 0.5, draw.random() < 0.7)
    cell = Cell(layout, Place((given[0], given[1]), channels, reduction, shrunk), norms)
    batch, height, width = draw.randint(1, 5), draw.randint(1, 9), draw.randint(1, 9)
    older = (2 * height - draw.randint(0, 1), 2 * width - draw.randint(0, 1)) if shrunk else (height, width)
    return cell.double(), [(batch, given[0], *older), (batch, given[1], height, width)]


def _fill(cell: nn.Module, size: float, generator: torch.Generator) -> None:
    """Random weights, those of convolutions times ``size``; running statistics as after some steps."""
    with torch.no_grad():
        for name, tensor in (*cell.named_parameters(), *cell.named_buffers()):
            if not tensor.is_floating_point():
                continue
            values = torch.randn(tensor.shape, dtype=WIDE, generator=generator)
            if tensor.dim() == 4:
                tensor.copy_(size * values)
            else:
                tensor.copy_(values.abs() + 0.1 if name.endswith(("var", "weight")) else values)


def _freeze(cell: nn.Module, draw: random.Random) -> None:
    kind = draw.choice(["none", "none", "none", "all", "some", "norms"])
    for parameter in cell.parameters():
        if kind == "all" or (kind == "some" and draw.random() < 0.3):
            parameter.requires_grad_(False)
    for module in cell.modules():
        if kind == "norms" and isinstance(module, nn.BatchNorm2d):
            module.train(draw.random() < 0.5)


def _images(draw: random.Random, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    x = torch.randn(shape, dtype=WIDE, generator=generator)
    layout = draw.choice(LAYOUTS)
    if layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "sliced":
        x = torch.cat((x, x, x), 1)[:, shape[1] : 2 * shape[1]]
    elif layout == "transposed":
        x = x.transpose(2, 3).contiguous().transpose(2, 3)
    elif layout == "expanded":
        x = x[:1].expand(shape)
    return x.requires_grad_(draw.random() < 0.8)


def _gates(draw: random.Random, layout: CellLayout, rows: int, generator: torch.Generator) -> Gates:
    weight = torch.zeros(rows, OPTIONS, dtype=WIDE)
    kind = draw.choice(["one-hot", "one-hot", "mixed", "both"])
    unit, active = kind == "one-hot" and draw.random() < 0.5, []
    for edge in layout.edges:
        if edge.row is None:
            continue
        options = len(edge.primitives)
        if kind == "mixed" or (kind == "both" and draw.random() < 0.5):
            active.append(MIXED)
            weight[edge.row, :options] = torch.rand(options, dtype=WIDE, generator=generator)
        elif draw.random() < 0.15:
            active.append(PRUNED)
        else:
            active.append(draw.randrange(options))
            value = float(torch.randn(1, generator=generator))
            weight[edge.row, active[-1]] = 1.0 if unit else draw.choice([value, value, 0.0])
    return Gates(weight.requires_grad_(draw.random() < 0.7), tuple(active), unit)
