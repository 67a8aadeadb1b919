# SPDX-License-Identifier: MIT
"""``python -m nasp_ext`` is the command ``nasp-ext``."""

import sys

from .cli import main

sys.exit(main())
