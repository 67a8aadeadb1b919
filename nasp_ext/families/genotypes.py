# SPDX-License-Identifier: MIT
"""Genotypes of any family: read from JSON or text, found by a published name, drawn into a folder."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasp_ext.arch.family import families, family_named, family_of
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.arch.genotype_text import genotype_in
from nasp_ext.families.cells.genotype import Genotype


def published() -> dict[str, AnyGenotype]:
    """The genotypes of the literature that the families know, by name."""
    return {name: found for family in families() for name, found in family.published.items()}


def genotype_from_json(data: str | Mapping[str, Any]) -> AnyGenotype:
    """Read a genotype of any family from text, see ``genotype_from_text``, or from parsed JSON.

    Its entry ``kind`` names the family; of genotypes of cells, also with one for each layer, the fields do.

    Raises:  ValueError: if there is none, or a field is missing, unknown or invalid.
    """
    if isinstance(data, str):
        return genotype_from_text(data)
    if not isinstance(data, Mapping):
        return Genotype.from_json(data)  # which says what it expects
    if "kind" in data:
        return family_named(data["kind"]).read({name: data[name] for name in data if name != "kind"})
    owners = [family for family in families() if family.owns(data)]
    return owners[0].read(data) if owners else Genotype.from_json(data)


def genotype_from_text(text: str, which: str | int | None = None) -> AnyGenotype:
    """Read a genotype of any family as ``Genotype.from_text`` does.

    Raises:  ValueError: as ``Genotype.from_text`` raises.
    """
    found = genotype_in(text, which)
    return Genotype.from_arch(found) if isinstance(found, str) else genotype_from_json(found)


def checked_genotype(value: Any) -> AnyGenotype:
    """The genotype itself. Raises TypeError if it is none: text has to be read first."""
    if isinstance(value, AnyGenotype):
        return value
    found = repr(value) if isinstance(value, str) and len(value) < 80 else type(value).__name__
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        raise TypeError(
            f"expected a Genotype of nasp_ext, got a named tuple {found}: Genotype(**value._asdict()) "
            "makes one of it"
        )
    raise TypeError(
        f"expected a Genotype, got {found}: Genotype.from_text reads text, "
        f"GENOTYPES[name] has the published ones, {', '.join(published())}"
    )


def write_drawings(genotype: AnyGenotype, folder: str | os.PathLike[str]) -> list[Path]:
    """Write the drawings of a genotype into a folder, as its family names them; their paths."""
    drawings = family_of(checked_genotype(genotype)).drawings(genotype)
    paths = []
    for name, drawing in drawings.items():
        path = Path(folder, name)
        temporary = path.with_name(f"{name}.part")
        temporary.write_text(drawing, encoding="utf-8")
        os.replace(temporary, path)
        paths.append(path)
    return paths
