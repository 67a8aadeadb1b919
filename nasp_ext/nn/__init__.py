# SPDX-License-Identifier: MIT
"""Candidate operations, MixedOp, cells, and the one class behind supernets and derived networks."""

from .attention import ArchitectureAttention, AttentionOp, recorded_attention
from .build import derived_network, supernet
from .costs import LayerCost, layer_costs, total_cost
from .fusion import fusion_reasons, plain_modules, why_not_fused
from .mixed_op import MixedOp
from .network import Network
from .partial import PartialMixedOp
from .primitives import DARTS_PRIMITIVES, PRIMITIVES, build_primitive, register_primitive

__all__ = [
    "DARTS_PRIMITIVES",
    "PRIMITIVES",
    "ArchitectureAttention",
    "AttentionOp",
    "LayerCost",
    "MixedOp",
    "Network",
    "PartialMixedOp",
    "build_primitive",
    "derived_network",
    "fusion_reasons",
    "layer_costs",
    "plain_modules",
    "recorded_attention",
    "register_primitive",
    "supernet",
    "total_cost",
    "why_not_fused",
]
