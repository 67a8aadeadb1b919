# SPDX-License-Identifier: MIT
"""Networks whose state_dict has the names of the DARTS, PC-DARTS and NASP authors' code.

Plain PyTorch, called with their names of operations; a derived network and a supernet.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn


class Op(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x):
        return self.op(x)


class Reduce(nn.Module):
    def __init__(self, c_in, c_out, affine):
        super().__init__()
        self.conv_1 = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
        self.conv_2 = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out, affine=affine)

    def forward(self, x):
        x = x.relu()
        return self.bn(torch.cat((self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])), 1))


class Zeros(nn.Module):
    def __init__(self, stride):
        super().__init__()
        self.stride = stride

    def forward(self, x):
        return x[:, :, :: self.stride, :: self.stride] * 0


def conv(c_in, c, kernel, stride, affine):
    layer = nn.Conv2d(c_in, c, kernel, stride, kernel // 2, bias=False)
    return Op(nn.ReLU(), layer, nn.BatchNorm2d(c, affine=affine))


def depthwise(c, k, stride, dilation, affine):
    padding = dilation * (k - 1) // 2
    first = nn.Conv2d(c, c, k, stride, padding, dilation, groups=c, bias=False)
    return nn.ReLU(), first, nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c, affine=affine)


def separable(k, c, stride, affine):
    return Op(*depthwise(c, k, stride, 1, affine), *depthwise(c, k, 1, 1, affine))


def dilated(k, c, stride, affine):
    return Op(*depthwise(c, k, stride, 2, affine))


def two_lines(k, c, stride, affine):
    """Its layers stand in a sequence without a name, other than those of the other operations."""
    row = nn.Conv2d(c, c, (1, k), (1, stride), (0, k // 2), bias=False)
    column = nn.Conv2d(c, c, (k, 1), (stride, 1), (k // 2, 0), bias=False)
    return nn.Sequential(nn.ReLU(), row, column, nn.BatchNorm2d(c, affine=affine))


def skip(c, stride, affine):
    return nn.Sequential() if stride == 1 else Reduce(c, c, affine)


def max_pool(k, c, stride, affine):
    return nn.MaxPool2d(k, stride, k // 2)


def average(c, stride, affine):
    return nn.AvgPool2d(3, stride, 1, count_include_pad=False)


SHARED = {
    "none": lambda c, stride, affine: Zeros(stride),
    "skip_connect": skip,
    "avg_pool_3x3": average,
    "max_pool_3x3": partial(max_pool, 3),
    "dil_conv_3x3": partial(dilated, 3),
    "dil_conv_5x5": partial(dilated, 5),
    "conv_7x1_1x7": partial(two_lines, 7),
}
DARTS_OPS = SHARED | {f"sep_conv_{k}x{k}": partial(separable, k) for k in (3, 5, 7)}
NASP_OPS = SHARED | {
    **{f"sep_{k}x{k}": partial(separable, k) for k in (3, 5, 7)},
    **{f"max_pool_{k}x{k}": partial(max_pool, k) for k in (5, 7)},
    **{f"conv {k}x{k}": lambda c, stride, affine, k=k: conv(c, c, k, stride, affine) for k in (1, 3)},
    "conv_3x1_1x3": partial(two_lines, 3),
}


class Mixture(nn.Module):
    def __init__(self, ops, c, stride):
        super().__init__()
        self._ops = nn.ModuleList()
        for name, build in ops.items():
            op = build(c, stride, False)
            self._ops.append(nn.Sequential(op, nn.BatchNorm2d(c, affine=False)) if "pool" in name else op)

    def forward(self, x, weights):
        return sum(w * op(x) for w, op in zip(weights, self._ops, strict=True))


class Cell(nn.Module):
    """Of edges (node, source, module)."""

    def __init__(self, previous, c, shrunk, affine, edges, concat):
        super().__init__()
        older, newer = previous
        self.preprocess0 = Reduce(older, c, affine) if shrunk else conv(older, c, 1, 1, affine)
        self.preprocess1 = conv(newer, c, 1, 1, affine)
        self._ops = nn.ModuleList(module for *_, module in edges)
        self._places, self._concat = [edge[:2] for edge in edges], concat

    def forward(self, s0, s1, rows=None):
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for node in range(max(self._concat) - 1):
            inner = [i for i, place in enumerate(self._places) if place[0] == node]
            terms = [(self._ops[i], states[self._places[i][1]], i) for i in inner]
            states.append(sum(op(x) if rows is None else op(x, rows[i]) for op, x, i in terms))
        return torch.cat([states[state] for state in self._concat], 1)


class Auxiliary(nn.Module):
    def __init__(self, c, classes):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.ReLU(), nn.AvgPool2d(5, 3, count_include_pad=False)),
            *(nn.Conv2d(c, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU()),
            *(nn.Conv2d(128, 768, 2, bias=False), nn.BatchNorm2d(768), nn.ReLU()),
        )
        self.classifier = nn.Linear(768, classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Network(nn.Module):
    """Args: cell: (reduction) -> edges (node, source, builder), concat; as for our ``derived_network``."""

    def __init__(self, cell, c, layers, classes, affine=True, auxiliary=False):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * c, 3, padding=1, bias=False), nn.BatchNorm2d(3 * c))
        self.cells = nn.ModuleList()
        previous, shrunk = (3 * c, 3 * c), False
        self.last_reduction = 2 * layers // 3
        for number in range(layers):
            reduction = number in (layers // 3, self.last_reduction)
            c *= 1 + reduction
            edges, concat = cell(reduction)
            built = [(n, s, build(c, 2 if reduction and s < 2 else 1)) for n, s, build in edges]
            self.cells.append(Cell(previous, c, shrunk, affine, built, concat))
            previous, shrunk = (previous[1], len(concat) * c), reduction
            if auxiliary and number == self.last_reduction:
                self.auxiliary_head = Auxiliary(previous[1], classes)
        self.classifier = nn.Linear(previous[1], classes)

    def forward(self, x, rows=(None, None)):
        """(logits, auxiliary logits or None); rows: the weights of the edges of a supernet's two cells."""
        s0 = s1 = self.stem(x)
        auxiliary = None
        layers = len(self.cells)
        for number, cell in enumerate(self.cells):
            reduction = number in (layers // 3, self.last_reduction)
            s0, s1 = s1, cell(s0, s1, rows[reduction])
            if self.training and number == self.last_reduction and hasattr(self, "auxiliary_head"):
                auxiliary = self.auxiliary_head(s1)
        return self.classifier(F.adaptive_avg_pool2d(s1, 1).flatten(1)), auxiliary


def derived(cells, ops, c, layers, classes=10, auxiliary=False):
    """cells: (edges, concat) of the normal and of the reduction cell; edges: (name, source), two per node."""

    def cell(reduction):
        edges, concat = cells[reduction]
        return [
            (i // 2, source, lambda c, stride, name=name: ops[name](c, stride, True))
            for i, (name, source) in enumerate(edges)
        ], concat

    return Network(cell, c, layers, classes, auxiliary=auxiliary)


def searched(normal, reduce, c, layers, classes=10):
    """normal, reduce: the operations of the edges of the two cells, of four nodes each."""

    def cell(reduction):
        ops = reduce if reduction else normal
        edges = [(node, source) for node in range(4) for source in range(2 + node)]
        return [(*e, lambda c, stride: Mixture(ops, c, stride)) for e in edges], range(2, 6)

    return Network(cell, c, layers, classes, affine=False)
