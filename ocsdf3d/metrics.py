"""How far a mesh is from the truth: Chamfer, Hausdorff, F-score, normal consistency, IoU, topology.

Conventions differ in the wild, so they are stated: Chamfer is *half the sum of the two mean distances* (not
squared, not added); the F-score's threshold is a length in world units, and a distance equal to it counts;
normals are compared at nearest samples, both unsigned and signed (only the signed score sees a surface turned
inside out); an empty mesh is infinitely far away.

Everything is measured relative to the centre and the longest side of the reference, then scaled back: a
georeferenced shape (offset 5e6) or one of size 1e-6 loses no digits.

References
----------
Knapitsch et al., Tanks and Temples, ACM TOG 36(4), 2017 (F-score). Mescheder et al., Occupancy Networks, CVPR
2019 (normal consistency, volumetric IoU). Barill et al., Fast Winding Numbers for Soups and Clouds, ACM TOG
37(4), 2018.
"""

from __future__ import annotations

import igl
import numpy as np
import trimesh
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from ocsdf3d.cores import tree_workers
from ocsdf3d.geometry import Box, PointCloud
from ocsdf3d.sampling import some_of, surface_points

Floats = NDArray[np.float64]
Figures = dict[str, float | int | bool | None]

SAMPLES = 100_000  # a surface
VOLUME_SAMPLES = (
    50_000  # standard error of an IoU of 0.9 in a half-full box: sqrt(0.9 · 0.1 / 25,000) = 0.002
)
TAU = 0.01  # of the reference's longest side
_REFERENCE, _SECOND, _VOLUME = range(3)  # independent streams of one seed


def evaluate(
    mesh: trimesh.Trimesh,
    reference: trimesh.Trimesh | PointCloud,
    *,
    samples: int = SAMPLES,
    tau: float | None = None,
    seed: int = 0,
) -> Figures:
    """Compare a mesh with a reference.

    Parameters
    ----------
    mesh : trimesh.Trimesh
        The reconstruction; may be open or empty.
    reference : trimesh.Trimesh or PointCloud
        The truth. A cloud is used whole, or thinned to `samples`.
    samples : int
        Points drawn uniformly by area on each surface.
    tau : float, optional
        Threshold of the F-score [world units]; by default 1 % of the longest side of the reference's box.
    seed : int
        Of the samples; the same seed gives the same figures.

    Returns
    -------
    dict
        chamfer, hausdorff : float
            Half the sum of the two mean nearest distances; the largest one [world units].
        f_score, tau : float
            Harmonic mean of precision and recall at `tau`; the threshold used.
        normal_consistency, normal_consistency_signed : float or None
            Mean |n·n'| and mean n·n' over nearest samples, average of both ways; None without normals or
            without faces.
        iou : float or None
            Volume of the intersection over that of the union, from 50,000 uniform points in the joint box;
            None unless the reference is a closed mesh (after merging coincident vertices), or if no point
            fell into either.
        watertight : bool
            Every edge of the mesh has two faces, after merging coincident vertices.
        euler : int
            Euler characteristic V − E + F of the merged mesh.
        volume : float or None
            Signed volume, positive when faces wind outward; None if the mesh is not watertight (it would
            depend on the origin).

    Raises
    ------
    TypeError, ValueError
        Something else than a mesh or a cloud; coordinates that are not finite; a reference without area.

    Notes
    -----
    Two samplings of the same surface are not at distance zero: see `floor`. Neither input is written into.
    """
    mesh = merged(_mesh(mesh, "mesh"))
    if samples < 1:
        raise ValueError(f"`samples` must be at least 1; got {samples}. The default is {SAMPLES}.")
    frame = _box_of(reference)
    unit = frame.longest
    if tau is not None and not 0.0 < tau < np.inf:
        raise ValueError(f"`tau` must be positive and finite; got {tau}. Use None for 1 % of the reference.")
    tau = TAU * unit if tau is None else float(tau)
    mesh = _moved(mesh, frame)
    watertight = bool(len(mesh.faces) and mesh.is_watertight)
    volume = _volume(mesh) if watertight else None if len(mesh.faces) else 0.0
    figures: Figures = {
        "chamfer": np.inf,
        "hausdorff": np.inf,
        "f_score": 0.0,
        "tau": tau,
        "normal_consistency": None,
        "normal_consistency_signed": None,
        "iou": _iou(mesh, reference, frame, seed),
        "watertight": watertight,
        "euler": int(mesh.euler_number) if len(mesh.faces) else 0,
        "volume": None if volume is None else volume * unit**3,
    }
    if len(mesh.faces) == 0:
        return figures
    truth, truth_normals = _samples(reference, frame, samples, seed, _REFERENCE)
    found, found_normals = _samples(mesh, None, samples, seed, _SECOND)
    to_found, at_found = cKDTree(found).query(truth, workers=tree_workers())
    to_truth, at_truth = cKDTree(truth).query(found, workers=tree_workers())
    figures["chamfer"] = unit * _chamfer(to_found, to_truth)
    figures["hausdorff"] = unit * _hausdorff(to_found, to_truth)
    figures["f_score"] = _f_score(to_found, to_truth, tau / unit)
    if truth_normals is not None and found_normals is not None:
        back = (truth_normals * found_normals[at_found]).sum(axis=1)
        forth = (found_normals * truth_normals[at_truth]).sum(axis=1)
        figures["normal_consistency"] = 0.5 * float(np.abs(back).mean() + np.abs(forth).mean())
        figures["normal_consistency_signed"] = 0.5 * float(back.mean() + forth.mean())
    return figures


