# SPDX-License-Identifier: MIT
"""One call of every fused operator, small and fixed: name -> arguments of torch.ops.nasp_ext.<name>."""

from dataclasses import replace

import torch

from nasp_ext.ops.program import encode_cell, encode_source, encode_sources
from nasp_ext.ops.program_values import (
    Block,
    CellProgram,
    Geometry,
    Norm,
    Option,
    Pool,
    ProgramEdge,
    SourceOption,
    StateSource,
)

IDENTITY, DEPTHWISE, REDUCE = map(
    list, (Geometry(), Geometry.square(3, padding=1), Geometry.square(stride=2))
)
NO_PARTS = (None, None, None, None)


def images(*shape, seed=0):
    """(N, C, H, W) in channels_last memory."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.to(memory_format=torch.channels_last)


def row(channels, seed=0):
    return torch.rand(channels, generator=torch.Generator().manual_seed(seed)) + 0.5


def norm(channels):
    return torch.stack([row(channels, seed) for seed in range(5)])


def running(channels):
    return [row(channels), row(channels), torch.tensor(0)]


def moving_norm(channels, moves=True):
    """A BN without affine weights in training mode."""
    mean, var, batches = running(channels) if moves else (None, None, None)
    return Norm(True, moves, 1e-5, 0.1, None, (mean, var) if moves else None, batches)


def separable(channels, moves=True):
    """Depthwise, 1×1, BN."""
    depthwise, product = images(channels, 1, 3, 3), images(channels, channels, 1, 1)
    weights = depthwise.contiguous(), (product.contiguous(),)
    return Option(chain=(Block(Geometry(*DEPTHWISE), *weights, True, moving_norm(channels, moves)),))


def max_pool(channels, moves=True):
    return Option(Pool(True, 3, 1, moving_norm(channels, moves)))


def source_options(channels, moves):
    """A separable block, a skip and a max pool with a BN, all of one edge."""
    return tuple(
        SourceOption(0, o) for o in (separable(channels, moves), Option(), max_pool(channels, moves))
    )


def cell_sample(channels):
    """One input behind a 1×1 block; a node of a separable edge, a second of the mixture of skip and pool."""
    first, last = (images(channels, channels, 1, 1, seed=seed).contiguous() for seed in (1, 2))
    before = Option(chain=(Block(Geometry(), None, (first,), True, moving_norm(channels)),))
    block = replace(separable(channels).chain[0], products=(last,))
    edges = (
        ProgramEdge(0, 0, False, Option(chain=(block,))),
        ProgramEdge(1, 0, True, Option()),
        ProgramEdge(1, 1, True, max_pool(channels)),
    )
    return CellProgram(nodes=2, concat=(1, 2), preprocess=(before,), edges=edges)


def cell_samples(x, grad):
    """Forward, and the backward of what it keeps."""
    channels, factors = x.shape[1], torch.stack([row(len(x), seed) for seed in range(3)])
    gates = row(3)[:, None].expand(3, len(x)).contiguous()
    lists = encode_cell(cell_sample(channels))
    kept = torch.ops.nasp_ext.cell_forward([x], *lists, factors, [channels, *x.shape[2:]])
    empty = StateSource((), ())
    sources = encode_sources([StateSource((0,), source_options(channels, True)), empty, empty])
    behind = torch.cat([grad, grad], 1).to(memory_format=torch.channels_last), [x], kept
    rest = lists.program, lists.weights, lists.numbers
    nothing = encode_cell(CellProgram(nodes=1, concat=(1,), preprocess=(None,), edges=()))
    return {
        "cell_forward": [
            ([x], *lists, factors, [channels, *x.shape[2:]]),
            ([x], *nothing, None, [3, 4, 5]),
        ],
        "cell_backward": [
            (*behind, *rest, gates, True, True, [1], *sources),
            (*behind, *rest, None, False, False, [1], [], [], [], []),
        ],
    }


def samples(batch=2, channels=4, size=5):
    """The arguments of every fused operator."""
    x, grad, z = (images(batch, channels, size, size, seed=seed) for seed in range(3))
    half = images(batch, channels, (size + 1) // 2, (size + 1) // 2)
    depthwise, product = (
        images(channels, 1, 3, 3).contiguous(),
        images(channels, channels, 1, 1).contiguous(),
    )
    parts = (row(channels), row(channels), row(channels), row(channels))
    sums = torch.stack([row(channels), row(channels)]).double()
    none, no_sums = x.new_empty(0, 0), sums.new_empty(2, 0)
    behind = (grad, row(batch), sums, z, norm(channels), True)
    factors = torch.stack([row(batch), row(batch)])
    # The first call of an operator does most of what it can do.
    return {
        "block_forward": [
            (x, norm(channels), depthwise, [product], DEPTHWISE, True, True, *parts, 1e-5),
            (x, None, None, [product, product], REDUCE, True, True, *NO_PARTS, 1e-5),
            (x, None, None, [product], IDENTITY, False, False, *NO_PARTS, 1e-5),
        ],
        "block_backward": [
            (*behind, x, norm(channels), depthwise, [product], DEPTHWISE, True, True, x.clone(), z),
            (
                half,
                None,
                no_sums,
                half,
                none,
                False,
                x,
                None,
                None,
                [product[:2]] * 2,
                REDUCE,
                True,
                True,
                None,
                None,
            ),
            (
                grad,
                None,
                no_sums,
                z,
                none,
                False,
                x,
                None,
                None,
                [product],
                IDENTITY,
                False,
                False,
                x.clone(),
                None,
            ),
        ],
        "pool_forward": [(x, True, 3, 2, True, *parts, 1e-5), (x, False, 5, 1, False, *NO_PARTS, 1e-5)],
        "pool_backward_": [
            (*behind, x, True, 3, 1, x.clone(), z),
            (grad, None, no_sums, z, none, False, x, False, 3, 1, x.clone(), None),
        ],
        "node_sum_": [
            (x.clone(), [grad, z], [norm(channels), none], factors, grad),
            (x.clone(), [z], [none], None, None),
        ],
        "node_gradient_sums": [(grad, [x, z], [norm(channels), none], factors), (grad, [z], [none], None)],
        "update_statistics_": [
            (*([one, one.clone()] for one in running(channels)), [norm(channels)] * 2, [9, 9], [0.1, 0.2])
        ],
        "source_dots": [
            (x, [grad], *encode_source(source_options(channels, True))),
            (x, [grad], *encode_source(source_options(channels, False))),
        ],
        **cell_samples(x, grad),
    }


def called(name, arguments):
    """The call by its public name: there, the parts of a BN are one argument."""
    from nasp_ext import ops

    arguments = list(arguments)
    if name in ("block_forward", "pool_forward"):
        arguments = [*arguments[:-5], tuple(arguments[-5:-1]), arguments[-1]]
    return getattr(ops, name)(*arguments)
