# SPDX-License-Identifier: MIT
"""``python -m nasp_ext`` is the command ``nasp-ext``."""

import sys

from nasp_ext.cli import main

sys.exit(main())
