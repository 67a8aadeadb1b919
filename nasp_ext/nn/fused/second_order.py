# SPDX-License-Identifier: MIT
"""Gradients as a graph of PyTorch's own operators: where a backward is to be differentiated itself.

The backward of one-hot rows and of fused cells leaves no graph. When one is asked for
(``create_graph=True``), or gradients come in batches (``is_grads_batched=True``), it takes the way of this
file instead: the mixture of all options once more, one by one, and the gradient that autograd has of it.
"""

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from nasp_ext.ops.program import Lists, decode_cell, decode_sources
from nasp_ext.ops.program_values import Norm, Option
from nasp_ext.ops.reference.blocks import convolution, pool, update_statistics_


def graph_wanted(grad: Tensor) -> bool:
    """Whether the backward of ``grad`` that runs now has to leave a graph, or is one of a batch."""
    return (
        torch.is_grad_enabled()
        or torch._C._functorch.is_legacy_batchedtensor(grad)
        or torch._C._are_functorch_transforms_active()
    )


def gradients_with_graph(
    function: Callable[..., Tensor | Sequence[Tensor]],
    tensors: Sequence[Tensor],
    *grads: Tensor,
    zeros: bool = True,
) -> list[Tensor | None]:
    """The gradients of ``<grads, function(*tensors)>``, which may be differentiated again.

    Args:
        tensors: as autograd knows them; those that require no gradient get None.
        zeros: so do those that the outputs do not hang on, unless zeros are wanted.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Nodes of their own: what lies in front of one tensor (a shared layer, say) reaches no other.
        fresh = [t.view_as(t) if t.requires_grad else t for t in tensors]
        out = function(*fresh)
        outputs = [out] if isinstance(out, Tensor) else out
        pairs = [(y, grad) for y, grad in zip(outputs, grads, strict=True) if y.requires_grad]
        ys, upstream = [y for y, _ in pairs], [grad for _, grad in pairs]
        wanted = [t for t in fresh if t.requires_grad]
        found = iter(
            torch.autograd.grad(
                ys, wanted, upstream, create_graph=again, allow_unused=True, materialize_grads=zeros
            )
            if ys
            else [torch.zeros_like(t) if zeros else None for t in wanted]
        )
    return [next(found) if t.requires_grad else None for t in fresh]


class Reach:
    """Keeps parameters within reach of a graph that does not use them: unselected options have no gradient,
    but second derivatives. One empty tensor stands for all; it is made once, for the engine visits each of
    its parameters in every backward that does not name its inputs."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._parameters: list[Tensor] = []
        self._token: Tensor | None = None

    def __call__(self, parameters: list[Tensor]) -> Tensor | None:
        """A tensor whose gradient is that of all ``parameters``, flat in a row; None if none requires one."""
        if not parameters:
            return None
        flags = [p.requires_grad for p in parameters]
        key = (parameters[0].dtype, parameters[0].device, len(parameters), flags)
        if key == self._key and all(map(is_, parameters, self._parameters)):
            return self._token
        token: Tensor | None = _Reach.apply(*parameters) if any(flags) else None  # type: ignore[no-untyped-call]
        if all(p.is_leaf for p in parameters):  # others belong to a graph that is not to be kept
            self._key, self._parameters, self._token = key, list(parameters), token
        return token


def spare_hooks(parameters: Sequence[Tensor]) -> None:
    """For parameters that this backward reaches and gives no gradient: keep their hooks from a None.

    The engine calls the hooks all the same; for users the parameters of unselected options are out of reach.
    """
    for p in parameters:
        if p._backward_hooks:
            _spare(p._backward_hooks, _OfGradient)
        if p.is_leaf and p._post_accumulate_grad_hooks:
            _spare(p._post_accumulate_grad_hooks, _OfAccumulated)


def _spare(hooks: MutableMapping[int, Any], kind: "type[_OfGradient]") -> None:
    for number, hook in hooks.items():
        if not isinstance(hook, kind):
            hooks[number] = kind(hook)


@dataclass(frozen=True)
class _OfGradient:
    """A hook of a tensor, called with gradients alone."""

    hook: Callable[[Tensor], Any]

    def __call__(self, grad: Tensor | None) -> Any:
        return None if grad is None else self.hook(grad)


