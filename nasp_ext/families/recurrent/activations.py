# SPDX-License-Identifier: MIT
"""The activations of recurrent cells by name, with the numbers that the native operators know them by."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "tanh": torch.tanh,
        "relu": torch.relu,
        "sigmoid": torch.sigmoid,
        "identity": lambda h: h,
    }
)
ACTIVATIONS = tuple(FUNCTIONS)  # in the order of csrc/recurrent/recurrent_math.h
