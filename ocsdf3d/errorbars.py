"""How far points are from a bounded field's surface, both ways, and which of them are off it for certain."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ocsdf3d.geometry import Box, as_points
from ocsdf3d.oracle import SAFE, TILE, Bounded, Field, lengths, tiles, unit_vectors

__all__ = ["ErrorBars", "Verdicts", "error_bars", "first_of_sign", "robust_threshold", "verdicts"]

Floats = NDArray[np.float64]
Gradient = Callable[[Floats], NDArray[np.floating]]

SPREADS = 6.0  # median absolute deviations above the median: 3.07 σ where φ is normal, 2 alarms in 1000
_HALVINGS = 40  # of a sign change along a ray
_AXES = np.concatenate([np.eye(3), -np.eye(3)])


class ErrorBars(NamedTuple):
    """Intervals that hold the distances from points to the zero set of φ."""

    lower: Floats  # (n,) [world units]
    upper: Floats  # (n,) [world units]; inf where no change of sign was found
    evaluations: int


class Verdicts(NamedTuple):
    """Which points lie off the surface, and how far each may move before that could change."""

    outlier: NDArray[np.bool_]  # (n,)
    radius: Floats  # (n,) [world units]


def error_bars(
    field: Field,
    gradient: Gradient,
    points: ArrayLike,
    *,
    lipschitz: float = 1.0,
    allowance: float = 0.0,
    normals: ArrayLike | None = None,
    reach: float,
    steps: int = 24,
) -> ErrorBars:
    """Enclose the distance from every point to the zero set of φ.

    Parameters
    ----------
    field, gradient : callable, (n, 3) float64 array → (n,) and (n, 3) arrays
        φ and ∇φ, defined within `reach` of the points; the gradient only says where to look.
    points : (n, 3) array_like
        Where to measure from [world units].
    lipschitz, allowance : float
        Bounds on the slope of φ and on the error of one of its values.
    normals : (n, 3) array_like, optional
        Further directions to look in, both ways.
    reach : float
        How far to look [world units].
    steps : int
        Radii tried on the way from the lower bound to `reach`, in geometric progression.

    Returns
    -------
    ErrorBars
        Certified; `upper` is the smallest that was found, inf where nothing was.

    Raises
    ------
    ValueError
        Arrays of another shape, a bound, reach or number of steps that is none.

    Notes
    -----
    Lower: a zero within (|v| − ε)/L would contradict the bound. Upper: between a value of at least ε and one
    of at most −ε φ has a zero, by continuity. If p has one of them, the other is looked for; if |v| < ε, both
    are, and the segment between them lies in the ball of the farther. The radius first met is halved towards
    the last that failed. On an exact SDF both bounds meet but for 2 ε and rounding.
    """
    ask = Bounded(field, lipschitz, allowance)
    points = as_points(points, "points")
    if not 0.0 < reach < np.inf:
        raise ValueError(f"`reach` must be positive and finite; got {reach}.")
    if steps < 1:
        raise ValueError(f"`steps` must be at least 1; got {steps}. The default is 24.")
    values = ask(points)
    lower = np.abs(ask.radii(values))
    uphill = unit_vectors(as_points(gradient(points), "gradient", len(points)))
    normal = np.zeros((0, 3)) if normals is None else unit_vectors(as_points(normals, "normals", len(points)))
    upper = np.zeros(len(points))
    for sign in (1.0, -1.0):
        wanting = np.flatnonzero(sign * values < allowance)  # the others are such points themselves
        for part in tiles(len(wanting), TILE):
            rows = wanting[part]
            ways = [sign * uphill[rows, None], np.repeat(_AXES[None], len(rows), axis=0)]
            if normals is not None:
                ways += [normal[rows, None], -normal[rows, None]]
            rays = np.concatenate(ways, axis=1)
            found = first_of_sign(ask, points[rows], rays, sign, lower[rows], reach, steps)
            far = lengths(found - points[rows]) * (1.0 + SAFE)
            upper[rows] = np.maximum(upper[rows], np.where(np.isnan(far), np.inf, far))
    return ErrorBars(lower, upper, ask.evaluations)


def verdicts(
    field: Field,
    points: ArrayLike,
    *,
    threshold: float | None,
    least: float = 0.0,
    lipschitz: float = 1.0,
    allowance: float = 0.0,
) -> Verdicts:
    """Tell the points off the surface, |φ| > threshold, and how far the verdict holds.

    Parameters
    ----------
    field : callable, (n, 3) float64 array → (n,) array
        φ [world units].
    points : (n, 3) array_like
        What to judge [world units].
    threshold : float or None
        Largest |φ| of an inlier; None takes `robust_threshold` of these points [world units].
    least : float
        See there.
    lipschitz, allowance : float
        Bounds on the slope of φ and on the error of one of its values.

    Returns
    -------
    Verdicts
        A point moved by less than its `radius` keeps its verdict, in exact arithmetic; where `radius` is 0
        nothing is claimed. Double `allowance` for a radius within which computed verdicts agree as well.

    Raises
    ------
    ValueError
        Points of another shape, a threshold below 0, a bound that is none.

    Notes
    -----
    | |φ| − threshold | has slope at most L too: the radius is (||v| − threshold| − ε)/L.
    """
    ask = Bounded(field, lipschitz, allowance)
    if threshold is not None and not 0.0 <= threshold < np.inf:
        raise ValueError(f"`threshold` must be finite and ≥ 0; got {threshold}.")
    values = ask(as_points(points, "points"))
    chosen = robust_threshold(values, least) if threshold is None else threshold
    above = np.abs(values) - chosen
    return Verdicts(above > 0.0, np.abs(ask.radii(above)))


def robust_threshold(values: ArrayLike, least: float = 0.0) -> float:
    """Largest |φ| to expect of an inlier, from φ at a cloud that is mostly inliers [world units].

    The median of |φ| plus `SPREADS` median absolute deviations, but no less than `least`; up to half of the
    values may be anything. Where φ is normal around 0 with deviation σ, the median of |φ| is 0.674 σ and its
    deviation 0.399 σ: six of them reach 3.07 σ, and 2 clean points in 1000 are called outliers. Where most
    values are equal and that deviation is 0, the mean one stands in; where all are, the threshold is their
    size and none is beyond.

    Raises
    ------
    ValueError
        No values, or some that are not finite.
    """
    array = np.abs(np.asarray(values, dtype=np.float64))
    if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all():
        raise ValueError(f"`values` must be (n,), n > 0, and finite; got shape {array.shape}.")
    middle = np.median(array)
    deviations = np.abs(array - middle)
    spread = np.median(deviations) or deviations.mean()
    return max(float(middle + SPREADS * spread), least)


def first_of_sign(
    ask: Bounded,
    origins: Floats,
    rays: Floats,
    sign: float,
    start: Floats,
    reach: float,
    steps: int,
    box: Box | None = None,
) -> Floats:
    """(n, 3) points on one of the (n, m, 3) rays, near their origin, with φ of this sign; NaN without any.

    Radii grow from `start` to `reach`; where one has the sign, it is halved towards the one before.
    """

    def has_sign(row: NDArray, way: NDArray, radius: Floats) -> tuple[NDArray[np.bool_], Floats]:
        at = origins[row] + radius[:, None] * rays[row, way]
        at = at if box is None else np.clip(at, box.lower, box.upper)
        return sign * ask(at) >= ask.allowance, at

    start = np.maximum(start, 2.0**-20 * reach) * (1.0 + 2.0**-20)
    before, open_ = np.zeros(len(origins)), np.flatnonzero(start <= reach)
    rows, ways, low, high = (np.zeros(0, kind) for kind in (np.int64, np.int64, float, float))
    for step in range(steps + 1):
        radius = start[open_] * (reach / start[open_]) ** (step / steps)
        row, way = np.repeat(open_, rays.shape[1]), np.tile(np.arange(rays.shape[1]), len(open_))
        hit, _ = has_sign(row, way, np.repeat(radius, rays.shape[1]))
        rows, ways = np.append(rows, row[hit]), np.append(ways, way[hit])
        low = np.append(low, before[row[hit]])
        high = np.append(high, np.repeat(radius, rays.shape[1])[hit])
        before[open_] = radius
        open_ = open_[~hit.reshape(-1, rays.shape[1]).any(axis=1)]
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        hit, _ = has_sign(rows, ways, middle)
        low, high = np.where(hit, low, middle), np.where(hit, middle, high)
    _, at = has_sign(rows, ways, high)
    found = np.full(origins.shape, np.nan)
    nearest_last = np.argsort(-lengths(at - origins[rows]), kind="stable")
    found[rows[nearest_last]] = at[nearest_last]
    return found
