# SPDX-License-Identifier: MIT
"""Recurrent cells of language models: what a step computes from its input and the hidden state."""

from nasp_ext.arch.family import register_family
from nasp_ext.families.recurrent import known as _known  # noqa: F401  registers its spaces
from nasp_ext.families.recurrent.family import RecurrentFamily
from nasp_ext.families.recurrent.lstm import LSTMFamily

register_family(RecurrentFamily())
register_family(LSTMFamily())
