"""What is proved of fields, checked by means that use no proof: `proofs.py` makes tables of it.

Each function takes a `Subject`, a field with its own fine mesh, and returns the figures of one row. The mesh
is the sparse one, for a dense one of 512 nodes takes an hour; the table of the grid shows that they are one.
A *cell* is the diagonal of a cell of that mesh: every point of a face lies in a cell that the level set
crosses. Distances and rays are libigl's `AABB`, in float64.
"""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

import igl
import numpy as np
import trimesh
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from ocsdf3d.certified import PROJECTED, Certified
from ocsdf3d.geometry import Box
from ocsdf3d.oracle import lengths, unit_vectors
from ocsdf3d.sampling import surface_points

Floats = NDArray[np.float64]
Row = dict[str, object]
PAIRS = ("uniform", "near", "adversarial")

CHUNK = 2**17  # pairs looked at together: two arrays of 3 MB, and what the field makes of them
CLIMB = 32  # steps of a climb; each pair that is passed is checked and counted
STEP = 0.25  # length of a step, as a share of the pair's
SHORT = 1e-6  # shortest pairs, as a share of the longest side; lengths are log-uniform from there to 1
CERTAIN = 100.0  # pairs for which L·length is that many 2ε tell a slope to a percent
LOOKS = 32  # values behind a hit of the mesh that tell a graze from a tunnel
WITHIN = 0.1  # distance from the surface at which points to be projected start, at most [longest side]


class Timed(Certified):
    """A field that counts what it is asked, and how long it takes to answer [s]."""

    def __init__(self, field: Certified) -> None:
        self.field = field
        self.seconds, self.values, self.gradients = 0.0, 0, 0

    def __call__(self, points: ArrayLike) -> Floats:
        start = time.perf_counter()
        found = self.field(points)
        self.seconds += time.perf_counter() - start
        self.values += len(found)
        return found

    def gradient(self, points: ArrayLike) -> Floats:
        start = time.perf_counter()
        found = self.field.gradient(points)
        self.seconds += time.perf_counter() - start
        self.gradients += len(found)
        return found

    def rounding_within(self, box: Box) -> float:
        return self.field.rounding_within(box)

    @property
    def certificate(self) -> dict[str, Any]:
        return self.field.certificate

    @property
    def lipschitz(self) -> float:
        return self.field.lipschitz

    @property
    def box(self) -> Box:
        return self.field.box

    @property
    def support(self) -> str:
        return self.field.support

    @property
    def device(self) -> object:
        return self.field.device


class Reference:
    """A field's own mesh with libigl's trees over it.

    `level` are the faces on the level set: without those that close it where it leaves the box of the field,
    which `Certified.mesh` says it does. Their corners have |φ| ≤ L · h, since edges of length h cross it.

    The trees see lengths in units of h: libigl's rays pass triangles whose determinant is below an absolute
    1e-6, at 512 nodes and a longest side of 1 every fifteenth of them.
    """

    def __init__(self, field: Certified, resolution: int) -> None:
        outer = field.box.expanded(2.0 * field.box.longest / (resolution - 1))
        self.center, self.unit = outer.center, outer.longest / (resolution - 1)
        self.cell = float(np.sqrt(3.0)) * self.unit
        self.mesh = field.mesh(resolution)
        self.vertices = np.asarray(self.mesh.vertices)
        self.faces = np.ascontiguousarray(self.mesh.faces, dtype=np.int64)
        near = np.abs(field(self.vertices)) <= field.lipschitz * self.unit + field.rounding_within(outer)
        self.level = np.ascontiguousarray(self.faces[near[self.faces].all(axis=1)])
        self.all = self._scaled(self.vertices), self.faces
        self.only_level = self.all[0], self.level
        self.tree, self.level_tree = igl.AABB(), igl.AABB()
        self.tree.init(*self.all)
        self.level_tree.init(*self.only_level)

    def _scaled(self, points: Floats) -> Floats:
        return np.ascontiguousarray((points - self.center) / self.unit)

    def distances(self, points: Floats) -> Floats:
        """(n,) distances to the faces on the level set [world units]."""
        square = self.level_tree.squared_distance(*self.only_level, self._scaled(points))[0]
        return self.unit * np.sqrt(square)

    def on_level(self, count: int, rng: np.random.Generator) -> Floats:
        """(n, 3) points of these faces, uniform by area."""
        return surface_points(trimesh.Trimesh(self.vertices, self.level, process=False), count, rng)[0]

    def first_hits(self, origins: Floats, ways: Floats) -> Floats:
        """(n,) distance at which rays first meet a face, inf if never [world units]."""
        face, distance, _ = self.tree.intersect_ray_first(*self.all, self._scaled(origins), ways)
        return np.where(face >= 0, self.unit * distance, np.inf)

    def next_hits(self, origins: Floats, ways: Floats, after: Floats) -> Floats:
        """(n,) distance at which rays meet a face after `after`, inf if never [world units]."""
        every = self.tree.intersect_ray(*self.all, self._scaled(origins), ways)
        later = [
            min((hit[1] for hit in hits if hit[1] > t), default=np.inf)
            for hits, t in zip(every, after / self.unit, strict=True)
        ]
        return self.unit * np.array(later, np.float64)