def floor(reference: trimesh.Trimesh, *, samples: int = SAMPLES, seed: int = 0) -> float:
    """Chamfer distance between two samplings of the reference: what a perfect mesh scores [world units].

    The samplings are those of `evaluate`, so this is `evaluate(reference, reference)["chamfer"]`.
    """
    frame = _box_of(_mesh(reference, "reference"))
    first, _ = _samples(reference, frame, samples, seed, _REFERENCE)
    second, _ = _samples(reference, frame, samples, seed, _SECOND)
    return frame.longest * chamfer(first, second)


def chamfer(a: ArrayLike, b: ArrayLike) -> float:
    """Half the sum of the two mean nearest distances of (n, 3) and (m, 3) points; inf if either is empty."""
    return _chamfer(*_distances(a, b))


def hausdorff(a: ArrayLike, b: ArrayLike) -> float:
    """Largest distance from a point of one set to the nearest of the other; inf if either is empty."""
    return _hausdorff(*_distances(a, b))


def f_score(a: ArrayLike, b: ArrayLike, tau: float) -> float:
    """Harmonic mean of the shares of either set within `tau` of the other; 0 if either is empty."""
    if not 0.0 < tau < np.inf:
        raise ValueError(f"`tau` must be positive and finite; got {tau}.")
    return _f_score(*_distances(a, b), tau)


def _chamfer(there: Floats, back: Floats) -> float:
    return 0.5 * float(there.mean() + back.mean())


def _hausdorff(there: Floats, back: Floats) -> float:
    return float(max(there.max(), back.max()))


def _f_score(there: Floats, back: Floats, tau: float) -> float:
    recall, precision = float((there <= tau).mean()), float((back <= tau).mean())
    return 2.0 * recall * precision / (recall + precision) if recall + precision > 0.0 else 0.0