class _OfAccumulated(_OfGradient):
    """A hook behind the sum of gradients, called where there is one."""

    def __call__(self, parameter: Tensor | None) -> Any:
        return None if parameter is None or parameter.grad is None else self.hook(parameter)


class _Reach(Function):
    @staticmethod
    def forward(ctx: Any, *parameters: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.parameters = parameters
        ctx.shapes = [p.shape for p in parameters]
        return parameters[0].new_empty(()).expand(sum(p.numel() for p in parameters))

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            spare_hooks(ctx.parameters)
            return (None,) * len(ctx.shapes)
        parts = torch.split(grad, [shape.numel() for shape in ctx.shapes])
        return tuple(part.view(shape) for part, shape in zip(parts, ctx.shapes, strict=True))


def flat(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    """The gradient of a ``Reach``."""
    found = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
    return torch.cat([g.reshape(-1) for g in found])


def cell_output(
    inputs: Sequence[Tensor],
    cell: Lists,
    factors: Sequence[Tensor],
    sources: Lists | None,
    weights: Sequence[Sequence[Tensor]],
    size: Sequence[int],
) -> Tensor:
    """The output of a fused cell, to be differentiated; statistics move for the options of ``sources`` alone.

    Args:
        inputs: (N, C_i, H_i, W_i); cell: what ran; factors: of each option that ran, (), (N,).
        sources: what did not run; weights: for each state the weight of each of its options, ().
        size: channels, height, width of a node without edges.
    """
    program = decode_cell(*cell)
    states = [
        x if option is None else _run(option, x, False)
        for option, x in zip(program.preprocess, inputs, strict=True)
    ]
    unselected = _of_nodes(sources, weights)
    for node in range(program.nodes):
        terms = []
        for i in program.numbers_of(node):
            _, source, _, option = program.edges[i]
            terms.append(_run(option, states[source], False) * factors[i].view(-1, 1, 1, 1))
        for source, option, weight in unselected.get(node, ()):
            terms.append(_run(option, states[source], True) * weight)
        if terms:
            states.append(torch.stack(terms).sum(0))
        else:
            states.append(states[0].new_zeros((len(states[0]), *size)))
    return torch.cat([states[state] for state in program.concat], 1)


def _of_nodes(
    sources: Lists | None, weights: Sequence[Sequence[Tensor]]
) -> dict[int, list[tuple[int, Option[Tensor], Tensor]]]:
    """For each node its options that did not run: the state that they read, and their weight."""
    found: dict[int, list[tuple[int, Option[Tensor], Tensor]]] = {}
    if sources is None:
        return found
    for state, ((nodes, options), numbers) in enumerate(zip(decode_sources(*sources), weights, strict=True)):
        for (edge, option), weight in zip(options, numbers, strict=True):
            found.setdefault(nodes[edge], []).append((state, option, weight))
    return found


def _run(option: Option[Tensor], x: Tensor, moves: bool) -> Tensor:
    """The option by PyTorch's operators; moves: its running statistics move."""
    if option.pool is not None:
        images = pool(x, option.pool.max, option.pool.kernel, option.pool.stride)
        return _normalised(option.pool.norm, images, moves)
    for block in option.chain:
        z = convolution(x, block.depthwise, block.products, block.geometry, block.relu)
        x = _normalised(block.norm, z, moves)
    return x


def _normalised(norm: Norm[Tensor] | None, z: Tensor, moves: bool) -> Tensor:
    if norm is None:
        return z
    weight, bias, mean, var = norm.parts()
    if moves and norm.running is not None and norm.batches is not None:
        # Not by batch_norm, whose graph would hold the running statistics to what they are now.
        batch = torch.stack(torch.var_mean(z.detach(), (0, 2, 3), correction=0)[::-1])
        count = z.numel() // z.shape[1]
        one = ([norm.running[0]], [norm.running[1]], [norm.batches], [batch], [count], [norm.momentum])
        update_statistics_(*one)
    return F.batch_norm(z, mean, var, weight, bias, norm.batch, 0.0, norm.eps)
