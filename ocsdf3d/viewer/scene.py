"""What there is to see: named structures and the quantities they carry, no graphics library needed.

A structure is a set of points or a triangle mesh in world units. A field brings its level set, which
`levels.py` finds again whenever the level moves, and the quantities that only a field can give.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ocsdf3d import checkpoint, io
from ocsdf3d.colors import colors_at
from ocsdf3d.cores import tree_workers
from ocsdf3d.csg import Field
from ocsdf3d.geometry import Box, PointCloud

__all__ = ["COLORINGS", "Colors", "Scene", "Structure", "colors_of", "scene_of"]

Floats = NDArray[np.float64]
Role = Literal["cloud", "mesh", "reference", "surface"]

COLORINGS = ("plain", "given", "normals", "cloud", "error", "slope")
PALETTE = {
    "cloud": ("#1f4e79", "#7a4a1d", "#4b6b2a"),
    "mesh": ("#8fb3d9", "#a9c99a", "#c7a6cf"),
    "reference": ("#b9b4a7", "#cbbfa4", "#a3a89f"),
    "surface": ("#e8c07d", "#dd9a86", "#b7c98b"),
}
INK, PAPER = "#222222", "white"
SCALE, DIVERGING = "viridis", "coolwarm"  # quantities from 0 on; φ on a slice
FIELD_EXTENSION = ".safetensors"


@dataclass(frozen=True, eq=False)
class Structure:
    """One thing in a scene.

    Attributes
    ----------
    name : str
        What the legend calls it; no two of a scene share one.
    role : str
        `"cloud"`, `"mesh"`, `"reference"` or `"surface"`, the level set of a field.
    color : str
        Of the plain colouring, `#rrggbb`.
    shape : trimesh.Trimesh or PointCloud
        Positions in world units; of a surface the level set that is shown first.
    field : Field or None
        Of a surface.
    """

    name: str
    role: Role
    color: str
    shape: trimesh.Trimesh | PointCloud
    field: Field | None = None

    @property
    def box(self) -> Box:
        """Smallest box around it [world units]."""
        return Box.of(self.shape.points if isinstance(self.shape, PointCloud) else self.shape.vertices)


@dataclass(frozen=True, eq=False)
class Scene:
    """Structures from left to right: the input, what was made of it, the truth.

    Attributes
    ----------
    structures : tuple of Structure
        At least one.
    """

    structures: tuple[Structure, ...]

    @property
    def box(self) -> Box:
        """Smallest box around everything [world units]."""
        box = self.structures[0].box
        for structure in self.structures[1:]:
            box = box.joined(structure.box)
        return box

    @property
    def fields(self) -> tuple[Structure, ...]:
        """The surfaces, which follow the level."""
        return tuple(structure for structure in self.structures if structure.field is not None)

    @cached_property
    def cloud_tree(self) -> cKDTree | None:
        """Search tree of that cloud; built once, for every surface that is coloured by it."""
        cloud = None if self.cloud is None else self.cloud.shape
        return cKDTree(cloud.points) if isinstance(cloud, PointCloud) else None

    @property
    def cloud(self) -> Structure | None:
        """The first cloud: what distances are measured to."""
        return next((structure for structure in self.structures if structure.role == "cloud"), None)

    def __getitem__(self, name: str) -> Structure:
        """Return the structure of that name; KeyError names those there are."""
        for structure in self.structures:
            if structure.name == name:
                return structure
        raise KeyError(f"no structure {name!r}; there are {', '.join(s.name for s in self.structures)}")


class Colors(NamedTuple):
    """Values of a colouring, one a vertex, and what the legend says of them."""

    values: NDArray[Any]  # (n,) float64, or (n, 3) uint8 red, green, blue
    title: str
    limits: tuple[float, float] | None  # of the colour scale; None for red, green, blue


def scene_of(
    things: Sequence[Any],
    *,
    cloud: Any = None,
    reference: Any = None,
    offset: float = 0.0,
    resolution: int = 64,
    device: str = "auto",
) -> Scene:
    """Return the scene of fields, meshes, clouds, arrays of points, or files that hold one.

    Parameters
    ----------
    things : sequence
        Each a `Field`, a `trimesh.Trimesh`, a `PointCloud`, an (n, 3) array, or a path.
    cloud, reference
        One more thing each, shown as the input cloud and as the truth.
    offset : float
        Level set {φ = offset} of the fields that is shown first [world units].
    resolution : int
        Nodes of that first surface along the longest side.
    device : str
        Where fields of files are computed.

    Raises
    ------
    ValueError
        Nothing to show, or a thing that is none of these.
    EmptyLevelSetError
        A field does not reach `offset`.
    """
    given: list[tuple[Any, Role | None]] = [(cloud, "cloud")] if cloud is not None else []
    given += [(thing, None) for thing in things]
    given += [(reference, "reference")] if reference is not None else []
    if not given:
        raise ValueError("nothing to show: give a field, a mesh or a cloud.")
    structures: list[Structure] = []
    for thing, asked in given:
        label, shape, field = _loaded(thing, device)
        if field is not None:
            if asked is not None:
                whose = f"{label}: " if label else ""
                raise ValueError(f"{whose}a field cannot be the {asked}; give it without that option.")
            shape = field.mesh(resolution=resolution, offset=offset)
        if asked == "cloud" and isinstance(shape, trimesh.Trimesh):
            shape = PointCloud(shape.vertices, colors=io.known_colors(shape))
        role: Role = "surface" if field is not None else "mesh"
        if asked is not None:
            role = asked
        elif isinstance(shape, PointCloud):
            role = "cloud"
        name, taken = label or role, {structure.name for structure in structures}
        name = next(n for n in (name, *(f"{name} {i}" for i in range(2, 10_000))) if n not in taken)
        colors = PALETTE[role]
        color = colors[sum(structure.role == role for structure in structures) % len(colors)]
        structures.append(Structure(name, role, color, shape, field))
    return Scene(tuple(structures))


def _loaded(thing: Any, device: str) -> tuple[str, trimesh.Trimesh | PointCloud, Field | None]:
    """Return the file's name or "", the shape, and the field; of a field the shape is a placeholder."""
    if isinstance(thing, Field):
        return "", trimesh.Trimesh(), thing
    if isinstance(thing, str | os.PathLike):
        path = Path(thing)
        if path.suffix.lower() == FIELD_EXTENSION:
            return path.name, trimesh.Trimesh(), checkpoint.load(path, device=device)
        return path.name, io.read(path), None
    return "", io.read(thing), None


