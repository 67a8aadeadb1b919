# SPDX-License-Identifier: MIT
"""Checkpoints of other code: names of a state_dict that differ from ours are mapped while it is loaded."""

from typing import Any

from torch import nn

_WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and DistributedDataParallel; of torch.compile


class UnwrappedNames(nn.Module):
    """Takes a state_dict that was saved from a wrapper as well, whose name stands before all of its own.

    >>> net = UnwrappedNames()
    >>> net.inner = nn.Linear(2, 1, bias=False)
    >>> net.load_state_dict({f"module.{name}": value for name, value in net.state_dict().items()})
    <All keys matched successfully>
    """

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for wrapper in 2 * _WRAPPERS:  # a wrapper may be wrapped, either way round
            own = [name for name in state_dict if name.startswith(prefix)]
            if own and all(name.startswith(prefix + wrapper) for name in own):
                for name in own:
                    state_dict[prefix + name[len(prefix + wrapper) :]] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class SequentialNames(nn.Module):
    """Holds its layers as ``op``, and takes a state_dict of an ``nn.Sequential`` of the same layers as well.

    >>> chain = SequentialNames()
    >>> chain.op = nn.Sequential(nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> chain.load_state_dict({"1.weight": chain.op[1].weight})
    <All keys matched successfully>
    """

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        numbers = {name: name[len(prefix) :].split(".")[0] for name in state_dict if name.startswith(prefix)}
        for name, number in numbers.items():
            if number.isdecimal():
                state_dict[f"{prefix}op.{name[len(prefix) :]}"] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
