# SPDX-License-Identifier: MIT
"""One call of every fused operator, small and fixed: name -> arguments of torch.ops.nasp_ext.<name>."""

import torch

IDENTITY = [1, 1, 1, 1, 0, 0, 1, 1]
DEPTHWISE = [3, 3, 1, 1, 1, 1, 1, 1]
REDUCE = [1, 1, 2, 2, 0, 0, 1, 1]
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


def chain_program(channels, updates):
    """Separable: depthwise, 1×1, BN; then the skip and the max pool with a BN of the same edge."""
    bn = [1, 0, 1, int(updates)]
    chain = [0, 2, 1, 1, 1, *DEPTHWISE, 1, *bn]
    weights = [images(channels, 1, 3, 3).contiguous(), images(channels, channels, 1, 1).contiguous()]
    statistics = [*running(channels), *running(channels)] if updates else []
    return [*chain, 0, 0, 0, 1, 1, 3, 1, *bn], weights, statistics, [1e-5, 0.1, 1e-5, 0.1]


def cell_program(channels):
    """One input behind a 1×1 block; a node of a separable edge, a second of the mixture of skip and pool."""
    bn = [1, 0, 1, 1]
    program = [1, 2, 2, 1, 2, 1, 2, 1, 0, 1, *IDENTITY, 1, *bn]
    program += [3, 0, 0, 0, 2, 1, 1, 1, *DEPTHWISE, 1, *bn, 1, 0, 1, 0, 1, 1, 1, 1, 1, 3, 1, *bn]
    weights = [images(channels, channels, 1, 1, seed=seed).contiguous() for seed in (1, 2)]
    weights.insert(1, images(channels, 1, 3, 3).contiguous())
    return program, weights, [s for _ in range(3) for s in running(channels)], [1e-5, 0.1] * 3


def cell_samples(x, grad):
    """Forward, and the backward of what it keeps."""
    channels, factors = x.shape[1], torch.stack([row(len(x), seed) for seed in range(3)])
    gates = row(3)[:, None].expand(3, len(x)).contiguous()
    program, weights, statistics, numbers = cell_program(channels)
    forward = [x], program, weights, statistics, numbers
    kept = torch.ops.nasp_ext.cell_forward(*forward, factors, [channels, *x.shape[2:]])
    chain, dots_weights, dots_statistics, dots_numbers = chain_program(channels, updates=True)
    sources = [1, len(chain), 2, 6, 4, 0, *chain, *[0] * 10]
    behind = torch.cat([grad, grad], 1).to(memory_format=torch.channels_last), [x], kept
    rest = program, weights, numbers
    return {
        "cell_forward": [
            (*forward, factors, [channels, *x.shape[2:]]),
            ([x], [1, 1, 1, 1, 0, 0], [], [], [], None, [3, 4, 5]),
        ],
        "cell_backward": [
            (*behind, *rest, gates, True, True, [1], sources, dots_weights, dots_statistics, dots_numbers),
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
    program, weights, statistics, numbers = chain_program(channels, updates=True)
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
            (x, [grad], program, weights, statistics, numbers),
            (x, [grad], *chain_program(channels, updates=False)),
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
