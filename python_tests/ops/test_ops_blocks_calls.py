# SPDX-License-Identifier: MIT
"""Fused operators as they are called: no gradient, versions, threads, accuracy far from 0, refusals."""

import copy
from dataclasses import replace

import pytest
import torch
from ops_blocks_drawn import SETS, instruction_set, threads, up
from ops_blocks_samples import IDENTITY, called, images, samples, source_options

from nasp_ext import ops
from nasp_ext.ops import reference
from nasp_ext.ops.program import encode_source
from nasp_ext.ops.program_values import Option, SourceOption

NAMES = sorted(samples())
CHANGED = {
    "block_backward": lambda arguments: [arguments[-2]],
    "pool_backward_": lambda arguments: [arguments[-2]],
    "node_sum_": lambda arguments: [arguments[0]],
    "update_statistics_": lambda arguments: [tensor for tensors in arguments[:3] for tensor in tensors],
    "source_dots": lambda arguments: arguments[4],
    "cell_forward": lambda arguments: arguments[3],
    "cell_backward": lambda arguments: arguments[12],
}


FIRST_OF_WEIGHTS = {"block_backward": 1, "cell_backward": -3}  # in the result


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for item in value for t in tensors(item)] if isinstance(value, list | tuple) else []


@pytest.mark.parametrize("name", NAMES)
def test_call_that_autograd_would_record_raises(name):
    arguments = samples()[name][0]
    inputs = [t for t in tensors(arguments) if t.is_floating_point()]
    for tensor in inputs:
        tensor.requires_grad_()
        with pytest.raises(
            RuntimeError, match=f"nasp_ext::{name} has no gradient: detach its inputs or call it"
        ):
            called(name, arguments)
        tensor.requires_grad_(False)
    inputs[0].requires_grad_()
    with torch.no_grad():
        called(name, arguments)


@pytest.mark.parametrize("name", CHANGED)
def test_call_raises_the_version_of_what_it_changes_and_of_nothing_else(name):
    arguments = samples()[name][0]
    changed = CHANGED[name](arguments)
    versions = [(t, t._version) for t in tensors(arguments)]
    called(name, arguments)
    for tensor, version in versions:
        assert tensor._version == version + any(tensor is one for one in changed)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("name", NAMES)
def test_bits_depend_neither_on_threads_nor_on_the_run(name, isa):
    """All but the gradients of weights, which are added up thread by thread."""
    results = {}
    with instruction_set(isa):
        for count in (1, 2, 3, 2):
            arguments = samples(batch=5, channels=19, size=9)[name][0]
            with threads(count):
                found = called(name, arguments)
            first = FIRST_OF_WEIGHTS.get(name)
            of_weights = [] if first is None else tensors(found[first:])
            others = [] if found is None else tensors(found if first is None else found[:first])
            results.setdefault(count, []).append((others + tensors(arguments), of_weights))
    (alone, _), twice = results[1][0], results[2]
    for others, _ in (*twice, *results[3]):
        assert all(one.equal(two) for one, two in zip(alone, others, strict=True))
    assert all(one.equal(two) for one, two in zip(twice[0][1], twice[1][1], strict=True))


def far_from_zero(*shape):
    """Channels with a mean of a thousand standard deviations, and a further one for each image."""
    return images(*shape) + 1000 + 3 * torch.arange(shape[0]).view(-1, 1, 1, 1)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("operator", ["block", "pool"])
