# SPDX-License-Identifier: MIT
"""The compiled operators: importing it registers torch.ops.nasp_ext."""
