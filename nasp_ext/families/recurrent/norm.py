# SPDX-License-Identifier: MIT
"""The BatchNorm of a recurrent cell where native calls run in its place."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

_OWN_CODE = (nn.BatchNorm1d.forward, nn.Module.__call__, F.batch_norm)


def why_norm_plain(norm: nn.Module | None) -> str | None:
    """Why the norm of a cell is left to PyTorch; None if native calls can stand for it."""
    if norm is None:
        return None
    reason = _why_plain(norm)
    return None if reason is None else f"{type(norm).__name__}: {reason}"


def _why_plain(norm: nn.Module) -> str | None:
    if type(norm) is not nn.BatchNorm1d or norm.weight is not None or norm.bias is not None:
        return "expected BatchNorm1d(affine=False) as the norm of a cell"
    if "forward" in vars(norm) or (nn.BatchNorm1d.forward, nn.Module.__call__, F.batch_norm) != _OWN_CODE:
        return "it runs other code than PyTorch's own"
    if norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks or norm._backward_pre_hooks:
        return "a hook watches it"
    if norm.running_mean is not None or norm.running_var is not None:
        return "it has running statistics"
    if not norm.eps > 0:  # which has an error of its own
        return "expected eps > 0"
    return None
