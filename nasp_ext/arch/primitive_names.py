# SPDX-License-Identifier: MIT
"""What primitives are called, here and in code of the field."""

NONE = "none"
# Liu, Simonyan, Yang 2019 (DARTS), section 3.1; NASP searches it without `none`: `selectable()`.
DARTS_PRIMITIVES = (
    NONE,
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
# What Yao et al. (NASP) call these primitives in their code: a name of theirs -> ours.
_NAMES_OF_NASP = {
    **{f"conv {k}x{k}": f"conv_{k}x{k}" for k in (1, 3)},
    "conv 3x1 1x3": "conv_3x1_1x3",
    "conv 7x1 1x7": "conv_7x1_1x7",
    **{f"sep_{k}x{k}": f"sep_conv_{k}x{k}" for k in (3, 5, 7)},
    **{f"dil_{k}x{k}": f"dil_conv_{k}x{k}" for k in (3, 5)},
}


def primitive_name(name: str) -> str:
    """The name that a primitive has here, given that or the one in the code of the NASP authors.

    >>> primitive_name("sep_3x3"), primitive_name("conv 1x1"), primitive_name("skip_connect")
    ('sep_conv_3x3', 'conv_1x1', 'skip_connect')
    """
    return _NAMES_OF_NASP.get(name, name)
