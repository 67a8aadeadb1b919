# SPDX-License-Identifier: MIT
"""Candidate operations, MixedOp, cells, and the one class behind supernets and derived networks."""

from nasp_ext.nn.attention import ArchitectureAttention, AttentionOp, recorded_attention
from nasp_ext.nn.fused.policy import fusion_reasons, plain_modules, why_not_fused
from nasp_ext.nn.mixed_op import MixedOp
from nasp_ext.nn.partial import PartialMixedOp
from nasp_ext.nn.primitives import DARTS_PRIMITIVES, PRIMITIVES, build_primitive, register_primitive

__all__ = [
    "DARTS_PRIMITIVES",
    "PRIMITIVES",
    "ArchitectureAttention",
    "AttentionOp",
    "MixedOp",
    "PartialMixedOp",
    "build_primitive",
    "fusion_reasons",
    "plain_modules",
    "recorded_attention",
    "register_primitive",
    "why_not_fused",
]
