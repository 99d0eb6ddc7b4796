"""What every certified field can do: trained ones, exact shapes, and what CSG makes of them.

All of it rests on one theorem, |φ(x) − φ(y)| ≤ L‖x − y‖: a block of the grid is skipped, a ray takes a step,
a point keeps its side, a volume gets an interval. The numerics are functions of any callable (`grid`,
`query`, `clearances`, `errorbars`, `volumes`); here they get the field's own bound, rounding and box.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import trimesh
from numpy.typing import ArrayLike, NDArray

from ocsdf3d import clearances, completeness, errorbars, grid, query, surface, volumes
from ocsdf3d.geometry import Box, as_points
from ocsdf3d.lipschitz.certificate import CertificateError
from ocsdf3d.sampling import surface_points

__all__ = ["Certified", "Sides"]

Floats = NDArray[np.float64]

RESOLVED = 0.005  # of the longest side: a cell of 200 nodes; nearer than that no point is off the surface
PROJECTED = 1e-5  # residual of a projection, and where a ray hits, as a share of the longest side
ULP = 2.0**-52
_FINER = 7  # times the resolution that was asked for, at most three doublings, for a proof of completeness


class Sides(NamedTuple):
    """Which points are inside, and how far each may move before that could change."""

    inside: NDArray[np.bool_]  # (n,)
    radius: Floats  # (n,) [world units]


class Certified(ABC):
    """A callable φ, (n, 3) → (n,), negative inside, with |φ(x) − φ(y)| ≤ `lipschitz` · ‖x − y‖ proved.

    Subclasses give φ, its gradient, the bound, a box around the surface, and the rounding of one value.
    """

    if TYPE_CHECKING:  # attributes of some subclasses, properties of others

        @property
        def lipschitz(self) -> float:
            """Proved upper bound L of φ."""

        @property
        def box(self) -> Box:
            """Where the surface lies [world units]."""

        @property
        def support(self) -> str:
            """`"solid"` or `"shell"`."""

        @property
        def device(self) -> object:
            """Where values are computed."""

    @abstractmethod
    def __call__(self, points: ArrayLike) -> Floats:
        """Return φ, (n,), at `points`, (n, 3) [world units]; negative inside."""

    @abstractmethod
    def gradient(self, points: ArrayLike) -> Floats:
        """Return ∇φ, (n, 3), at `points`, (n, 3); it points outward."""

    @property
    @abstractmethod
    def certificate(self) -> dict[str, Any]:
        """What is promised: `certified`, `lipschitz`, `rounding`, `basis`, `dtype`, `hash`; else `reason`."""

    @abstractmethod
    def rounding_within(self, box: Box) -> float:
        """Return ε ≥ |computed φ − φ| for points of a box [world units]."""

    def require(self) -> None:
        """Raise CertificateError unless the certificate holds, now, for the weights and arithmetic in use."""
        found = self.certificate
        if not found["certified"]:
            raise CertificateError(found["reason"])

    # ------------------------------------------------------------------------------------------ surface

    def mesh(
        self,
        resolution: int = 200,
        offset: float = 0.0,
        dense: bool = False,
        complete: float | None = None,
        progress: grid.Progress | None = None,
    ) -> trimesh.Trimesh:
        """Return the closed mesh of {φ = offset}.

        Parameters
        ----------
        resolution : int
            Grid nodes along the longest side of `box`.
        offset : float
            Above 0 grows the support by that distance, below 0 shrinks it [world units].
        dense : bool
            Evaluate every node; by default blocks that are proved to hold no surface are skipped. Same mesh.
        complete : float, optional
            Double the resolution until no piece of the surface larger than this can have been missed, see
            `completeness.missed` [world units].
        progress : callable, optional
            (done, total) → None, in evaluations.

        Returns
        -------
        trimesh.Trimesh
            Closed, faces outward. `metadata` is the receipt: `evaluations`, `dense_evaluations`, `blocks`
            dropped by proof, `undecided` cells, `lipschitz` and `rounding` that the proof used, `resolution`,
            `sheet`, and `completeness` when asked for.

        Raises
        ------
        EmptyLevelSetError
            φ does not reach `offset` in the box.
        ResolutionError
            The grid does not fit in free memory.
        CertificateError
            The field's certificate does not hold.
        ValueError
            `complete` is not positive, is asked of a dense grid, or is not reached at eight times the
            resolution.

        Notes
        -----
        What is meshed is max(φ, distance beyond the box): an intersection, so it keeps the bound, and it
        closes a level set that would leave the box.
        """
        if not np.isfinite(offset):
            raise ValueError(f"`offset` must be finite; got {offset}.")
        if complete is not None and dense:
            raise ValueError("`complete` needs the sparse grid; leave `dense` out.")
        if not dense:
            self.require()
        inner = self.box.expanded(max(offset, 0.0))
        bound, asked = max(self.lipschitz, 1.0), resolution
        while True:
            outer = inner.expanded(2.0 * inner.longest / max(resolution - 1, 1))
            rounding = self._capped_rounding(outer)
            field = _Capped(self, inner, offset)
            sampled = grid.sample(
                field,
                outer,
                resolution,
                lipschitz=None if dense else bound,
                level=offset,
                allowance=rounding,
                progress=progress,
            )
            proof = None
            if complete is not None:
                proof = completeness.missed(field, sampled, complete, lipschitz=bound, allowance=rounding)
                if not proof.complete and resolution < _FINER * asked:
                    resolution = 2 * resolution - 1
                    continue
                if not proof.complete:
                    raise ValueError(
                        f"not complete at {resolution} nodes: a piece {proof.largest:.4g} wide may have been "
                        f"missed, `complete` is {complete:g}. Raise it, or `resolution`."
                    )
            mesh = surface.extract(sampled)
            mesh.metadata.update(
                evaluations=sampled.evaluations,
                dense_evaluations=sampled.dense_evaluations,
                blocks=sampled.blocks,
                undecided=len(sampled.undecided),
                lipschitz=bound,
                rounding=rounding,
                resolution=resolution,
                sheet="outer" if self.support == "solid" else "both",
                completeness=None if proof is None else proof._asdict(),
            )
            return mesh

    def _capped_rounding(self, box: Box) -> float:
        """Return ε of max(φ, distance beyond a box): the coordinates' last place counts for the second."""
        return self.rounding_within(box) + 4.0 * ULP * box.farthest

    def sample_surface(self, count: int, *, resolution: int = 200, seed: int = 0) -> Floats:
        """Return `count` points, (n, 3), uniform by area on the surface [world units].

        Drawn on the mesh of `resolution` nodes, then projected; points that the projection flags stay on the
        mesh, which is within a cell of the surface.
        """
        mesh = self.mesh(resolution=resolution)
        drawn = surface_points(mesh, count, np.random.default_rng(seed))[0]
        landed = self.project(drawn, reach=2.0 * self.box.longest / resolution)
        return np.where(landed.converged[:, None], landed.points, drawn)

    # ------------------------------------------------------------------------------------------ queries

    def _rounding_around(self, points: Floats, reach: float = 0.0) -> float:
        """Return ε of values within `reach` of points; of no points it is 0."""
        return self.rounding_within(Box.of(points).expanded(reach)) if len(points) else 0.0

    def distance_bound(self, points: ArrayLike) -> Floats:
        """Return a proved lower bound, (n,), of the distance from `points` to {φ = 0} [world units]."""
        return self.inside(points).radius

    def inside(self, points: ArrayLike) -> Sides:
        """Return which points, (n, 3), are inside, and the radius in which that cannot change, each (n,).

        A radius of 0 means that the side is not certain: the value is within rounding of 0.
        """
        x = as_points(points)
        self.require()
        values, reserve = self(x), self._rounding_around(x)
        proven = np.maximum(np.abs(values) - reserve, 0.0)
        return Sides(values < 0.0, proven / self.lipschitz * (1.0 - 4.0 * ULP))

    def project(
        self,
        points: ArrayLike,
        *,
        offset: float = 0.0,
        tolerance: float | None = None,
        reach: float | None = None,
    ) -> query.Projection:
        """Return the points of {φ = offset} that Newton's steps reach from `points`, see `query.project`.

        `tolerance` is 1e-5 of the longest side and `reach` half of it, unless given [world units].
        """
        longest = self.box.longest
        return query.project(
            self,
            self.gradient,
            points,
            level=offset,
            tolerance=PROJECTED * longest if tolerance is None else tolerance,
            reach=0.5 * longest if reach is None else reach,
        )

    def trace(
        self,
        origins: ArrayLike,
        directions: ArrayLike,
        *,
        offset: float = 0.0,
        tolerance: float | None = None,
        limit: int = 1024,
    ) -> query.Trace:
        """Return where rays meet {φ = offset}, see `query.trace`; they never step through it.

        The surface is that of `mesh`, closed at the faces of `box`. `tolerance` is 1e-5 of the longest side
        unless given [world units].
        """
        self.require()
        inner = self.box.expanded(max(offset, 0.0))
        start, way = query.unit_rays(origins, directions)
        # how far from its ray a point may be computed, the ray's length and direction rounded too
        astray = 8.0 * ULP * (float(np.abs(start).max(initial=0.0)) + inner.diagonal)
        outer = inner.expanded(0.01 * inner.longest + astray)
        ahead, behind = _crossing(outer, start, way)
        meets, slope = behind > ahead, max(self.lipschitz, 1.0)
        begun = np.where(meets, ahead, 0.0)
        found = query.trace(
            _Capped(self, inner, offset),
            (start + begun[:, None] * way)[meets],
            way[meets],
            lipschitz=slope,
            level=offset,
            allowance=self._capped_rounding(outer.expanded(outer.diagonal)) + 2.0 * slope * astray,
            tolerance=PROJECTED * inner.longest if tolerance is None else tolerance,
            reach=outer.diagonal,
            limit=limit,
        )
        return _spread(found, meets, begun, astray)

    # ------------------------------------------------------------------------------------------ measures

    def volume(self, resolution: int = 128, progress: grid.Progress | None = None) -> volumes.Volume:
        """Return the interval that holds the volume of {φ ≤ 0} in `box`, see `volumes.volume`."""
        self.require()
        return volumes.volume(
            self,
            self.box,
            lipschitz=self.lipschitz,
            allowance=self.rounding_within(self.box),
            resolution=resolution,
            progress=progress,
        )

    def clearance(self, other: Certified, *, tolerance: float | None = None) -> clearances.Clearance:
        """Return the interval that holds the gap between two solids, see `clearances.clearance`.

        `tolerance` is 1e-3 of the longest side of the box around both unless given [world units].
        """
        self.require()
        other.require()
        hull = self.box.joined(other.box)
        return clearances.clearance(
            self,
            other,
            hull,
            lipschitz=(self.lipschitz, other.lipschitz),
            allowance=(self.rounding_within(hull), other.rounding_within(hull)),
            gradients=(self.gradient, other.gradient),
            tolerance=1e-3 * hull.longest if tolerance is None else tolerance,
        )

    def error_bars(self, points: ArrayLike, normals: ArrayLike | None = None) -> errorbars.ErrorBars:
        """Return for each point an interval that holds its distance to the surface; see `errorbars`."""
        x = as_points(points)
        self.require()
        reach = 0.5 * self.box.longest
        return errorbars.error_bars(
            self,
            self.gradient,
            x,
            lipschitz=self.lipschitz,
            allowance=self._rounding_around(x, reach),
            normals=normals,
            reach=reach,
        )

    def outlier_threshold(self, points: ArrayLike) -> float:
        """Return the largest |φ| to expect of points on the surface, most of which are [world units].

        `errorbars.robust_threshold` of |φ| there, but no less than `RESOLVED` of the longest side of the box:
        a field is closer to most of the points that it was learnt from than to the rest of its surface. Of
        2,048 clean samples of each of 22 shapes the first alone accuses 4 to 16 %, both at most 0.4 %.
        """
        return errorbars.robust_threshold(self(as_points(points)), RESOLVED * self.box.longest)

    def verdicts(self, points: ArrayLike, threshold: float | None = None) -> errorbars.Verdicts:
        """Return which points lie off the surface, and how far each may move before that could change.

        `threshold` is that of `outlier_threshold` unless given [world units].
        """
        x = as_points(points)
        self.require()
        return errorbars.verdicts(
            self,
            x,
            threshold=threshold,
            least=RESOLVED * self.box.longest,
            lipschitz=self.lipschitz,
            allowance=self._rounding_around(x),
        )


