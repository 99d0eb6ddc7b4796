"""Colours of a cloud or a mesh, carried over to another surface.

A network of distances knows no colours, so a mesh takes them from what it was made of: between the nearest
points of a cloud by the inverse square of their distance, on a mesh within the triangle below.

References
----------
Shepard, A Two-Dimensional Interpolation Function for Irregularly-Spaced Data, ACM National Conference 1968.
"""

from __future__ import annotations

import igl
import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from trimesh.visual import ColorVisuals

from ocsdf3d import io
from ocsdf3d.cores import tree_workers
from ocsdf3d.geometry import PointCloud

__all__ = ["colors_at", "paint"]

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

NEAREST = 4  # points of a cloud that are mixed


def colors_at(
    points: Floats, shape: trimesh.Trimesh | PointCloud, tree: cKDTree | None = None
) -> Bytes | None:
    """Return the colours that a shape has next to points.

    Parameters
    ----------
    points : (n, 3) float64 array
        Where [world units].
    shape : trimesh.Trimesh or PointCloud
        With colours at its vertices or points, in the same place.
    tree : cKDTree, optional
        Of the points of a cloud, where it is at hand.

    Returns
    -------
    (n, 3) uint8 array, or None
        Red, green, blue; None where the shape has no colours.
    """
    colors = io.known_colors(shape)
    if colors is None:
        return None
    if isinstance(shape, PointCloud) or len(shape.faces) == 0:
        sites = shape.points if isinstance(shape, PointCloud) else np.asarray(shape.vertices)
        tree = cKDTree(sites) if tree is None else tree
        count = min(NEAREST, len(sites))
        away, at = tree.query(points, k=np.arange(1, count + 1), workers=tree_workers())
        with np.errstate(invalid="ignore"):
            weights = np.where(away > 0.0, away[:, :1] / away, 1.0) ** 2
    else:
        faces = np.asarray(shape.faces)
        _, below, foot = igl.point_mesh_squared_distance(points, np.asarray(shape.vertices), faces)
        at = faces[below]
        with np.errstate(divide="ignore", invalid="ignore"):  # a triangle without area
            weights = trimesh.triangles.points_to_barycentric(np.asarray(shape.vertices)[at], foot)
        weights = np.where(np.isfinite(weights).all(axis=1, keepdims=True), weights, 1.0 / 3.0).clip(0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.round((weights[:, :, None] * colors[at]).sum(axis=1)).astype(np.uint8)


def paint(mesh: trimesh.Trimesh, shape: trimesh.Trimesh | PointCloud) -> bool:
    """Give the vertices of a mesh, in place, the colours of what it was made from; whether that has any."""
    found = colors_at(np.asarray(mesh.vertices), shape)
    if found is None:
        return False
    mesh.visual = ColorVisuals(mesh, vertex_colors=found)
    return True
