# SPDX-License-Identifier: MIT
"""The spaces of recurrent cells of the literature."""

from nasp_ext.arch.registry import register_space
from nasp_ext.families.recurrent.space import RecurrentSpace

# Liu et al. 2019 (DARTS), section 3.1.2, which Yao et al. 2020 (NASP), section 4.2, search too.
DARTS_RNN = register_space(RecurrentSpace("darts-rnn", ("none", "tanh", "relu", "sigmoid", "identity")))