def test_variance_of_channels_far_from_zero_is_accurate(operator, isa):
    x = far_from_zero(3, 20, 17, 13)
    with instruction_set(isa):
        if operator == "pool":
            z, norm = ops.pool_forward(x, False, 3, 1)
        else:
            z, norm = ops.block_forward(x, None, None, [torch.eye(20).view(20, 20, 1, 1)], IDENTITY, True)
    var, mean = torch.var_mean(z.double(), (0, 2, 3), correction=0)
    torch.testing.assert_close(norm[:2].double(), torch.stack([mean, var]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("isa", SETS)
def test_dots_of_channels_far_from_zero_are_accurate(isa):
    x, grad = far_from_zero(3, 20, 17, 13), images(3, 20, 17, 13)
    (_, separable), *others = source_options(20, moves=False)
    pixel = torch.eye(9)[4].view(3, 3).expand(20, 1, 3, 3).contiguous()  # depthwise: the pixel itself
    block = replace(separable.chain[0], depthwise=pixel, products=(torch.eye(20).view(20, 20, 1, 1),))
    lists = encode_source([SourceOption(0, Option(chain=(block,))), *others])
    with instruction_set(isa):
        found = ops.source_dots(x, [grad], *lists)
    expected = reference.source_dots(x.double(), [grad.double()], *up(lists))
    size = (grad.abs().double().sum(), (grad * x).abs().double().sum(), grad.abs().double().sum())
    for one, two, scale in zip(found, expected, size, strict=True):
        assert abs(one.double() - two) <= 1e-6 * scale


@pytest.mark.parametrize("isa", SETS)
def test_relu_at_zero_passes_no_gradient(isa):
    x = torch.tensor([-1.0, -0.0, 0.0, 2.0]).view(1, 1, 1, 4).to(memory_format=torch.channels_last)
    grad, none, out = torch.ones_like(x), x.new_empty(0, 0), torch.empty_like(x)
    call = (grad, None, none.double(), x, none, False, x, None, None, [torch.ones(1, 1, 1, 1)])
    with instruction_set(isa):
        ops.block_backward(*call, IDENTITY, True, False, out, None)
    assert out.flatten().tolist() == [0, 0, 0, 1]


def test_instruction_set_is_the_one_asked_for_or_the_best():
    best = torch.ops.nasp_ext.instruction_set(-1)
    with instruction_set(0):
        assert torch.ops.nasp_ext.instruction_set(-1) == 0
    assert torch.ops.nasp_ext.instruction_set(2) == best


def block(**changes):
    """A wrong call of block_forward."""
    names = ["x", "in_norm", "depthwise", "products", "geometry", "relu", "norm", "parts", "eps"]
    arguments = list(samples()["block_forward"][0])
    values = dict(zip(names, [*arguments[:7], tuple(arguments[7:11]), 1e-5], strict=True)) | changes
    return lambda: ops.block_forward(**values)


def changed(name, index, value):
    """A wrong call of another operator."""
    arguments = list(copy.deepcopy(samples()[name][0]))
    arguments[index] = value
    return lambda: called(name, arguments)


X = images(2, 4, 5, 5)
REFUSED = {
    "x in other memory": (block(x=torch.rand(2, 4, 5, 5)), "expected x in channels_last memory"),
    "x of three dimensions": (block(x=X[0]), r"\(N, C, H, W\), found \(4, 5, 5\)"),
    "x of integers": (block(x=X.int()), "x in float32 or float64, found Int"),
    "x in half precision": (
        lambda: ops.pool_forward(X.half(), True, 3, 1),
        "x in float32 or float64, found Half",
    ),
    "a norm of other channels": (block(in_norm=torch.rand(5, 3)), r"in_norm of shape \(5, 4\)"),
    "an empty norm in front": (block(in_norm=torch.rand(0, 0)), r"in_norm of shape \(5, 4\), found \(0, 0\)"),
    "an even depthwise kernel": (block(depthwise=torch.rand(4, 1, 4, 4)), r"\(4, 1, k, k\), k = 3, 5 or 7"),
    "products that do not fit": (block(products=[torch.rand(4, 3, 1, 1)]), r"\(out, 4, 1, 1\), found \(4, 3"),
    "no products": (block(products=[]), "1 or 2 tensors of product weights, found 0"),
    "a short geometry": (block(geometry=[3, 3]), "8 numbers in geometry"),
    "a stride of 0": (block(geometry=[3, 3, 0, 1, 1, 1, 1, 1]), "stride and dilation >= 1"),
    "an input smaller than the kernel": (
        block(x=images(2, 4, 1, 5), geometry=[3, 3, 1, 1, 0, 0, 1, 1]),
        "no smaller than the kernel, found 1 x 5",
    ),
    "a weight without a bias": (
        block(parts=(torch.rand(4), None, None, None)),
        "weight and bias, mean and var",
    ),
    "weights in float64": (block(products=[torch.rand(4, 4, 1, 1).double()]), "in Float, found Double"),
    "sums in float32": (changed("block_backward", 2, torch.rand(2, 4)), r"\(2, 4\) in Double"),
    "factors of other images": (changed("block_backward", 1, torch.rand(3)), r"factors of shape \(2,\)"),
    "a gradient of another size": (
        changed("block_backward", 0, images(2, 4, 5, 4)),
        r"grad of shape \(2, 4, 5, 5\)",
    ),
    "an even pool": (changed("pool_forward", 2, 4), "odd kernel and a stride >= 1.*, found 4 and 2"),
    "an output of another size": (
        changed("pool_backward_", -2, images(2, 4, 4, 5)),
        r"out of shape \(2, 4, 5, 5\)",
    ),
    "a node without terms": (lambda: ops.node_sum_(X.clone(), [], []), "1 to 64 terms"),
    "terms without norms": (lambda: ops.node_gradient_sums(X, [X], []), "as many norms, found 1 and 0"),
    "factors of other terms": (changed("node_sum_", 3, torch.rand(1, 2)), r"factors of shape \(2, 2\)"),
    "lists of two lengths": (
        changed("update_statistics_", 4, [9]),
        "lists of one length, found 2, 2, 2, 2, 1, 2",
    ),
    "one value per channel": (changed("update_statistics_", 4, [9, 1]), "counts >= 2.* and 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_call_that_does_not_fit_is_refused(case):
    call, text = REFUSED[case]
    with pytest.raises(ValueError, match=text):
        call()
