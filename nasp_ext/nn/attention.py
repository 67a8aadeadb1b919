# SPDX-License-Identifier: MIT
"""Architecture self-attention (Hao & Zhu 2021, ASM-NAS): an edge weighs its options by what they give."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from itertools import pairwise

import torch
from torch import Tensor, nn

from nasp_ext.nn.dispatch.inputs import Inputs
from nasp_ext.nn.dispatch.outputs import described
from nasp_ext.nn.mixed_op import MixedOp
from nasp_ext.nn.primitives import is_none

_LAYERS = 4  # fully connected layers of eq. 4.4


class ArchitectureAttention(nn.Module):
    """The attention of each image for the K options of an edge (eq. 4.4 and 4.5).

    z = sigmoid(Θ₄ relu(Θ₃ relu(Θ₂ relu(Θ₁ e)))), a = softmax(z). The paper prints neither biases nor the
    widths between the layers: none here, and K, the only width that it names. Weights start as He et al. 2015
    propose for layers with ReLUs: with PyTorch's own start four layers shrink e to nothing.

    The gates of the edge enter as the prior of the softmax, a_k = w_k exp(z_k) / Σ_l w_l exp(z_l): all ones
    are eq. 4.5, a zero takes an option out, a one-hot row is its option alone (Alg. 1, line 10).

    Args:    options: K; hidden: width of the three inner layers, None = K.
    Raises:  ValueError: if a number is too small.

    >>> attention = ArchitectureAttention(2)
    >>> attention(torch.zeros(3, 2), torch.tensor([1.0, 3.0])).detach()
    tensor([[0.2500, 0.7500],
            [0.2500, 0.7500],
            [0.2500, 0.7500]])
    """

    def __init__(self, options: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = options if hidden is None else hidden
        if options < 1 or hidden < 1:
            raise ValueError(f"expected options and hidden >= 1, got options={options} and hidden={hidden}")
        widths = (options, *(_LAYERS - 1) * (hidden,), options)
        layers: list[nn.Module] = []
        for m, n in pairwise(widths):
            linear = nn.Linear(m, n, bias=False)
            nn.init.kaiming_normal_(linear.weight)
            layers += [linear, nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1], nn.Sigmoid())

    def forward(self, e: Tensor, prior: Tensor) -> Tensor:
        """(B, K) -> (B, K), each row a distribution.

        Args:    e: mean of the output of each option for each image, (B, K); prior: (K,), numbers >= 0.
        """
        z: Tensor = self.layers(e)
        # 1 < exp(sigmoid) < e: no maximum need be taken off first. A prior that is all zero gives zeros.
        odds = prior * z.exp()
        return odds / odds.sum(1, keepdim=True).clamp_min(torch.finfo(odds.dtype).tiny)


class AttentionOp(MixedOp):
    """A MixedOp that mixes dense rows by attention: Σ_k a_k O_k(x), a of each image (eq. 4.2).

    e_k is the mean of O_k(x) over all but the batch (eq. 4.3). With one active option it is that option
    alone, as ``MixedOp`` runs it. ``op.attention``, an ``ArchitectureAttention``, is trained with them.

    >>> op = AttentionOp(4, 2, ("none", "skip_connect", "sep_conv_3x3"))
    >>> op(torch.ones(2, 4, 5, 5), torch.ones(3)).shape
    torch.Size([2, 4, 3, 3])
    """

    def _install(self, names: tuple[str, ...], branches: list[nn.Module], update_stats: bool) -> None:
        super()._install(names, branches, update_stats)
        self.attention = ArchitectureAttention(len(branches))

    def _mixture(self, inputs: Inputs, weights: Tensor) -> Tensor:
        outputs: dict[int, Tensor] = {
            k: self._branch(k, inputs) for k, branch in enumerate(self._ops) if not is_none(branch)
        }
        if not all(isinstance(output, Tensor) for output in outputs.values()):
            found = "; ".join(
                f"branch {self.primitives[k]}: {described(output)}" for k, output in outputs.items()
            )
            raise TypeError(f"expected branches that return one tensor, whose mean weighs them, got {found}")
        shapes = {self.primitives[k]: tuple(output.shape) for k, output in outputs.items()}
        if len(set(shapes.values())) > 1 or any(len(shape) < 2 for shape in shapes.values()):
            raise ValueError(f"expected branches whose outputs share one shape (B, C, …), got {shapes}")
        if not outputs:
            zeros: Tensor = self._sum(inputs, weights)
            return zeros
        dtype = reduce(torch.promote_types, (output.dtype for output in outputs.values()))
        wide = torch.float32 if dtype.itemsize == 2 else dtype
        means = {k: output.mean(tuple(range(1, output.dim()))) for k, output in outputs.items()}
        nothing = torch.zeros_like(next(iter(means.values())))
        e = torch.stack([means.get(k, nothing) for k in range(len(self._ops))], 1)
        attention = self.attention(e.to(weights.dtype), weights).to(wide)
        mixed: Tensor | None = None
        for k, output in outputs.items():
            share = attention[:, k].view(-1, *(1,) * (output.dim() - 1))
            wider = output.to(wide)
            mixed = share * wider if mixed is None else torch.addcmul(mixed, share, wider)
        assert mixed is not None
        return mixed.to(dtype)


class AttentionMeans:
    """Running means of what edges attend to; made by ``recorded_attention``."""

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}
        self._counts: dict[int, int] = {}

    def add(self, row: int, attention: Tensor) -> None:
        """Add the attention (B, K) of one call of an edge of this row."""
        total = attention.detach().double().sum(0)
        self._sums[row] = self._sums[row] + total if row in self._sums else total
        self._counts[row] = self._counts.get(row, 0) + len(attention)

    def matrix(self, rows: int, options: int) -> Tensor:
        """(R, K) float64: the mean over images and over the edges of a row, zero where none was mixed."""
        device = next(iter(self._sums.values())).device if self._sums else None
        means = torch.zeros(rows, options, dtype=torch.float64, device=device)
        for row, total in self._sums.items():
            means[row, : len(total)] = total / self._counts[row]
        return means


@contextmanager
def recorded_attention(edges: Iterable[tuple[int, nn.Module]]) -> Iterator[AttentionMeans]:
    """Inside, the attention of these edges is summed whenever they mix.

    Args:    edges: (row, module) pairs, as ``Cell.mixed_edges`` gives them; rows may repeat.
    Raises:  ValueError: if an edge has no attention.

    >>> op = AttentionOp(4, 1, ("skip_connect", "max_pool_3x3"))
    >>> with recorded_attention([(0, op)]) as means:
    ...     _ = op(torch.zeros(2, 4, 5, 5), torch.ones(2))
    >>> means.matrix(1, 2)
    tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """
    means = AttentionMeans()
    handles = []
    try:
        for row, module in edges:
            if not isinstance(module, AttentionOp):
                raise ValueError(
                    f"expected an edge mixed by attention in row {row}, found {type(module).__name__}: "
                    "space.in_layers(cells, attention=True) has networks of them"
                )
            handles.append(
                module.attention.register_forward_hook(
                    lambda _, __, attention, row=row: means.add(row, attention)
                )
            )
        yield means
    finally:
        for handle in handles:
            handle.remove()
