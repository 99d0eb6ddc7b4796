"""A grid's level set as triangles: Lewiner's marching cubes, closed, wound outward, without degenerate faces.

scikit-image finds how the triangles hang together; three things it leaves open are settled here.

- *A node that equals the level.* Edges around such a node meet the surface in the same point: zero-area
  triangles, duplicate vertices, holes after welding. Nodes within `NUDGE` (1e-4 of the steepest crossed edge:
  a few float32 units in the last place of a coordinate at 200 nodes) of the level, or on it, are put that far
  outside. The surface moves inward there by 1e-4 of a cell, below its discretisation error, and every
  crossing becomes a point of its own.
- *Positions.* The mesher's are float32 and weighted with an absolute epsilon, so a shape of size 1e-6 or one
  far from the origin would come out torn. They are computed again from the edge each vertex lies on, in
  float64.
- *Edges shared by four triangles.* Two neighbouring cells with an ambiguous common face may both draw a
  diagonal in it, when the asymptotic decider finds a tie (node values ±1, say). One of the two is bent into
  its cell by a new vertex.

Smooth fields need only the second.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import trimesh
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from ocsdf3d.grid import NUDGE, Grid

_SLAB = 16  # planes looked at together: temporaries stay a few MB where the grid has GB
_SEEN_BY_MESHER = (
    1e-3  # smallest |value| it is shown: up to grid.LARGEST nodes float32 sees it beside its node
)


class EmptyLevelSetError(ValueError):
    """No cell of the grid straddles the level."""


def extract(grid: Grid, *, level: float = 0.0) -> trimesh.Trimesh:
    """Triangulate the level set {φ = level} of a sampled field.

    Parameters
    ----------
    grid : Grid
        φ at the nodes, negative inside [world units].
    level : float
        Iso-level; a positive one grows the solid by that distance [world units].

    Returns
    -------
    trimesh.Trimesh
        Welded (`process=False`, no two vertices alike), vertices float64 in world units; every edge has two
        faces when the level set stays off the faces of the grid's box, and the mesh ends in an open rim where
        it does not: the caller decides whether that is an error. Faces wind counter-clockwise seen from where
        φ is larger, so a solid's volume is positive. A shell's skin (surface samples) has two sheets, and
        both are in the mesh.

    Raises
    ------
    EmptyLevelSetError
        No cell straddles `level`; the message gives the range of φ.
    ValueError
        A sparse grid that was proven for another level.

    Notes
    -----
    Linear along edges: on an exact SDF a vertex misses the level set by about h²/8R, h the cell, R the radius
    of curvature. The same grid gives the same mesh, bit for bit.

    References
    ----------
    Lewiner, Lopes, Vieira, Tavares: Efficient implementation of marching cubes' cases with topological
    guarantees. Journal of Graphics Tools 8(2), 2003.

    Examples
    --------
    >>> from ocsdf3d.analytic import sphere
    >>> from ocsdf3d.grid import sample
    >>> ball = sphere(radius=1.0)
    >>> extract(sample(ball, ball.box.expanded(0.1), 64)).euler_number
    2
    """
    if grid.proven is not None and level != grid.proven:
        raise ValueError(
            f"`level` must be the one the sparse grid was proven for, {grid.proven:g}; got {level:g}. "
            "Sample again with this level, or with lipschitz=None."
        )
    steepest = max((_steepest(slab) for slab in _slabs(grid.values, level)), default=0.0)
    seen = np.empty(grid.values.shape, np.float32)
    start = 0
    for slab in _slabs(grid.values, level, overlap=0):
        scaled = _nudged(slab, steepest) / steepest if steepest > 0.0 else slab
        np.copysign(np.maximum(np.abs(scaled), _SEEN_BY_MESHER), scaled, out=seen[start : start + len(slab)])
        start += len(slab)
    if steepest == 0.0 or not bool((seen < 0.0).any()):
        lowest, highest = grid.span or (float(grid.values.min()), float(grid.values.max()))
        size = "×".join(str(n) for n in grid.values.shape)
        raise EmptyLevelSetError(
            f"no surface at level {level:g}: φ on the {size} grid spans [{lowest:.4g}, {highest:.4g}]. "
            "Choose a level inside, or drop it."
        )
    crossings, faces, _, _ = marching_cubes(seen, 0.0, gradient_direction="descent", allow_degenerate=True)
    del seen
    index = _placed(crossings, grid.values, level, steepest)
    vertices, faces = _two_faces_an_edge(index, faces.astype(np.int64))
    return trimesh.Trimesh(grid.box.lower + grid.spacing * vertices, faces, process=False)


def _slabs(values: NDArray[np.float32], level: float, overlap: int = 1) -> Iterator[NDArray[np.float64]]:
    """φ − level in float64, a few planes at a time, so that neither precision nor memory is lost."""
    for start in range(0, len(values), _SLAB):
        yield values[start : start + _SLAB + overlap].astype(np.float64) - level


def _steepest(slab: NDArray[np.float64]) -> float:
    """Largest difference along a crossed edge: the unit in which nearness to the level is measured."""
    largest = 0.0
    inside = slab < 0.0
    for axis in range(3):
        crossed = np.logical_xor(*_ends(inside, axis))
        near, far = _ends(slab, axis)
        largest = max(largest, float(np.abs(far[crossed] - near[crossed]).max(initial=0.0)))
    return largest


def _ends(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """First and second ends of all grid edges along an axis."""
    return np.moveaxis(array, axis, 0)[:-1], np.moveaxis(array, axis, 0)[1:]


def _nudged(values: NDArray[np.float64], steepest: float) -> NDArray[np.float64]:
    """Values at or next to the level moved outside, by a distance float32 positions can show."""
    return np.where(np.abs(values) < NUDGE * steepest, NUDGE * steepest, values)


def _placed(
    crossings: NDArray[np.float32], values: NDArray[np.float32], level: float, steepest: float
) -> NDArray[np.float64]:
    """(n, 3) vertices in grid units, each from the two nodes of its edge; those inside a cell stay."""
    placed = crossings.astype(np.float64)
    cell = np.floor(placed).astype(np.int64)
    between = placed != cell
    on_edge = np.flatnonzero(between.sum(axis=1) == 1)
    near = cell[on_edge]
    far = near + between[on_edge]
    start, end = (_nudged(values[tuple(n.T)].astype(np.float64) - level, steepest) for n in (near, far))
    placed[on_edge] = near + between[on_edge] * (start / (start - end))[:, None]
    return placed


def _two_faces_an_edge(
    vertices: NDArray[np.float64], faces: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Bend one of two coincident diagonals: it gets a middle vertex, pulled to the two opposite corners.

    Along such an edge four triangles meet, two in either cell; the mesher emits cell after cell, so the lower
    two belong together.
    """
    while True:
        owner = np.repeat(np.arange(len(faces)), 3)
        tail, head, opposite = (np.roll(faces, -shift, axis=1).reshape(-1) for shift in range(3))
        key = np.minimum(tail, head) * len(vertices) + np.maximum(tail, head)
        order = np.argsort(key, kind="stable")  # stable: within an edge, triangles keep the mesher's order
        _, first, count = np.unique(key[order], return_index=True, return_counts=True)
        crowded = first[count > 2]
        if len(crowded) == 0:
            return vertices, faces
        one, two = order[crowded], order[crowded + 1]
        taken: set[int] = set()
        chosen = np.zeros(len(crowded), bool)  # edges whose triangles no earlier edge of this round changes
        for i, pair in enumerate(zip(owner[one].tolist(), owner[two].tolist(), strict=True)):
            if taken.isdisjoint(pair):
                taken.update(pair)
                chosen[i] = True
        one, two = one[chosen], two[chosen]
        middle = len(vertices) + np.arange(len(one))
        bent = 0.25 * (
            vertices[tail[one]] + vertices[head[one]] + vertices[opposite[one]] + vertices[opposite[two]]
        )
        vertices = np.concatenate([vertices, bent])
        halves = [
            np.stack([start, end, opposite[half]], axis=1)
            for half in (one, two)
            for start, end in ((tail[half], middle), (middle, head[half]))
        ]
        split = np.concatenate([owner[one], owner[two]])
        emitted = np.delete(np.arange(len(faces)), split)
        emitted = np.concatenate([emitted, owner[one], owner[one], owner[two], owner[two]])
        faces = np.concatenate([np.delete(faces, split, axis=0), *halves])
        faces = faces[np.argsort(emitted, kind="stable")]  # halves take the place of their triangle
