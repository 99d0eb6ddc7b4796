"""Raw arrays of any reader → a checked `PointCloud` or `trimesh.Trimesh`.

The one place where coordinates, faces, normals and colours of a source are judged, so all formats share one
rule.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from ..geometry import PointCloud
from .errors import ReadError

__all__ = ["as_colors", "cloud", "fan", "known_colors", "known_normals", "mesh", "polygons", "usable_normals"]


def cloud(
    name: str,
    points: NDArray,
    normals: NDArray | None = None,
    colors: NDArray | None = None,
    *,
    drop_missing: bool = False,
) -> PointCloud:
    """Return the checked cloud of the source called `name`.

    Parameters
    ----------
    name : str
        File name, for messages.
    points, normals, colors : (n, 3) array or None
        As read; colours in 0–255. Normals are kept only if every one is usable, else dropped with a warning:
        a cloud in which some points have none is a cloud without normals.
    drop_missing : bool
        Leave out rows with a NaN coordinate: organised scans mark "no return" so.

    Raises
    ------
    ReadError
        Wrong shape, a coordinate not finite, nothing left.
    """
    if drop_missing and points.ndim == 2:
        seen = ~np.isnan(points).any(axis=1)
        if not seen.any():
            raise ReadError(f"{name}: all {len(points)} points are NaN (no return). Is it the right scan?")
        if not seen.all():
            points = points[seen]
            normals = None if normals is None else normals[seen]
            colors = None if colors is None else colors[seen]
    try:
        return PointCloud(points, usable_normals(name, normals), colors)
    except ValueError as error:
        raise ReadError(f"{name}: {error}") from error


def mesh(
    name: str,
    vertices: NDArray,
    faces: NDArray[np.integer],
    normals: NDArray | None = None,
    colors: NDArray | None = None,
    attributes: dict[str, NDArray] | None = None,
) -> trimesh.Trimesh:
    """Return the checked mesh of the source called `name`; nothing is merged, dropped or reordered.

    Parameters
    ----------
    name : str
        File name, for messages.
    vertices : (n, 3) array
        Positions, finite [world units].
    faces : (m, 3) integer array
        Corners, counted from 0.
    normals, colors : (n, 3) array or None
        Per vertex; normals follow the rule of `cloud`.
    attributes : dict of (n,) arrays or None
        Further scalars per vertex, kept as `vertex_attributes`.

    Raises
    ------
    ReadError
        A vertex is not finite, or a face names a vertex that is not there.
    """
    checked = cloud(name, vertices, normals, colors)
    faces = np.asarray(faces, dtype=np.int64)
    _inside(name, np.full(len(faces), 3), faces.ravel(), len(checked), 0)
    return trimesh.Trimesh(
        vertices=checked.points.copy(),  # the user's to change
        faces=faces,
        vertex_normals=checked.normals,
        vertex_colors=checked.colors,
        vertex_attributes=dict(attributes or {}),
        process=False,
        validate=False,
    )


def fan(
    name: str, sizes: NDArray[np.integer], corners: NDArray[np.integer], n_vertices: int, *, first: int = 0
) -> NDArray[np.int64]:
    """Return the triangles of polygons, each split as a fan around its first corner.

    Parameters
    ----------
    name : str
        File name, for messages.
    sizes : (p,) integer array
        Corners of each polygon. Polygons of one or two corners are points and segments: they have no area and
        give no triangle.
    corners : (sum of sizes,) integer array
        Vertex numbers of all polygons, one after the other, counted from 0.
    n_vertices : int
        How many vertices there are.
    first : int
        Number of the first vertex in the file (OBJ counts from 1), for messages.

    Returns
    -------
    (m, 3) int64 array
        In the order of the polygons.

    Raises
    ------
    ReadError
        A polygon names a vertex that is not there.
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    corners = np.asarray(corners, dtype=np.int64)
    _inside(name, sizes, corners, n_vertices, first)
    if len(sizes) and (sizes == 3).all():
        return np.asarray(corners.reshape(-1, 3))
    triangles = np.maximum(sizes - 2, 0)
    anchor = np.repeat(np.cumsum(sizes) - sizes, triangles)
    step = np.arange(triangles.sum()) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    return np.stack([corners[anchor], corners[anchor + step + 1], corners[anchor + step + 2]], axis=1)


def polygons(lists: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return sizes and joined corners of polygons given one list each, as `fan` takes them."""
    sizes = np.fromiter(map(len, lists), np.int64, len(lists))
    corners = np.fromiter((corner for polygon in lists for corner in polygon), np.int64, int(sizes.sum()))
    return sizes, corners


def as_colors(values: NDArray) -> NDArray[np.uint8]:
    """Return colours as 0–255: uint8 as it is, 16-bit by its high byte, else 0–1 when nothing exceeds 1."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16 and values.max(initial=0) > 255:
        return (values >> 8).astype(np.uint8)
    scale = 255.0 if values.max(initial=0) <= 1 else 1.0
    return np.rint(np.clip(np.nan_to_num(values * scale), 0, 255)).astype(np.uint8)


def usable_normals(name: str, normals: NDArray | None) -> NDArray | None:
    """Return `normals` if all are finite and none is zero; else None, with a warning that counts."""
    if normals is None:
        return None
    bad = _unusable(normals)
    if bad.any():
        warnings.warn(
            f"{name}: {np.count_nonzero(bad)} of {len(bad)} normals are zero or not finite; all are ignored.",
            stacklevel=2,
        )
        return None
    return normals


def known_colors(shape: trimesh.Trimesh | trimesh.PointCloud | PointCloud) -> NDArray[np.uint8] | None:
    """Return the colours that a cloud's points or a mesh's vertices were given, (n, 3), or None."""
    if isinstance(shape, PointCloud):
        return shape.colors
    visual: Any = getattr(shape, "visual", None)
    if getattr(visual, "kind", None) != "vertex":
        return None
    colors = np.asarray(visual.vertex_colors)
    return colors[:, :3] if len(colors) == len(shape.vertices) else None


def known_normals(mesh: trimesh.Trimesh) -> NDArray[np.float64] | None:
    """Return the vertex normals that a mesh was given or has computed, if all are usable; computes none."""
    if "vertex_normals" not in mesh._cache:
        return None
    normals = np.asarray(mesh.vertex_normals)
    return None if _unusable(normals).any() else normals


def _unusable(normals: NDArray) -> NDArray[np.bool_]:
    return ~np.isfinite(normals).all(axis=-1) | ~normals.any(axis=-1)


def _inside(name: str, sizes: NDArray, corners: NDArray, n_vertices: int, first: int) -> None:
    wrong = (corners < 0) | (corners >= n_vertices)
    if wrong.any():
        at = int(np.argmax(wrong))
        face = int(np.searchsorted(np.cumsum(sizes), at, side="right"))
        raise ReadError(
            f"{name}: face {face + first} names vertex {int(corners[at]) + first}, but the {n_vertices} "
            f"vertices are numbered {first} to {n_vertices - 1 + first}; "
            f"{np.count_nonzero(wrong)} such corners in all. Is the file complete?"
        )
