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

import numpy as np
import trimesh
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from ocsdf3d.grid import Grid
from ocsdf3d.sparse import BRICK, NUDGE

_CHUNK = 256  # bricks looked at together: 10 MB of float64
_SEEN_BY_MESHER = 1e-3  # smallest |value| it is shown: its float32 positions stay off the nodes


class EmptyLevelSetError(ValueError):
    """No cell of the grid straddles the level.

    Attributes
    ----------
    span : (float, float)
        Least and largest φ on the grid [world units].
    """

    def __init__(self, said: str, span: tuple[float, float]) -> None:
        super().__init__(said)
        self.span = span


def extract(grid: Grid) -> trimesh.Trimesh:
    """Triangulate the level set {φ = level} of a sampled field.

    Parameters
    ----------
    grid : Grid
        φ at the nodes of crossed bricks, negative inside [world units]; it knows its level.

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
        No cell straddles the level; the message gives the range of φ.

    Notes
    -----
    Linear along edges: on an exact SDF a vertex misses the level set by about h²/8R, h the cell, R the radius
    of curvature. The same bricks give the same mesh, bit for bit; vertices are ordered by their edge of the
    grid, faces by brick.

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
    chunks = [slice(start, start + _CHUNK) for start in range(0, len(grid.bricks), _CHUNK)]
    steepest = max((_steepest(_above(grid, chunk)) for chunk in chunks), default=0.0)
    keys, places, faces, begun = [], [], [], 0
    for chunk in chunks if steepest > 0.0 else []:
        nudged = _nudged(_above(grid, chunk), steepest)
        owner, crossings, triangles = _march(nudged / steepest, grid, chunk)
        key, place = _placed(owner, crossings, nudged, grid, chunk)
        keys.append(key)
        places.append(place)
        faces.append(triangles + begun)
        begun += len(key)
    if begun == 0:
        size = "×".join(str(n + 1) for n in grid.cells)
        raise EmptyLevelSetError(
            f"no surface at level {grid.level:g}: φ on the {size} grid spans [{grid.span[0]:.4g}, "
            f"{grid.span[1]:.4g}]. Choose a level inside, or drop it.",
            grid.span,
        )
    _, first, welded = np.unique(np.concatenate(keys), return_index=True, return_inverse=True)
    del keys
    vertices = np.concatenate(places)[first]
    vertices, triangles = _two_faces_an_edge(vertices, welded[np.concatenate(faces)])
    return trimesh.Trimesh(grid.lower + grid.spacing * vertices, triangles, process=False)


def _above(grid: Grid, chunk: slice) -> NDArray[np.float64]:
    """φ − level in float64, a few bricks at a time, so that neither precision nor memory is lost."""
    return grid.bricks[chunk].astype(np.float64) - grid.level


def _steepest(above: NDArray[np.float64]) -> float:
    """Largest difference along a crossed edge: the unit in which nearness to the level is measured."""
    largest = 0.0
    inside = above < 0.0
    for axis in (1, 2, 3):
        crossed = np.logical_xor(*_ends(inside, axis))
        near, far = _ends(above, axis)
        largest = max(largest, float(np.abs(far[crossed] - near[crossed]).max(initial=0.0)))
    return largest


def _ends(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """First and second ends of all grid edges along an axis."""
    return np.moveaxis(array, axis, 0)[:-1], np.moveaxis(array, axis, 0)[1:]


def _nudged(above: NDArray[np.float64], steepest: float) -> NDArray[np.float64]:
    """Values at or next to the level moved outside, by a distance that no rounding hides."""
    return np.where(np.abs(above) < NUDGE * steepest, NUDGE * steepest, above)


def _march(
    scaled: NDArray[np.float64], grid: Grid, chunk: slice
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """(n,) the brick of each vertex, (n, 3) its place there, and (m, 3) faces, brick by brick."""
    seen = np.copysign(np.maximum(np.abs(scaled), _SEEN_BY_MESHER), scaled).astype(np.float32)
    extents = np.minimum(grid.cells - grid.origins[chunk], BRICK) + 1
    owners, crossings, faces, begun = [], [], [], 0
    for brick, extent in enumerate(extents.tolist()):
        values = seen[brick, : extent[0], : extent[1], : extent[2]]
        if values.min() > 0.0 or values.max() < 0.0:
            continue
        vertices, triangles, _, _ = marching_cubes(
            values, 0.0, gradient_direction="descent", allow_degenerate=True
        )
        owners.append(np.full(len(vertices), brick))
        crossings.append(vertices)
        faces.append(triangles.astype(np.int64) + begun)
        begun += len(vertices)
    if begun == 0:
        return np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    return np.concatenate(owners), np.concatenate(crossings).astype(np.float64), np.concatenate(faces)


def _placed(
    owner: NDArray[np.int64],
    crossings: NDArray[np.float64],
    nudged: NDArray[np.float64],
    grid: Grid,
    chunk: slice,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(n,) the edge of the grid that each vertex lies on, as one number, and (n, 3) where, in grid units.

    Vertices inside a cell stay where the mesher puts them; their number is the cell's.
    """
    cell = np.floor(crossings).astype(np.int64)
    between = crossings != cell
    on_edge = np.flatnonzero(between.sum(axis=1) == 1)
    near, step = cell[on_edge], between[on_edge]
    start, end = (nudged[owner[on_edge], n[:, 0], n[:, 1], n[:, 2]] for n in (near, near + step))
    place = crossings.copy()
    place[on_edge] = near + step * (start / (start - end))[:, None]
    axis = np.full(len(cell), 3)
    axis[on_edge] = step.argmax(axis=1)
    origin = grid.origins[chunk][owner]
    node = np.ravel_multi_index(tuple((origin + cell).T), tuple(grid.cells + 1))
    return 4 * node + axis, place + origin


def _two_faces_an_edge(
    vertices: NDArray[np.float64], faces: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Bend one of two coincident diagonals: it gets a middle vertex, pulled to the two opposite corners.

    Along such an edge four triangles meet, two in either cell; the mesher emits cell after cell, so the lower
    two belong together.
    """
    while _crowded(faces, len(vertices)):
        owner = np.repeat(np.arange(len(faces)), 3)
        tail, head, opposite = (np.roll(faces, -shift, axis=1).reshape(-1) for shift in range(3))
        key = _edge_keys(tail, head, len(vertices))
        order = np.argsort(key, kind="stable")  # stable: within an edge, triangles keep the mesher's order
        _, first, count = np.unique(key[order], return_index=True, return_counts=True)
        crowded = first[count > 2]
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
    return vertices, faces


def _crowded(faces: NDArray[np.int64], count: int) -> bool:
    """Whether some edge has more than two faces; `count` vertices there are."""
    keys = np.concatenate([_edge_keys(faces[:, i], faces[:, (i + 1) % 3], count) for i in range(3)])
    keys.sort()
    return bool((keys[2:] == keys[:-2]).any())


def _edge_keys(tail: NDArray[np.int64], head: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """One number an edge, either way round."""
    return np.minimum(tail, head) * count + np.maximum(tail, head)
