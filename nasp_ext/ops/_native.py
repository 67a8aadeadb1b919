# SPDX-License-Identifier: MIT
"""What every wrapper does around a native operator: arguments in, errors out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from nasp_ext.ops._transforms import by_torch_alone, is_followed

PRUNED = -1
NAN_ROW = -2

_SEED_BOUND = 2**63 - 1


def call(operator: Callable[..., Any], *arguments: Any) -> Any:
    """Run a native operator; what it raises for a wrong type, device or want of memory is explained."""
    if by_torch_alone():
        _refuse_followed(operator, arguments)
    try:
        return operator(*arguments)
    except NotImplementedError as error:
        raise NotImplementedError(_no_kernel(operator, arguments)) from error
    except MemoryError as error:
        raise RuntimeError(f"{operator}: not enough memory for what it makes; use a smaller batch") from error
    except RuntimeError as error:
        if "Expected a value of type" in str(error):  # the dispatcher's words
            raise TypeError(str(error)) from error
        raise


def record(function: Any, *arguments: Any) -> Any:
    """Apply a torch.autograd.Function."""
    return function.apply(*arguments)


def _no_kernel(operator: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    from nasp_ext._info import cuda_reason  # asks the installation; only needed for this message

    tensors = list(tensors_in(arguments))
    layouts = sorted({str(x.layout) for x in tensors} - {"torch.strided"})
    if layouts:
        return f"{operator}: no kernel for tensors in {', '.join(layouts)}. Convert them with .to_dense()."
    found = sorted({x.device.type for x in tensors} - {"cpu"})
    reason = cuda_reason() if found == ["cuda"] else "only cpu and cuda have kernels"
    return f"{operator}: no kernel for tensors on {', '.join(found)}: {reason}. Move them with .cpu()."


def tensors_in(arguments: Iterable[object]) -> Iterator[Tensor]:
    """The tensors among the arguments and in the lists among them."""
    for x in arguments:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, (list, tuple)):
            yield from (item for item in x if isinstance(item, Tensor))


def register_fake(name: str, fake: Callable[..., Any]) -> None:
    """Register the fake kernel of an operator.

    One tensor on ``meta`` is enough for the dispatcher to take it, and what it gives is memory without
    contents: so all tensors must be there.
    """

    def checked(*arguments: Any) -> Any:
        devices = sorted({str(t.device) for t in tensors_in(arguments)})
        if len(devices) > 1:
            raise ValueError(
                f"nasp_ext::{name}: expected all tensors on one device, found {' and '.join(devices)}; "
                "move them with .to()"
            )
        return fake(*arguments)

    torch.library.register_fake(f"nasp_ext::{name}")(checked)


def check_tensor(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"expected {name} to be a torch.Tensor, found {type(value).__name__}")


def differentiable(*tensors: Tensor) -> bool:
    """Whether autograd would record an operation on these."""
    if torch.is_grad_enabled():
        for t in tensors:  # any() of a generator takes twice as long
            if t.requires_grad:
                return True
    return False


def _refuse_followed(operator: Any, arguments: tuple[Any, ...]) -> None:
    """The kernels know no tangents, no batches and no traces: they would be lost without a word."""
    if any(is_followed(t) for t in tensors_in(arguments)):
        raise RuntimeError(
            f"{operator} has neither a forward-mode derivative nor a batching rule: take the twin in "
            "nasp_ext.ops.reference, which is made of PyTorch's own operations"
        )


def mark_changed(*tensors: Tensor | None) -> None:
    """Tell autograd that an operator wrote to these: kernels behind the stable ABI do not."""
    if not torch.compiler.is_compiling():  # a compiled graph sees to the versions itself
        torch.autograd.graph.increment_version([t for t in tensors if t is not None])


def mark_moved(statistics: Sequence[Tensor]) -> None:
    """As ``mark_changed``, for running statistics (mean, variance, count of batches if they move)."""
    moved = [i for i, t in enumerate(statistics) if t.dtype is torch.int64]
    if moved:
        mark_changed(*(t for i in moved for t in statistics[i - 2 : i + 1]))


def row_mask(mask: Tensor | None, a: Tensor) -> Tensor | None:
    """``mask`` in the form of the kernels: the last dimensions of ``a``, repeated over the others."""
    if mask is None:
        return None
    check_tensor(mask, "mask")
    if mask.dim() and mask.shape == a.shape[a.dim() - mask.dim() :]:
        return mask
    try:
        return mask.expand(a.shape)
    except RuntimeError as error:
        raise ValueError(
            f"expected mask to broadcast to the shape of a, {tuple(a.shape)}, found {tuple(mask.shape)}"
        ) from error


def seed_of(generator: torch.Generator | int | None) -> int | None:
    """The seed of a call's tie-breaks: drawn from ``generator``, or the number itself."""
    if generator is None or type(generator) is int:
        return generator
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"expected generator to be a torch.Generator, a seed or None, found {type(generator).__name__}"
        )
    return int(torch.randint(_SEED_BOUND, (), generator=generator))


def check_selection(active: list[int]) -> None:
    """Raise if a row of ``A`` held a NaN; for whoever copies ``active`` to the host.

    Args:    active: one integer per row, as ``select_active`` and ``nasp_step_`` give them.
    Raises:  ValueError: if an entry is ``NAN_ROW``.
    >>> check_selection([3, PRUNED])
    """
    if NAN_ROW in active:
        raise ValueError(
            f"expected numbers in every row of A, found NaN in row {active.index(NAN_ROW)}; "
            "check the loss and the learning rate"
        )
