# SPDX-License-Identifier: MIT
"""Experiments of the papers, one module each; ``nasp-ext reproduce`` knows what ``EXPERIMENTS`` lists."""

from nasp_ext.reproduce.asm_stability import AsmStability
from nasp_ext.reproduce.asng_nasbench201 import AsngNasbench201
from nasp_ext.reproduce.asng_toy import AsngToy
from nasp_ext.reproduce.base import Experiment
from nasp_ext.reproduce.nasp_eta import NaspEta
from nasp_ext.reproduce.nasp_stability import NaspStability

EXPERIMENTS: dict[str, type[Experiment]] = {
    "asm-stability": AsmStability,
    "asng-nasbench201": AsngNasbench201,
    "asng-toy": AsngToy,
    "nasp-eta": NaspEta,
    "nasp-stability": NaspStability,
}

__all__ = ["EXPERIMENTS", "Experiment"]
