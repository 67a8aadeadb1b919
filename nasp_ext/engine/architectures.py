# SPDX-License-Identifier: MIT
"""What the engine asks of an architecture that was found: its JSON, its drawings, what to count in it.

The family of its kind answers. A genotype of a kind without a family answers itself: ``drawings()`` gives SVG
text by file name, ``counts()`` whole numbers for the history by name.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasp_ext.arch.family import families
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.search_space import SearchSpace
from nasp_ext.engine.attention import attention_svg
from nasp_ext.engine.checkpoint import write_atomic
from nasp_ext.engine.record import skip_connections
from nasp_ext.families.genotypes import genotype_from_json, write_drawings
from nasp_ext.states import shown


def plain(genotype: AnyGenotype) -> dict[str, Any]:
    """The JSON of a genotype, parsed.

    Raises:  ValueError: it is no JSON object.
    """
    text = genotype.to_json()
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"expected {type(genotype).__name__}.to_json() to give a JSON object, got {shown(text)}"
        )
    return found


def is_stored(found: Any, genotype: AnyGenotype, name: str) -> bool:
    """Whether a checkpoint holds this genotype, as the dict of its JSON or that of an older version.

    Raises:  ValueError: it holds none at all.
    """
    own = plain(genotype)
    try:
        if not isinstance(found, Mapping):
            raise TypeError(f"found {shown(found)}")
        return _same(found, own) or bool(genotype_from_json(found) == genotype)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        if isinstance(found, Mapping) and found.keys() == own.keys():
            return False
        raise ValueError(f"expected {name} to be a genotype: {error}") from error


def _same(found: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    try:
        return json.dumps(found) == json.dumps(own)
    except (TypeError, ValueError, RecursionError):
        return False


def counts(genotype: AnyGenotype) -> dict[str, int]:
    """What a history counts in a genotype."""
    own = getattr(genotype, "counts", None)
    found = {"skip_connections": skip_connections(genotype)} if own is None else own()
    if not isinstance(found, Mapping):
        raise ValueError(
            f"expected {type(genotype).__name__}.counts() to give numbers by name, got {shown(found)}"
        )
    return dict(found)


def warn_if_constant(genotype: AnyGenotype, cells: int) -> None:
    """Say so before hours are spent on a network whose output is the same for every input.

    A genotype of a kind without a family is not asked.
    """
    family = next((family for family in families() if family.kind == genotype.kind), None)
    if family is not None and not family.depends_on_input(genotype, cells):
        warnings.warn(
            f"no path of operations leads from the input to the output of {cells} cells of this genotype: "
            "the network computes the same for every input and training cannot change that. Rows without a "
            "positive entry have no edge: search with a smaller eta or arch-lr, or from a larger init",
            stacklevel=3,
        )


def draw(genotype: AnyGenotype, folder: Path) -> list[Path]:
    """Write the drawings of a genotype; their files."""
    own = getattr(genotype, "drawings", None)
    return write_drawings(genotype, folder) if own is None else write_all(own(), folder)


def space_drawings(space: SearchSpace, line: Mapping[str, Any]) -> dict[str, str]:
    """What else the last line of a search in this space is drawn as: file names to SVG text."""
    if space.attention:
        return {"attention.svg": attention_svg(space, line["scores"], line["active"])}
    return {}


def write_all(drawings: Mapping[str, str], folder: Path) -> list[Path]:
    """Write each drawing; their files.

    Raises:  ValueError: one is no text, or its name that of no SVG file in the folder; none is written.
    """
    plain_names = isinstance(drawings, Mapping) and all(
        isinstance(name, str) and re.fullmatch(r"\w[\w. -]*\.svg", name) and isinstance(drawing, str)
        for name, drawing in drawings.items()
    )
    if not plain_names:
        raise ValueError(
            f"expected drawings as text by the names of SVG files, such as cells.svg, got {shown(drawings)}"
        )
    for name, drawing in drawings.items():
        write_atomic(folder / name, drawing.encode())
    return [folder / name for name in drawings]
