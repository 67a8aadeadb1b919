# SPDX-License-Identifier: MIT
"""Candidate operations, MixedOp, cells, and the one class behind supernets and derived networks."""

from nasp_ext.nn.attention import ArchitectureAttention, AttentionOp, recorded_attention
from nasp_ext.nn.costs import LayerCost, layer_costs, total_cost
from nasp_ext.nn.fused.policy import fusion_reasons, plain_modules, why_not_fused
from nasp_ext.nn.mixed_op import MixedOp
from nasp_ext.nn.partial import PartialMixedOp
from nasp_ext.nn.primitives import DARTS_PRIMITIVES, PRIMITIVES, build_primitive, register_primitive

__all__ = [
    "DARTS_PRIMITIVES",
    "PRIMITIVES",
    "ArchitectureAttention",
    "AttentionOp",
    "LayerCost",
    "MixedOp",
    "PartialMixedOp",
    "build_primitive",
    "fusion_reasons",
    "layer_costs",
    "plain_modules",
    "recorded_attention",
    "register_primitive",
    "total_cost",
    "why_not_fused",
]
