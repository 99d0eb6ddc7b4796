"""Of any callable: value and gradient, Newton–Raphson step (tensors); sphere tracing, projection (arrays)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ocsdf3d.geometry import as_points
from ocsdf3d.oracle import Field, Oracle, lengths

__all__ = [
    "Projection",
    "Trace",
    "newton_step",
    "project",
    "trace",
    "unit_rays",
    "value_and_gradient",
]

Function = Callable[[torch.Tensor], torch.Tensor]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Along = Callable[[Rows, Floats], Floats]  # rows and a parameter for each → φ − level there
Stretch = tuple[Floats, Floats, Floats, Floats]  # from, φ − level there, to, φ − level there

CAUTION = 0.1  # share of the way from the measured slope to L by which the next one is taken to be steeper
OVERLAP = 1e-3  # share of a ball that must lie in what is proven already: rounding never passes for proof
AHEAD = 9  # looks past a touch, each twice as far: 256 tolerances, enough for a slope of 1/256 along the ray
LANDING = 60  # values between two signs, at most; every third halves the stretch; 4 are usual
CANCEL = 0.03  # share of a gradient that others may leave of it; if they leave less they were met too far off
STALL = 1e-3  # trust, as a share of |φ − level|, below which a search goes no further from where it is
_WAYS = np.array([way for way in product((-1.0, 0.0, 1.0), repeat=3) if np.count_nonzero(way) in (1, 3)])
_WAYS /= np.sqrt((_WAYS * _WAYS).sum(axis=1, keepdims=True))
_WAYS = np.concatenate([0.25 * _WAYS, _WAYS])  # where a stuck search looks, as shares of `reach`


def value_and_gradient(function: Function, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return f(x), (n,), and ∇f(x), (n, d), both detached, for x (n, d)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        value = function(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


def newton_step(
    value: torch.Tensor,
    gradient: torch.Tensor,
    level: float | torch.Tensor,
    *,
    rule: str = "squared",
    one_sided: bool = False,
) -> torch.Tensor:
    """Return the displacement, (n, d), that would bring each point to {f = level} were f affine.

    Parameters
    ----------
    value : (n,) tensor
        f(x).
    gradient : (n, d) tensor
        ∇f(x).
    level : float or (n,) tensor
        Level to reach.
    rule : str
        `"squared"`: (level − f)·∇f/‖∇f‖², the Newton–Raphson step (equation 7, appendix I.1, the authors'
        code); `"unit"`: (level − f)·∇f/‖∇f‖, as Algorithm 1 is printed: shorter, and never overshooting while
        ‖∇f‖ ≤ 1.
    one_sided : bool
        Points already above the level stay (the authors' code); otherwise they are pulled back to it.
    """
    gap = level - value
    if one_sided:
        gap = gap.clamp_min(0.0)
    square = gradient.square().sum(1)
    if rule == "squared":
        return (gap / (square + 1e-8))[:, None] * gradient
    if rule == "unit":
        return (gap / (square.sqrt() + 1e-8))[:, None] * gradient
    raise ValueError(f"`rule` must be squared or unit; got {rule!r}.")


class Trace(NamedTuple):
    """What `trace` found, one entry a ray [world units]."""

    hit: NDArray[np.bool_]
    crossed: NDArray[np.bool_]
    distance: Floats
    points: Floats
    free: Floats
    resolved: NDArray[np.bool_]
    steps: Rows


class Projection(NamedTuple):
    """What `project` found, one entry a point [world units]."""

    points: Floats
    residual: Floats
    converged: NDArray[np.bool_]


def trace(
    field: Field,
    origins: ArrayLike,
    directions: ArrayLike,
    *,
    tolerance: float,
    reach: float,
    lipschitz: float = 1.0,
    level: float = 0.0,
    allowance: float = 0.0,
    limit: int = 1024,
) -> Trace:
    """Follow rays to the level set {φ = level} by certified sphere tracing, from either side of it.

    Parameters
    ----------
    field : callable, (n, 3) float64 array → (n,) array
        φ, defined wherever the rays go [world units].
    origins, directions : (n, 3) arrays
        Rays; directions of any length but zero [world units].
    tolerance : float
        |φ − level| at which a ray touches; 1e-5 of the shape leaves hardly a graze [world units].
    reach : float
        Length of the rays [world units].
    lipschitz : float
        A bound L on |φ(x) − φ(y)| / ‖x − y‖.
    level : float
        Level set to find [world units].
    allowance : float
        Bound ε on the error of one value of φ, what rounds a point of a ray included; rays touch at 2ε if
        `tolerance` is less [world units].
    limit : int
        Evaluations on the way to a touch; past it come up to 9 that look ahead and 60 that place the hit.

    Returns
    -------
    Trace
        `hit`: the ray came within the tolerance of the level. `crossed`: φ has either sign around the hit, so
        the level set is crossed for certain; a hit without may be a graze. `distance`, `points`: the hit; inf
        and nan without. `free`: length proven to hold no point of the level set. `resolved`: the ray hit, or
        is free up to `reach`; False when `limit` ended it. `steps`: evaluations.

    Raises
    ------
    ValueError
        Rays that are not (n, 3) and finite or have no direction, a bound out of range, a field that returns
        another shape or a value that is not finite.

    Notes
    -----
    Where φ is computed as v, the open ball of radius r = (|v − level| − ε)/L holds no point of the level set.
    A union of such balls that overlap along the ray is free of it, so a step may leave the ball if the next
    one reaches back. Where φ nears the level with slope m along the ray, the longest such step is
    2r/(1 + m/L); m comes from the last two values, and a ray that stepped too far goes on from the end of
    what is proven. So the value left shrinks by (L − m)/(L + m) a step, not by 1 − m/L (slope 0.2 on a torus,
    tolerance 1e-5: 41 steps instead of 68), and no part is jumped, however thin, whatever m is.

    Between `free` and the hit nothing is proven. There the ray looks ahead, twice as far each time; a change
    of sign is closed in on by regula falsi, so a small slope along the ray does not spoil the distance. Where
    there is none the ray ends where it touched, with `crossed` False: to go on would be to jump. The lazier
    the field, the more such rays: of the hits on that torus 0.05 % at 1e-5 of its size, 0.4 % at 1e-4.

    References
    ----------
    Hart, "Sphere tracing", The Visual Computer 12, 1996. Keinert et al., "Enhanced sphere tracing", STAG 2014
    (balls that overlap). Bán and Valasek, "Automatic step size relaxation in sphere tracing", Eurographics
    short papers, 2023 (steps from the slope).
    """
    start, unit = unit_rays(origins, directions)
    _check(level, allowance, limit, tolerance=tolerance, reach=reach, lipschitz=lipschitz)
    ask, steps = Oracle(field), np.zeros(len(start), np.int64)

    def along(rows: Rows, t: Floats) -> Floats:
        steps[rows] += 1
        return ask(start[rows] + t[:, None] * unit[rows]) - level

    proof = _Proof(lipschitz, allowance, max(tolerance, 2.0 * allowance), reach)
    distance, free, side = _march(along, len(start), proof, limit)
    hit, crossed = np.isfinite(distance), np.zeros(len(start), bool)
    rows, stretch = _look_ahead(along, distance, side, proof)
    crossed[rows] = True
    fine = 1e-3 * tolerance
    distance[rows] = _land(lambda k, t: along(rows[k], t), stretch, fine, fine)
    distance[hit] = np.maximum(distance, free)[hit]
    points = np.full_like(start, np.nan)
    points[hit] = start[hit] + distance[hit, None] * unit[hit]
    return Trace(hit, crossed, distance, points, free, hit | (free >= reach), steps)


def unit_rays(origins: ArrayLike, directions: ArrayLike) -> tuple[Floats, Floats]:
    """Return rays, (n, 3) origins and (n, 3) directions of length 1.

    Raises
    ------
    ValueError
        They are not (n, 3) and finite, not as many, or one has no direction.
    """
    start, unit = as_points(origins, "origins"), as_points(directions, "directions")
    if len(start) != len(unit):
        raise ValueError(f"`directions` must be one for each of {len(start)} `origins`; got {len(unit)}.")
    largest = np.abs(unit).max(axis=1, initial=0.0)
    if not largest.all():
        raise ValueError(f"`directions` must not be zero; row {largest.argmin()} is. Leave that ray out.")
    unit = unit / largest[:, None]  # first, so that no square overflows
    return start, unit / lengths(unit)[:, None]


def project(
    field: Field,
    gradient: Field,
    points: ArrayLike,
    *,
    tolerance: float,
    reach: float,
    level: float = 0.0,
    limit: int = 100,
) -> Projection:
    """Move points onto the level set {φ = level} by safeguarded Newton–Raphson steps.

    Parameters
    ----------
    field : callable, (n, 3) float64 array → (n,) array
        φ, continuous [world units].
    gradient : callable, (n, 3) float64 array → (n, 3) array
        ∇φ; at a kink, that of one side.
    points : (n, 3) array
        Where to start [world units].
    tolerance : float
        |φ − level| that will do [world units].
    reach : float
        No point ends farther than this from where it started [world units].
    level : float
        Level set to reach [world units].
    limit : int
        Steps, each a value and a gradient; up to 60 values more close in between two signs.

    Returns
    -------
    Projection
        `points`: on the level where `converged`, else the closest to it in value that was met. `residual`:
        |φ − level| there. `converged`: the residual is within the tolerance.

    Raises
    ------
    ValueError
        Points that are not (n, 3) and finite, a bound out of range, a field or gradient that returns another
        shape or a value that is not finite.

    Notes
    -----
    The step (level − φ)·∇φ/‖∇φ‖² is taken if |φ − level| falls by a tenth of what it promises, else halved.
    At a kink, where it may lead up the other side, ∇φ gives way to the shortest vector between the gradients
    met around, down which both sides fall. A step that meets the other sign ends the search: the level lies
    between, and regula falsi finds it. Where nothing falls any more (a gradient of zero, a local extremum)
    the point looks around, 14 ways to a quarter of `reach`, then to all of it, before it gives up.

    On an exact distance the point found is the nearest, on a lazy field most often; it is not promised.

    References
    ----------
    Wolfe, "A method of conjugate subgradients for minimizing nondifferentiable functions", Mathematical
    Programming Study 3, 1975.
    """
    start, ask = as_points(points), Oracle(field)
    _check(level, 0.0, limit, tolerance=tolerance, reach=reach)

    def gaps(x: Floats) -> Floats:
        return ask(x) - level

    def slopes(x: Floats) -> Floats:
        return _gradients(gradient, x)

    aim = 0.5 * tolerance  # a value may round differently in another batch
    at, gap, met, met_gap = _descend(gaps, slopes, start, aim, reach, limit)
    rows = np.flatnonzero(np.isfinite(met_gap))
    a, way = at[rows], met[rows] - at[rows]
    ends = np.zeros(len(rows)), gap[rows], np.ones(len(rows)), met_gap[rows]
    t = _land(lambda k, t: gaps(a[k] + t[:, None] * way[k]), ends, aim, 0.0)
    at[rows] = a + t[:, None] * way
    residual = np.abs(gaps(at))
    return Projection(at, residual, residual <= tolerance)


class _Proof(NamedTuple):
    """What lets a value speak for its surroundings, and where a ray has touched or ends."""

    lipschitz: float
    allowance: float
    touch: float
    reach: float


def _march(along: Along, n: int, proof: _Proof, limit: int) -> tuple[Floats, Floats, tuple[Floats, Floats]]:
    """(n,) distance of the touch, length proven free, and where the side was last seen, with φ − level."""
    distance, free, t = np.full(n, np.inf), np.zeros(n), np.zeros(n)
    side_t, side_gap = np.zeros((2, n))
    last_t, last_gap = np.full((2, n), np.nan)  # the last value, proven or not
    rows = np.arange(n)
    for _ in range(limit):
        if not rows.size:
            break
        x = t[rows]
        gap = along(rows, x)
        radius = np.maximum(np.abs(gap) - proof.allowance, 0.0) / proof.lipschitz
        proven = x - (1.0 - OVERLAP) * radius <= free[rows]
        free[rows] = np.where(proven, np.clip(x + radius, free[rows], proof.reach), free[rows])
        seen = proven & (radius > 0.0)
        side_t[rows[seen]], side_gap[rows[seen]] = x[seen], gap[seen]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.sign(gap) * (last_gap[rows] - gap) / (x - last_t[rows]) / proof.lipschitz
        slope = np.where(np.isnan(slope), 1.0, np.clip(slope, -0.9, 1.0))  # at first the ball's own length
        ahead = x + 2.0 * radius / (1.0 + slope + CAUTION * (1.0 - slope))
        t[rows] = np.where(proven, np.clip(ahead, free[rows], proof.reach), free[rows])
        last_t[rows], last_gap[rows] = x, gap
        touches = proven & (np.abs(gap) <= proof.touch)
        distance[rows[touches]] = x[touches]
        rows = rows[~touches & (free[rows] < proof.reach)]
    return distance, free, (side_t, side_gap)


def _look_ahead(
    along: Along, distance: Floats, side: tuple[Floats, Floats], proof: _Proof
) -> tuple[Rows, Stretch]:
    """Rays that meet the other side soon after they touched, and the stretch between the two signs."""
    low_t, low_gap = side
    high_t, high_gap = np.zeros((2, len(distance)))
    rows = np.flatnonzero(np.isfinite(distance))
    for turn in range(AHEAD):
        t = distance[rows] + 2.0**turn * proof.touch / proof.lipschitz
        rows, t = rows[t <= proof.reach], t[t <= proof.reach]
        if not rows.size:
            break
        gap = along(rows, t)
        certain = np.abs(gap) > proof.allowance
        over = certain & (gap * low_gap[rows] < 0.0)
        high_t[rows[over]], high_gap[rows[over]] = t[over], gap[over]
        same = certain & ~over
        low_t[rows[same]], low_gap[rows[same]] = t[same], gap[same]
        rows = rows[~over & (np.abs(gap) <= 4.0 * proof.touch)]  # beyond, it leaves
    rows = np.flatnonzero(high_gap)
    return rows, (low_t[rows], low_gap[rows], high_t[rows], high_gap[rows])


def _land(along: Along, stretch: Stretch, small: float, short: float) -> Floats:
    """(n,) roots in stretches whose ends have opposite signs, to a value ≤ `small` or a stretch ≤ `short`."""
    a, at_a, b, at_b = (end.copy() for end in stretch)
    best = np.where(np.abs(at_a) <= np.abs(at_b), a, b)
    least = np.minimum(np.abs(at_a), np.abs(at_b))
    kept = np.zeros(len(a))  # the end that the last turn kept: −1 for a, 1 for b
    for turn in range(LANDING):
        k = np.flatnonzero((least > small) & (np.abs(b - a) > short))
        if not k.size:
            break
        share = np.full(len(k), 0.5) if turn % 3 == 2 else at_a[k] / (at_a[k] - at_b[k])
        t = a[k] + share * (b[k] - a[k])
        gap = along(k, t)
        nearer = np.abs(gap) < least[k]
        best[k[nearer]], least[k[nearer]] = t[nearer], np.abs(gap[nearer])
        like_a = np.sign(gap) == np.sign(at_a[k])
        for end, at_end, other, moved, keep in ((a, at_a, at_b, like_a, 1.0), (b, at_b, at_a, ~like_a, -1.0)):
            m = k[moved]
            end[m], at_end[m] = t[moved], gap[moved]
            other[m] *= np.where(kept[m] == keep, 0.5, 1.0)  # Illinois: an end kept twice weighs half
            kept[m] = keep
    return best


def _descend(
    gaps: Callable[[Floats], Floats],
    slopes: Callable[[Floats], Floats],
    start: Floats,
    aim: float,
    reach: float,
    limit: int,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Where the steps led, φ − level there; the place that ended them, φ − level there, nan if none did."""
    at, gap, met, met_gap = start.copy(), gaps(start), start.copy(), np.full(len(start), np.nan)
    down, looks = np.zeros_like(start), np.zeros(len(start), np.int64)
    trust = np.full(len(start), float(reach))
    rows = np.flatnonzero(np.abs(gap) > aim)
    down[rows] = slopes(start[rows])
    own = down.copy()
    for _ in range(limit):
        rows = rows[looks[rows] < len(_WAYS)]
        if not rows.size:
            break
        g, norm = gap[rows], np.maximum(lengths(down[rows]), 1e-30)
        length = np.minimum(np.abs(g) / norm, trust[rows])
        stuck = np.minimum(norm * reach, trust[rows]) < STALL * np.abs(g)
        way = at[rows] - start[rows] - (np.sign(g) * length / norm)[:, None] * down[rows]
        way = np.where(stuck[:, None], reach * _WAYS[looks[rows]], way)
        y = start[rows] + way * np.minimum(1.0, reach / np.maximum(lengths(way), 1e-30))[:, None]
        h = gaps(y)
        looks[rows] += stuck
        promise = np.where(stuck, np.abs(g), norm * length)

        ends = (np.abs(h) <= aim) | (g * h < 0.0)
        met[rows[ends]], met_gap[rows[ends]] = y[ends], h[ends]
        rows, stuck = rows[~ends], stuck[~ends]
        y, h, length, promise = (array[~ends] for array in (y, h, length, promise))
        new = slopes(y)
        falls = np.abs(gap[rows]) - np.abs(h) >= 0.1 * promise
        bent = ~stuck & (~falls | (down[rows] != own[rows]).any(axis=1))  # at a kink, or along it
        k = rows[bent]
        down[k] = _shortest(down[k], new[bent])
        k = rows[falls]
        at[k], gap[k], own[k] = y[falls], h[falls], new[falls]
        trust[k] = np.where(stuck[falls], reach, np.minimum(2.0 * trust[k], reach))
        k = rows[~falls & ~stuck]
        trust[k] = 0.5 * length[~falls & ~stuck]
        cancel = lengths(down[rows]) < CANCEL * lengths(own[rows])
        k = rows[cancel | (falls & ~bent)]
        down[k] = own[k]
    return at, gap, met, met_gap


def _shortest(a: Floats, b: Floats) -> Floats:
    """(n, 3) shortest vectors that end on the segments from a to b."""
    square = ((a - b) ** 2).sum(axis=1)
    share = np.clip((a * (a - b)).sum(axis=1) / np.where(square > 0.0, square, 1.0), 0.0, 1.0)
    return a + share[:, None] * (b - a)


def _gradients(gradient: Field, points: Floats) -> Floats:
    """(n, 3) gradients, checked; nothing is asked of no points."""
    if not len(points):
        return np.zeros(points.shape)
    found = np.asarray(gradient(points), dtype=np.float64)
    if found.shape != points.shape:
        raise ValueError(f"`gradient` must return shape {points.shape}; got {found.shape}.")
    wrong = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if wrong.size:
        where = points[wrong[0]].tolist()
        raise ValueError(f"`gradient` must be finite; got {found[wrong[0]].tolist()} at {where}.")
    return found


def _check(level: float, allowance: float, limit: int, **positive: float) -> None:
    for name, value in positive.items():
        if not 0.0 < value < np.inf:
            raise ValueError(f"`{name}` must be positive and finite; got {value}.")
    if not (np.isfinite(level) and 0.0 <= allowance < np.inf):
        raise ValueError(
            f"`level` must be finite and `allowance` finite and ≥ 0; got {level} and {allowance}."
        )
    if limit < 1:
        raise ValueError(f"`limit` must be at least 1 evaluation a ray or point; got {limit}.")
