# SPDX-License-Identifier: MIT
"""Which layers of a trained transformer need full attention?

NASP picks full, sliding-window or linear attention in each layer, the weights frozen. On one core
``python examples/frozen_transformer.py`` takes a quarter of a minute.

The task: a random phrase of 12 tokens, three times in a row; each next token is asked for. Where a token
comes again, it stands 12 places back, farther than a window of 8 sees.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasp_ext import NASP, MixedOp

TOKENS, PHRASE, REPEATS, WINDOW = 16, 12, 3, 8
PADDING = 0  # the token that no other sees
LENGTH = PHRASE * REPEATS
OPTIONS = ("full", "window", "linear")


class SoftmaxAttention(nn.Module):
    """Causal attention to the last ``window`` places, None = all."""

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        self.window = window

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor) -> tuple[Tensor, None]:
        """(B, H, T, D) each; mask: (B, T), False where a token is padding. As in ``nn.MultiheadAttention``,
        the second output has a place for attention weights."""
        ages = torch.arange(q.shape[2])[:, None] - torch.arange(k.shape[2])
        seen = (ages >= 0) if self.window is None else (ages >= 0) & (ages < self.window)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~(seen & mask[:, None, None, :]), torch.finfo(q.dtype).min)
        return scores.softmax(-1) @ v, None


class LinearAttention(nn.Module):
    """Causal attention by running sums, φ(q) Σ φ(k) v / φ(q) Σ φ(k) with φ = 1 + elu (Katharopoulos 2020)."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor) -> tuple[Tensor, None]:
        q, k = F.elu(q) + 1, (F.elu(k) + 1) * mask[:, None, :, None]
        products = torch.einsum("bhtd,bhte->bhtde", k, v).cumsum(2)
        values = torch.einsum("bhtd,bhtde->bhte", q, products)
        return values / (q * k.cumsum(2)).sum(-1, keepdim=True).clamp_min(1e-6), None


class Layer(nn.Module):
    """Attention and a multilayer perceptron, each behind a LayerNorm and beside a skip connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        choices = (SoftmaxAttention(), SoftmaxAttention(WINDOW), LinearAttention())
        self.attend = MixedOp.from_modules(dict(zip(OPTIONS, choices, strict=True)))

    def forward(self, x: Tensor, row: Tensor, mask: Tensor) -> Tensor:
        """(B, T, width) -> the same; row: the weights of the three options, (3,)."""
        q, k, v = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        values, _ = self.attend(q, row, k, v, mask=mask)  # each option is called option(q, k, v, mask=mask)
        x = x + self.out(values.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norms[1](x))


class Transformer(nn.Module):
    """A language model whose layers take their attention from the rows of a matrix (layers, 3)."""

    def __init__(self, layers: int = 4, width: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(TOKENS, width), nn.Embedding(LENGTH, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, TOKENS)

    def forward(self, tokens: Tensor, rows: Tensor) -> Tensor:
        x, mask = self.tokens(tokens) + self.places.weight[: tokens.shape[1]], tokens != PADDING
        for number, layer in enumerate(self.layers):
            x = layer(x, rows[number], mask)
        return self.head(self.norm(x))


def phrases(generator: torch.Generator, batch: int = 32) -> Tensor:
    """Sequences of the task, (batch, LENGTH)."""
    return torch.randint(1, TOKENS, (batch, PHRASE), generator=generator).repeat(1, REPEATS)


def loss_of(net: Transformer, tokens: Tensor, rows: Tensor) -> Tensor:
    """Mean cross-entropy of the tokens that can be known: all after the first phrase."""
    logits = net(tokens[:, :-1], rows)[:, PHRASE - 1 :]
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, PHRASE:].flatten())


def same_everywhere(option: str, net: Transformer) -> Tensor:
    """The matrix with one option in all layers."""
    return F.one_hot(torch.tensor([OPTIONS.index(option)] * len(net.layers)), len(OPTIONS)).float()


def trained(steps: int = 400, seed: int = 0) -> Transformer:
    """A transformer trained with full attention, and frozen."""
    torch.manual_seed(seed)
    net, generator = Transformer(), torch.Generator().manual_seed(seed)
    rows, optimizer = same_everywhere("full", net), torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(net, phrases(generator), rows).backward()
        optimizer.step()
    net.zero_grad()
    return net.requires_grad_(False).eval()


def search(net: Transformer, steps: int = 100, eta: float = 0.05, seed: int = 1) -> NASP:
    """The optimizer after a search of the attention in each layer; ``gates()`` has the choice.

    Args:    eta: how much the cost of an option counts: the places that a query looks at, or their like.
    """
    rows = torch.full((len(net.layers), len(OPTIONS)), 0.5, requires_grad=True)
    cost = torch.tensor([LENGTH, WINDOW, net.head.in_features / net.layers[0].heads / 2])
    optimizer = NASP([rows], lr=0.02, edges_per_node=None, eta=eta, cost=cost)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        with optimizer.discrete():  # rows are one-hot here: one kind of attention runs in each layer
            loss_of(net, phrases(generator), rows).backward()
        optimizer.step()
    return optimizer


def main(training_steps: int = 400, search_steps: int = 100) -> None:
    """Train, freeze, search; print the choice and its loss beside those of one option in all layers."""
    net, held_out = trained(training_steps), phrases(torch.Generator().manual_seed(99), 256)
    (found,) = search(net, search_steps).gates()
    print("found:", ", ".join(OPTIONS[option] for option in found.active))
    rows = {option: same_everywhere(option, net) for option in OPTIONS}
    for name, matrix in {"found": found.weight, **rows}.items():
        print(f"{name:>8}: loss {loss_of(net, held_out, matrix.detach()).item():.4f}")


if __name__ == "__main__":
    main()