def colors_of(
    structure: Structure, vertices: Floats, normals: Floats | None, coloring: str, scene: Scene, offset: float
) -> Colors | None:
    """Return the values of a colouring at the vertices of a structure, or None where it has none.

    Parameters
    ----------
    structure : Structure
        Whose they are.
    vertices, normals : (n, 3) arrays, the second or None
        As they are shown now: those of a surface move with its level.
    coloring : str
        `"given"`: those of the file, of a field's surface the scene's cloud's; `"normals"`: directions as
        red, green, blue; `"cloud"`: distance to the nearest point of the scene's cloud; `"error"`: proved
        upper bound of the distance to the level set of the scene's first field (`Field.error_bars`), not of
        the field's own surface, which lies on it; `"slope"`: ‖∇φ‖ of the same field; `"plain"`: None.
    scene : Scene
        What there is to measure against.
    offset : float
        Level of the fields [world units].
    """
    if coloring == "given":
        if structure.field is None:
            found = io.known_colors(structure.shape)
        else:  # a level set has none of its own
            found = None if scene.cloud is None else colors_at(vertices, scene.cloud.shape, scene.cloud_tree)
        return None if found is None else Colors(found, "colours of the file", None)
    if coloring == "normals" and normals is not None:
        return Colors(np.round(127.5 * (np.clip(normals, -1.0, 1.0) + 1.0)).astype(np.uint8), "normals", None)
    field = structure.field or next((other.field for other in scene.fields), None)
    if coloring == "cloud" and scene.cloud_tree is not None and structure is not scene.cloud:
        distance = scene.cloud_tree.query(vertices, workers=tree_workers())[0]
        return Colors(distance, "distance to\nthe cloud [units]\n", _scale(distance))
    if coloring == "error" and field is not None and structure.field is None:
        upper = (field.offset(offset) if offset else field).error_bars(vertices).upper
        return Colors(upper, "error bar: proved\ndistance to the\nsurface [units]\n", _scale(upper))
    if coloring == "slope" and field is not None:
        return Colors(np.linalg.norm(field.gradient(vertices), axis=1), "slope of the field\n", (0.0, 1.0))
    return None


def _scale(values: Floats) -> tuple[float, float]:
    """Return 0 and a round number that 98 % of the finite values stay below."""
    finite = values[np.isfinite(values)]
    return 0.0, ceiling(float(np.quantile(finite, 0.98)) if len(finite) else 0.0)


def ceiling(value: float) -> float:
    """Return the next of …, 0.1, 0.2, 0.5, 1, 2, 5, 10, … from `value` on; 1 for 0."""
    if not value > 0.0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= value * (1 - 1e-9)))
