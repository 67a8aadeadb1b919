# SPDX-License-Identifier: MIT
"""The families of search spaces: of each its space, genotype, networks, derivation and drawing.

Every folder here is one, and registers itself when it is imported: see ``arch.Family``.
"""

from importlib import import_module as _import_module
from pkgutil import iter_modules as _iter_modules

for _found in _iter_modules(__path__, f"{__name__}."):
    if _found.ispkg:
        _import_module(_found.name)
