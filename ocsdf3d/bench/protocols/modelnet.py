"""ModelNet furniture from bare points, sides unknown: mostly soup, so `--support auto` has to decide.

Every mesh that `meshes/meshes.csv` files under `modelnet` (without that list: whose name starts with
`modelnet_`), each model once. It is scaled to longest side 1, sampled by area and judged against its own raw
surface, inner walls and doubled faces included. Most of these have no inside, so there is no IoU.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import trimesh

from ocsdf3d.bench.judge import SURFACE
from ocsdf3d.bench.protocols import Asked, Case, Protocol
from ocsdf3d.bench.protocols.solids import meshes_of, sampled_cases, surface_figures


def categories(folder: Path) -> dict[str, str]:
    """File name → category, of `meshes.csv`; empty when there is no such list."""
    path = folder / "meshes.csv"
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["name"]: row.get("category", "") for row in csv.DictReader(file)}


def is_modelnet(name: str, category: dict[str, str]) -> bool:
    """Whether a file is a ModelNet model, by the list or by its name."""
    return category[name] == "modelnet" if category.get(name) else name.startswith("modelnet_")


def distinct(shapes: dict[str, trimesh.Trimesh]) -> dict[str, trimesh.Trimesh]:
    """The shapes without those whose triangles are those of an earlier one, such as a second file of it."""
    kept: dict[str, trimesh.Trimesh] = {}
    for name, mesh in shapes.items():
        same = (
            len(other.faces) == len(mesh.faces) and np.allclose(other.triangles, mesh.triangles, atol=1e-6)
            for other in kept.values()
        )
        if not any(same):
            kept[name] = mesh
    return kept


def _cases(asked: Asked) -> list[Case]:
    folder = asked.data / "meshes"
    category = categories(folder)
    shapes = {name: mesh for name, mesh in meshes_of(folder).items() if is_modelnet(name, category)}
    return sampled_cases(distinct(shapes), asked, "ModelNet mesh")


PARTS = (
    Protocol(
        "modelnet",
        "ModelNet shapes from bare points",
        SURFACE,
        "Against the raw mesh, longest side 1. A method that fails has infinite Chamfer and scores of 0.",
        _cases,
        surface_figures,
    ),
)