class Subject:
    """A field by its name, where it is saved, and what is known of it: volume, and whether gaps are."""

    def __init__(
        self,
        name: str,
        field: Certified,
        file: Path | None = None,
        volume: float | None = None,
        gaps: bool = False,
    ) -> None:
        self.name, self.field, self.file, self.volume, self.gaps = name, field, file, volume, gaps
        self._reference: tuple[int, Reference] | None = None

    def reference(self, resolution: int) -> Reference:
        """The field's mesh, made once."""
        if self._reference is None or self._reference[0] != resolution:
            self._reference = resolution, Reference(self.field, resolution)
        return self._reference[1]


# ----------------------------------------------------------------------------------------------- pairs


class Tally(NamedTuple):
    """What pairs showed, chunk by chunk."""

    pairs: int = 0
    violations: int = 0
    ratio: float = 0.0
    slope: float = 0.0

    def joined(self, other: Tally) -> Tally:
        counts = self.pairs + other.pairs, self.violations + other.violations
        return Tally(*counts, max(self.ratio, other.ratio), max(self.slope, other.slope))


def pair_row(subject: Subject, kind: str, asked: Namespace) -> Row:
    """Is |φ(x) − φ(y)| ≤ L‖x − y‖ + 2ε for pairs in the box?

    `kind`: `uniform` in the box; `near` the surface, at log-uniform distances from it and from each other;
    `adversarial`, which climb. `ratio` is the largest of left to right side, `slope` the largest
    |φ(x) − φ(y)|/‖x − y‖ of pairs so long that rounding is less than a percent of it.
    """
    rng, field = np.random.default_rng([asked.seed, PAIRS.index(kind)]), subject.field
    surface = subject.reference(asked.mesh)
    tally, left = Tally(), asked.pairs // 3
    visits = CLIMB + 1 if kind == "adversarial" else 1
    while left > 0:
        x, y = _drawn(field.box, surface, kind, min(CHUNK, max(1, left // visits)), rng)
        size = lengths(x - y)
        for visit in range(visits):
            change = field(x) - field(y)
            tally = tally.joined(_compared(field, x, y, change))
            left -= len(x)
            if visit + 1 < visits:
                x, y = _climbed(field, x, y, size, change)
    return tally._asdict()


def _drawn(
    box: Box, surface: Reference, kind: str, count: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Pairs of one kind, before any climb."""
    x, y = rng.uniform(box.lower, box.upper, (2, count, 3))
    if kind == "near":
        x = surface.on_level(count, rng) + _vectors(count, box.longest, rng)
    if kind == "adversarial":  # from everywhere and from near the surface
        x[::2] = surface.on_level(len(x[::2]), rng) + _vectors(len(x[::2]), 0.1 * box.longest, rng)
    if kind != "uniform":
        y = x + _vectors(count, box.longest, rng)
    return np.clip(x, box.lower, box.upper), np.clip(y, box.lower, box.upper)


def _climbed(field: Certified, x: Floats, y: Floats, size: Floats, change: Floats) -> tuple[Floats, Floats]:
    """Both ends moved along the gradients so that |φ(x) − φ(y)| − ‖x − y‖ grows.

    Lengths are restored after each step: left alone, pairs would shrink to a point, where it is 0.
    """
    step, box = (STEP * size * np.sign(change))[:, None], field.box
    x, y = x + step * field.gradient(x), y - step * field.gradient(y)
    middle, half = 0.5 * (x + y), 0.5 * size[:, None] * unit_vectors(x - y)
    return np.clip(middle + half, box.lower, box.upper), np.clip(middle - half, box.lower, box.upper)


def _compared(field: Certified, x: Floats, y: Floats, change: Floats) -> Tally:
    found, length = np.abs(change), lengths(x - y)
    rounding = 2.0 * field.rounding_within(Box.of(np.concatenate([x, y])))
    allowed = field.lipschitz * length + rounding
    broken = int(np.count_nonzero(found > allowed))
    long = field.lipschitz * length > CERTAIN * rounding
    slope = (found[long] / length[long]).max(initial=0.0)
    return Tally(len(x), broken, float((found / allowed).max()), float(slope))


def _vectors(count: int, longest: float, rng: np.random.Generator) -> Floats:
    """(n, 3) vectors of any direction, of log-uniform lengths up to `longest`."""
    size = longest * SHORT ** rng.uniform(0.0, 1.0, count)
    return size[:, None] * unit_vectors(rng.standard_normal((count, 3)))


def distance_row(subject: Subject, kind: str, asked: Namespace) -> Row:
    """Is `distance_bound` at most the distance to the faces on the level set, plus a cell?

    Points are uniform in the box, a quarter of the longest side wider. `excess` is the largest difference in
    cells, `tightness` the median of bound by distance.
    """
    field, surface = subject.field, subject.reference(asked.mesh)
    wide = field.box.expanded(0.25 * field.box.longest)
    points = np.random.default_rng(asked.seed).uniform(wide.lower, wide.upper, (asked.points, 3))
    bound, true = field.distance_bound(points), surface.distances(points)
    excess = (bound - true) / surface.cell
    return {
        "points": len(points),
        "violations": int(np.count_nonzero(excess > 1.0)),
        "excess": float(excess.max()),
        "tightness": float(np.median(bound / np.maximum(true, 1e-12 * field.box.longest))),
    }


# ----------------------------------------------------------------------------------------------- rays


def trace_row(subject: Subject, kind: str, asked: Namespace) -> Row:
    """Do rays stop where those cast at the mesh do, and does none go through the surface?

    `kind`: three quarters of the rays start `outside`, on the sphere around the box of twice its radius, and
    aim at uniform points of the box; a quarter start `inside` the box, any way.

    `agree`: share, of the rays that hit both, with hits within a cell. `only_mesh`, `only_trace`: rays that
    hit one. `late`: the mesh is hit earlier by more than a cell, or alone: a graze of the mesh, or worse.
    `tunnelled`: those of them for which φ, asked at 32 points of the ray between that hit and the next one of
    the mesh, has a sign other than at the origin by more than 2ε, at a point up to which the trace claims the
    way to be free. So it is the field that refutes the trace; the mesh tells where to look.
    """
    field, surface = subject.field, subject.reference(asked.mesh)
    origins, ways = _rays(field.box, kind, asked.rays, asked.seed)
    found, mesh = field.trace(origins, ways), surface.first_hits(origins, ways)
    both = found.hit & np.isfinite(mesh)
    agree = np.abs(found.distance[both] - mesh[both]) <= surface.cell
    late = np.flatnonzero(mesh + surface.cell < found.distance)
    through = _tunnelled(field, surface, origins[late], ways[late], mesh[late], found.free[late])
    asked_any = found.steps[found.steps > 0]
    return {
        "rays": len(origins),
        "hits": int(found.hit.sum()),
        "agree": float(agree.mean()) if both.any() else None,
        "only_mesh": int((np.isfinite(mesh) & ~found.hit).sum()),
        "only_trace": int((found.hit & ~np.isfinite(mesh)).sum()),
        "late": len(late),
        "tunnelled": int(through.sum()),
        "touches": int((found.hit & ~found.crossed).sum()),
        "unresolved": int((~found.resolved).sum()),
        "steps": float(asked_any.mean()),
        "steps_95": float(np.quantile(asked_any, 0.95)),
    }


def _rays(box: Box, kind: str, count: int, seed: int) -> tuple[Floats, Floats]:
    """(n, 3) origins and directions of length 1."""
    rng = np.random.default_rng([seed, kind == "inside"])
    count = count // 4 if kind == "inside" else count - count // 4
    points, ways = (
        rng.uniform(box.lower, box.upper, (count, 3)),
        unit_vectors(rng.standard_normal((count, 3))),
    )
    if kind == "inside":
        return points, ways
    origins = box.center + box.diagonal * ways
    return origins, unit_vectors(points - origins)


def _tunnelled(
    field: Certified, surface: Reference, origins: Floats, ways: Floats, first: Floats, free: Floats
) -> NDArray[np.bool_]:
    """(n,) whether φ refutes that rays are free as far as they claim; see `trace_row`."""
    if not len(origins):
        return np.zeros(0, bool)
    after = first + 1e-9 * surface.cell
    last = np.minimum(surface.next_hits(origins, ways, after), first + field.box.diagonal)
    share = (np.arange(LOOKS) + 0.5) / LOOKS
    t = first[:, None] + share * (last - first)[:, None]
    points = origins[:, None] + t[..., None] * ways[:, None]
    values = capped(field, points.reshape(-1, 3)).reshape(t.shape)
    start = capped(field, origins)[:, None]
    rounding = 2.0 * field.rounding_within(Box.of(np.concatenate([origins, points.reshape(-1, 3)])))
    certain = (np.abs(values) > rounding) & (np.abs(start) > rounding)
    return np.asarray((certain & (values * start < 0.0) & (t < free[:, None])).any(axis=1))


def capped(field: Certified, points: Floats) -> Floats:
    """(n,) max(φ, distance beyond the box): what `mesh` and `trace` see."""
    beyond = np.maximum(field.box.lower - points, points - field.box.upper).max(axis=1)
    return np.maximum(field(points), beyond)


# ----------------------------------------------------------------------------------------------- points


def project_row(subject: Subject, kind: str, asked: Namespace) -> Row:
    """Do points within a tenth of the longest side land on the level set?

    `landed`: share whose |φ|, asked again, is at most 1e-5 of the longest side. `flagged`: share for which
    `converged` is False; `wrong`: points that it calls right or wrong mistakenly. `near`: share that lands no
    farther than the mesh is, plus a cell. `values`, `gradients`: asked a point.
    """
    field, surface = subject.field, subject.reference(asked.mesh)
    rng, longest = np.random.default_rng(asked.seed), field.box.longest
    starts = surface.on_level(asked.points, rng)
    away = unit_vectors(rng.standard_normal(starts.shape))
    starts = starts + WITHIN * longest * rng.uniform(0.0, 1.0, len(starts))[:, None] * away
    timed, start = Timed(field), time.perf_counter()
    found = timed.project(starts)
    seconds = time.perf_counter() - start
    landed = np.abs(field(found.points)) <= PROJECTED * longest
    nearest = lengths(found.points - starts) <= surface.distances(starts) + surface.cell
    return {
        "points": len(starts),
        "landed": float(landed.mean()),
        "flagged": float((~found.converged).mean()),
        "wrong": int((landed != found.converged).sum()),
        "near": float(nearest.mean()),
        "values": timed.values / len(starts),
        "gradients": timed.gradients / len(starts),
        "seconds": seconds,
    }


# ----------------------------------------------------------------------------------------------- measures


def volume_row(subject: Subject, kind: str, asked: Namespace) -> Row:
    """Does the interval hold the exact volume, where it is known, and that of the mesh?

    `width`: of the interval, as a share of its middle.
    """
    start = time.perf_counter()
    found = subject.field.volume(resolution=int(kind))
    seconds = time.perf_counter() - start
    mesh = float(subject.reference(asked.mesh).mesh.volume)
    exact = subject.volume
    return {
        "lower": found.lower,
        "upper": found.upper,
        "width": 2.0 * (found.upper - found.lower) / (found.upper + found.lower),
        "exact": exact,
        "holds_exact": None if exact is None else bool(found.lower <= exact <= found.upper),
        "mesh": mesh,
        "holds_mesh": bool(found.lower <= mesh <= found.upper),
        "evaluations": found.evaluations,
        "seconds": seconds,
    }


def clearance_row(subject: Subject, kind: str, asked: Namespace) -> Row:
    """Does the interval hold the gap between a field and its copy moved along x by a share of its box?

    `gap`: exact for the shapes whose extreme points along x face each other, the spheres among them; else the
    least distance between vertices of the two meshes, which is right to two cells. `holds`: the interval
    contains the first, or does not begin above the second and these two cells.
    """
    field, by = subject.field, np.array([float(kind) * subject.field.box.size[0], 0.0, 0.0])
    start = time.perf_counter()
    found = field.clearance(field.move(by))  # type: ignore[attr-defined]
    seconds = time.perf_counter() - start
    gap: float | None
    if subject.gaps:
        gap = max(0.0, float(by[0] - field.box.size[0]))
        places = 1e-12 * field.box.longest  # of the gap, which is a difference
        holds = bool(found.lower <= gap + places and gap - places <= found.upper)
    else:
        surface = subject.reference(asked.mesh)
        gap = float(cKDTree(surface.vertices).query(surface.vertices + by)[0].min())
        holds = found.contact or bool(found.lower <= gap + 2.0 * surface.cell)
    return {
        "lower": found.lower,
        "upper": found.upper,
        "contact": found.contact,
        "gap": gap,
        "exact": subject.gaps,
        "holds": holds,
        "evaluations": found.evaluations,
        "seconds": seconds,
    }