def _distances(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    """Nearest distances both ways; a single infinite one where a set is empty."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    for name, points in (("a", first), ("b", second)):
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise ValueError(f"`{name}` must be (n, 3) and finite; got shape {points.shape}.")
    if len(first) == 0 or len(second) == 0:
        return np.array([np.inf]), np.array([np.inf])
    middle = 0.5 * (
        first.min(axis=0) + first.max(axis=0)
    )  # digits of the offset would be lost in the tree's squares
    first, second = first - middle, second - middle
    return cKDTree(second).query(first, workers=tree_workers())[0], cKDTree(first).query(
        second, workers=tree_workers()
    )[0]


def _mesh(value: object, name: str) -> trimesh.Trimesh:
    if not isinstance(value, trimesh.Trimesh):
        raise TypeError(
            f"`{name}` must be a trimesh.Trimesh; got {type(value).__name__}. Files are read by ocsdf3d.read."
        )
    bad = ~np.isfinite(np.asarray(value.vertices, dtype=np.float64).reshape(-1, 3)).all(axis=-1)
    if bad.any():
        raise ValueError(
            f"`{name}` must have finite vertices; {int(bad.sum())} of {bad.size} are not, the first is "
            f"vertex {int(bad.argmax())}. Remove them and their faces."
        )
    return value


def _box_of(reference: trimesh.Trimesh | PointCloud) -> Box:
    """Box of what is measured: vertices in use, so that a stray one changes nothing."""
    if isinstance(reference, PointCloud):
        box = reference.box
    else:
        mesh = _mesh(reference, "reference")
        if len(mesh.faces) == 0:
            raise ValueError(
                f"`reference` has {len(mesh.vertices)} vertices and no faces. For a cloud pass a PointCloud."
            )
        box = Box.of(mesh.vertices[np.unique(mesh.faces)])
    if not box.longest > 0.0:
        raise ValueError(f"`reference` must have an extent; all of it lies at {box.lower.tolist()}.")
    return box


def merged(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """A copy in which equal vertices are one (STL repeats them for each face) and no face repeats a corner.

    Equal means within 1e-9 of the longest side: some files repeat a corner with rounding noise, and an
    absolute tolerance would weld a shape of size 1e-6 into a lump.
    """
    if len(mesh.faces) == 0:
        return trimesh.Trimesh(process=False)
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    lower = vertices.min(axis=0)
    step = 1e-9 * np.ptp(vertices, axis=0).max()
    cells = np.round((vertices - lower) / (step if step > 0.0 else 1.0)).astype(np.int64)
    _, first, index = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    vertices = vertices[first]
    faces = index.reshape(-1)[mesh.faces]
    ends = np.roll(faces, -1, axis=1)
    return trimesh.Trimesh(vertices, faces[(faces != ends).all(axis=1)], process=False)


def _moved(mesh: trimesh.Trimesh, frame: Box) -> trimesh.Trimesh:
    """A copy relative to the centre and the longest side of `frame`."""
    return trimesh.Trimesh((mesh.vertices - frame.center) / frame.longest, mesh.faces, process=False)


def _corners(mesh: trimesh.Trimesh) -> Floats:
    return np.asarray(mesh.vertices, dtype=np.float64)[mesh.faces]


def _volume(mesh: trimesh.Trimesh) -> float:
    corners = _corners(mesh)
    a, b, c = (corners - corners.mean(axis=(0, 1))).transpose(1, 0, 2)  # far from 0 the sum would cancel
    return float((a * np.cross(b, c)).sum()) / 6.0


def _samples(
    shape: trimesh.Trimesh | PointCloud, frame: Box | None, samples: int, seed: int, stream: int
) -> tuple[Floats, Floats | None]:
    """Points of a shape and their unit normals, relative to `frame` (None: the shape is so already)."""
    rng = np.random.default_rng([seed, stream])
    if isinstance(shape, PointCloud):
        chosen = some_of(len(shape), samples, rng)
        points, normals = shape.points[chosen], None if shape.normals is None else shape.normals[chosen]
        return points if frame is None else (points - frame.center) / frame.longest, normals
    local = shape if frame is None else _moved(shape, frame)
    points, face = surface_points(local, samples, rng)
    first, second, third = _corners(local)[face].transpose(1, 0, 2)
    normals = np.cross(second - first, third - first)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return points, normals / np.where(length > 0.0, length, 1.0)


def _iou(
    mesh: trimesh.Trimesh, reference: trimesh.Trimesh | PointCloud, frame: Box, seed: int
) -> float | None:
    """Intersection over union of the insides; `mesh` is relative to `frame`, the reference is not."""
    if isinstance(reference, PointCloud):
        return None
    solid = _closed(_moved(merged(reference), frame))
    if solid is None:
        return None
    if len(mesh.faces) == 0:
        return 0.0
    both = np.concatenate([_corners(solid).reshape(-1, 3), _corners(mesh).reshape(-1, 3)])
    lower, upper = both.min(axis=0), both.max(axis=0)
    points = np.random.default_rng([seed, _VOLUME]).uniform(lower, upper, (VOLUME_SAMPLES, 3))
    inside, found = _inside(solid, points), _inside(mesh, points)
    union = int((inside | found).sum())
    return int((inside & found).sum()) / union if union else None


def _closed(mesh: trimesh.Trimesh) -> trimesh.Trimesh | None:
    """The mesh if it has an inside, with faces wound consistently; None if it has not.

    It has one when each edge is used as often in one direction as in the other (then winding numbers are
    whole), which also admits solids that touch along an edge; or when each edge has two faces, whose winding
    is then made consistent.
    """
    start, end = mesh.faces.reshape(-1), np.roll(mesh.faces, -1, axis=1).reshape(-1)
    _, edge = np.unique(
        np.minimum(start, end) * len(mesh.vertices) + np.maximum(start, end), return_inverse=True
    )
    if not np.bincount(edge.reshape(-1), weights=np.where(start < end, 1.0, -1.0)).any():
        return mesh
    if not mesh.is_watertight:
        return None
    repaired = mesh.copy()
    trimesh.repair.fix_winding(repaired)
    return repaired if repaired.is_winding_consistent else None


def _inside(mesh: trimesh.Trimesh, points: Floats) -> NDArray[np.bool_]:
    """Points with winding number above ½; of a mesh turned inside out as a whole, below −½."""
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int64)
    winding = igl.fast_winding_number(np.ascontiguousarray(mesh.vertices, dtype=np.float64), faces, points)
    return np.asarray(np.sign(_volume(mesh)) * winding > 0.5)
