"""Planes through a point's neighbours that hold one sheet of the surface and pay no heed to others nearby.

Least squares over the nearest points mixes the two sheets of a thin wall. Here every plane through three of
the neighbours is tried, the one taken that holds most of them closest (least median of squares), and refitted
to those it holds.

References
----------
Rousseeuw, Least Median of Squares Regression, JASA 79, 1984.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ocsdf3d.cores import tree_workers
from ocsdf3d.neighbourhoods import principal_axes

__all__ = ["NEIGHBOURS", "Planes", "neighbours_of_sheet", "on_wires", "sheet_planes"]

Floats = NDArray[np.float64]

NEIGHBOURS = 12  # of a point, itself among them
HELD = 8  # of them that the plane holds
TRIPLES = np.array(list(combinations(range(NEIGHBOURS), 3)))
FAT = 0.35  # least area of a triple's triangle, doubled, over its longest edge squared
SHEETS = 0.75
ASKED = 8000  # samples, at least if there are as many, whether they lie on wires
PIECE = 2000  # points at once: 60 MB
AMONG = 3  # times the neighbours that are wanted: among so many nearest ones those of a sheet are sought


class Planes(NamedTuple):
    """Planes at n points.

    Attributes
    ----------
    normals : (n, 3) array
        Unit, of either sign.
    width : (n,) array
        Distance within which the best plane through three neighbours has `HELD` of them.
    spacing : (n,) array
        Mean distance to the nearest neighbours.
    round : (n,) bool array
        Whether the neighbourhood reaches in two directions; along a wire it does not.
    flat : (n,) bool array
        Whether it reaches less in the third.
    """

    normals: Floats
    width: Floats
    spacing: Floats
    round: NDArray[np.bool_]
    flat: NDArray[np.bool_]

    @property
    def of_sheets(self) -> bool:
        """Whether the cloud is one of sheets: round nearly everywhere. Of 22 closed shapes of 2,048 points a
        cage of wires has 56 % round neighbourhoods, all others 91 % and more."""
        return bool(self.round.mean() >= SHEETS)


def sheet_planes(points: Floats, tree: cKDTree) -> Planes:
    """Return the planes at points, (n, 3), from the cloud in a tree of at least `NEIGHBOURS` points."""
    pieces = np.array_split(points, max(1, -(-len(points) // PIECE)))
    found = [_fitted(piece, tree) for piece in pieces]
    return Planes(*(np.concatenate(part) for part in zip(*found, strict=True)))


def on_wires(points: Floats) -> bool:
    """Return whether distinct points, (n, 3), lie on wires rather than on sheets, see `Planes.of_sheets`."""
    few = points[:: max(1, len(points) // ASKED)]
    return len(points) >= NEIGHBOURS and not sheet_planes(few, cKDTree(points)).of_sheets


def _fitted(points: Floats, tree: cKDTree) -> Planes:
    distance, index = tree.query(points, k=NEIGHBOURS, workers=tree_workers())
    patch = np.asarray(tree.data)[index] - points[:, None]
    a, b, c = (patch[:, TRIPLES[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=-1)
    longest = np.max([((b - a) ** 2).sum(-1), ((c - a) ** 2).sum(-1), ((c - b) ** 2).sum(-1)], axis=0)
    normal /= np.maximum(area, 1e-300)[..., None]
    height = np.abs(np.einsum("ntd,nkd->ntk", normal, patch) - (normal * a).sum(-1)[..., None])
    width = np.where(area > FAT * longest, np.partition(height, HELD - 1, axis=-1)[..., HELD - 1], np.inf)
    row, best = np.arange(len(points)), width.argmin(axis=1)
    held = height[row, best] <= width[row, best, None]
    _squares, axes = principal_axes(patch, held.astype(np.float64))
    squares, _axes = principal_axes(patch)
    return Planes(
        axes[:, :, 0],
        width[row, best],
        distance[:, 1:11].mean(axis=1),
        4.0 * squares[:, 1] > squares[:, 2],
        4.0 * squares[:, 0] < squares[:, 1],
    )


def neighbours_of_sheet(
    points: Floats, some: NDArray[np.int64], normals: Floats | None, tree: cKDTree, count: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Return distances and indices, (m, count), of the nearest points that face the same way.

    What lies on the other side of a thin wall is no neighbour, however near.

    Parameters
    ----------
    points : (n, 3) array
        The cloud, distinct points.
    some : (m,) int array
        Those of it whose neighbours are sought; each is its own first.
    normals : (n, 3) array or None
        Outward. Sought are neighbours whose normals make less than a right angle with the point's, among
        `AMONG` · `count` nearest; the nearest, whichever way they face, when None.
    tree : scipy.spatial.cKDTree
        Over `points`.
    count : int
        How many; of those that are not found the index is the point's own and the distance infinite.
    """
    k = min(count if normals is None else AMONG * count, len(points))
    distance, index = tree.query(points[some], k=k, workers=tree_workers())
    if normals is not None:
        other = (normals[index] * normals[some, None]).sum(axis=-1) <= 0.0
        other[:, 0] = False
        nearest = np.argsort(other, axis=1, kind="stable")[:, :count]
        distance = np.take_along_axis(np.where(other, np.inf, distance), nearest, axis=1)
        index = np.take_along_axis(index, nearest, axis=1)
        index = np.where(np.isfinite(distance), index, some[:, None])
    return distance, index
