# SPDX-License-Identifier: MIT
"""Commands of ``nasp-ext`` that are more than parse, build, call; ``nasp_ext.cli`` lists them all."""
