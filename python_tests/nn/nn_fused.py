# SPDX-License-Identifier: MIT
"""Runs a module fused and plain, and compares all that a user can see of it."""

import copy

import torch
from torch import Tensor, nn

from nasp_ext.nn import plain_modules

WIDE = torch.float64


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=WIDE, generator=torch.Generator().manual_seed(seed))


def observed(module: nn.Module, call, inputs: list[Tensor], upstream=None) -> dict[str, Tensor | None]:
    """The output, the gradients of inputs and parameters, and the state after both.

    Args:
        call: (module, *inputs) -> a tensor; inputs: a gradient is asked for those that require one.
        upstream: output -> its gradient; None: random.
    """
    inputs = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
    torch.manual_seed(7)
    out = call(module, *inputs)
    found: dict[str, Tensor | None] = {"out": out.detach().clone()}
    if out.requires_grad:
        grad = images(*out.shape, seed=3).to(out.dtype) if upstream is None else upstream(out)
        wanted = {f"input {i}": x for i, x in enumerate(inputs) if x.requires_grad}
        wanted |= {name: p for name, p in module.named_parameters() if p.requires_grad}
        grads = torch.autograd.grad(out, list(wanted.values()), grad, allow_unused=True)
        found |= {f"gradient of {name}": grad for name, grad in zip(wanted, grads, strict=True)}
    return found | {f"state {name}": tensor.clone() for name, tensor in module.state_dict().items()}


def compared(module: nn.Module, call, inputs: list[Tensor], upstream=None) -> dict[str, Tensor | None]:
    """Assert that fused and plain modules give the same; returns it."""
    fused = observed(copy.deepcopy(module), call, inputs, upstream)
    with plain_modules():
        plain = observed(copy.deepcopy(module), call, inputs, upstream)
    assert_same(fused, plain)
    return fused


def assert_same(found: dict[str, Tensor | None], expected: dict[str, Tensor | None]) -> None:
    """Equal to 1e-9 of the largest entry; None in the same places."""
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        one = found[name]
        assert (one is None) == (wanted is None), f"{name} is None on one side only"
        if one is None or wanted is None:
            continue
        assert (one.shape, one.dtype) == (wanted.shape, wanted.dtype), name
        scale = float(wanted.abs().max()) if wanted.numel() else 0.0
        torch.testing.assert_close(
            one, wanted, rtol=0, atol=1e-9 * scale + 1e-11, msg=lambda text, name=name: f"{name}: {text}"
        )


def shuffled(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 with random weights and running statistics."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double()
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            with torch.no_grad():
                tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=WIDE) + 0.5)
                if tensor.dim() == 4:
                    tensor.sub_(1)
    return module


def kept_bytes(call):
    """The bytes of memory that the graph of ``call()`` keeps, each once, and what it returned."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = call()
    return sum(kept.values()), out
