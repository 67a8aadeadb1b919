# SPDX-License-Identifier: MIT
"""Experiments of the papers, one module each; ``nasp-ext reproduce`` knows what ``EXPERIMENTS`` lists."""

from nasp_ext.reproduce.base import Experiment
from nasp_ext.reproduce.nasp_eta import NaspEta

EXPERIMENTS: dict[str, type[Experiment]] = {"nasp-eta": NaspEta}

__all__ = ["EXPERIMENTS", "Experiment"]
