# SPDX-License-Identifier: MIT
"""What an edge gives where its row is zero: found by the smallest branch, once per kind of input."""

import torch
from torch import Tensor, nn

from nasp_ext.nn.dispatch.branches import Label, autocast_state, output_like, run_branch, settings_of
from nasp_ext.nn.dispatch.inputs import Inputs
from nasp_ext.nn.dispatch.outputs import Zeros, leaves_of
from nasp_ext.nn.primitives import is_none

_KINDS_KEPT = 64  # inputs of more different kinds than that are probed again


class ZeroRows:
    """The outputs of zeros of one MixedOp. Copies and pickles of it start without any.

    Args:    primitives: the branches are primitives, so that `none` gives the shape that the others give.
    """

    def __init__(self, primitives: bool) -> None:
        self.primitives = primitives
        self._kept: dict[object, Zeros] = {}

    def __reduce__(self) -> tuple[type["ZeroRows"], tuple[bool]]:
        return ZeroRows, (self.primitives,)

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        self._kept.clear()

    def smallest(self, branches: nn.ModuleList, inputs: Inputs) -> int:
        """The branch with the fewest parameters.

        Raises:  ValueError: if all are `none`, and the input is no image.
        """
        none_runs = self.none_runs(branches, inputs)
        sizes = {
            k: sum([p.numel() for p in branch.parameters()])
            for k, branch in enumerate(branches)
            if none_runs or not is_none(branch)
        }
        if not sizes:
            raise ValueError(
                "expected a branch beside `none`, which alone gives zeros for images (B, C, H, W)"
            )
        return min(sizes, key=sizes.__getitem__)

    def output(self, branches: nn.ModuleList, names: tuple[str, ...], inputs: Inputs, like: Tensor) -> Zeros:
        """The output of zeros; like: a tensor on the device of the branches."""
        number = self.smallest(branches, inputs)
        branch, device, form = branches[number], like.device.type, inputs.form.key()
        kinds = [(t.shape, t.dtype) for t in inputs.tensors]
        key = (form, *kinds, autocast_state(device), settings_of(branch))
        if key not in self._kept:
            if len(self._kept) >= _KINDS_KEPT:
                self._kept.clear()
            label = Label(number, names)
            output = leaves_of(output_like(branch, inputs.call(number), inputs.tensors, device, label), label)
            zeros = Zeros([(leaf.shape, leaf.dtype) for leaf in output.mixed], output.of_zeros())
            if form is None:
                return zeros
            self._kept[key] = zeros
        return self._kept[key]

    def traced(self, branches: nn.ModuleList, names: tuple[str, ...], inputs: Inputs) -> object:
        """The output of zeros made of that of the smallest branch: traces have the size of their inputs."""
        number = self.smallest(branches, inputs)
        label = Label(number, names)
        output = leaves_of(run_branch(branches[number], inputs.call(number), inputs.tensors, label), label)
        filled: object = output.of_zeros().filled([torch.zeros_like(leaf) for leaf in output.mixed])
        return filled

    def none_runs(self, branches: nn.ModuleList, inputs: Inputs) -> bool:
        """Whether `none` itself gives zeros in the shape of the others."""
        fits = inputs.alone and inputs.tensors[0].dim() == 4
        return fits and (self.primitives or all(is_none(branch) for branch in branches))