def _spread(found: query.Trace, meets: NDArray[np.bool_], begun: Floats, astray: float) -> query.Trace:
    """What rays that enter the box found, among rays that miss it, measured from where all of them began.

    What is free ends earlier by as much as a point may be off its ray.
    """

    def among(values: NDArray, otherwise: object) -> NDArray:
        every = np.full((len(meets), *values.shape[1:]), otherwise, values.dtype)
        every[meets] = values
        return every

    return query.Trace(
        hit=among(found.hit, False),
        crossed=among(found.crossed, False),
        distance=among(found.distance + begun[meets], np.inf),
        points=among(found.points, np.nan),
        free=among(np.maximum(found.free + begun[meets] - astray, 0.0), np.inf),
        resolved=among(found.resolved, True),
        steps=among(found.steps, 0),
    )


class _Capped:
    """max(φ, distance beyond a box): what lies outside is cut off, and the bound survives."""

    def __init__(self, field: Certified, box: Box, offset: float) -> None:
        self.field, self.box, self.offset = field, box, offset

    def __call__(self, points: Floats) -> Floats:
        beyond = np.maximum(self.box.lower - points, points - self.box.upper).max(axis=1)
        return np.maximum(self.field(points), beyond + self.offset)


def _crossing(box: Box, start: Floats, way: Floats) -> tuple[Floats, Floats]:
    """(n,) where rays enter a box, 0 from within, and where they leave it; the first is larger for a miss."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = (box.lower - start) / way, (box.upper - start) / way
    along = way != 0.0
    within = (start >= box.lower) & (start <= box.upper)  # decides for axes that a ray does not move along
    first = np.where(along, np.minimum(one, two), np.where(within, -np.inf, np.inf)).max(axis=1)
    last = np.where(along, np.maximum(one, two), np.where(within, np.inf, -np.inf)).min(axis=1)
    return np.maximum(first, 0.0), last
