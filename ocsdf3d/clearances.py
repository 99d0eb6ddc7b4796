"""The gap between two bounded fields' solids, as an interval that is proved to hold it, with a witness.

References
----------
Shubert, SIAM Journal on Numerical Analysis 9(3), 1972 (minimum of a Lipschitz function by subdivision).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ocsdf3d.errorbars import first_of_sign
from ocsdf3d.geometry import Box, as_points
from ocsdf3d.oracle import SAFE, Bounded, Field, lengths, unit_vectors

__all__ = ["Clearance", "clearance"]

Floats = NDArray[np.float64]
Gradient = Callable[[Floats], NDArray[np.floating]]

_ROOTS = 4  # blocks along the longest side at the start, at least
_BATCH = 2048  # blocks split at once, those of the lowest bounds first
_STARTS = 4  # points from which a witness is sought
_CORNERS = np.array(list(product((0, 1), repeat=3)))


class Clearance(NamedTuple):
    """An interval that holds the gap between two solids."""

    lower: float  # [world units]
    upper: float  # length of the witness [world units]; inf where none was found
    contact: bool  # True: a point proven to lie in both; False: none was found
    witness: Floats  # (2, 3) a point of each solid, proven; NaN where none was found
    evaluations: int  # of both fields together


def clearance(
    a: Field,
    b: Field,
    box: Box,
    *,
    lipschitz: tuple[float, float] = (1.0, 1.0),
    allowance: tuple[float, float] = (0.0, 0.0),
    gradients: tuple[Gradient, Gradient] | None = None,
    tolerance: float,
    limit: int = 2_000_000,
) -> Clearance:
    """Enclose the gap between the solids {a ≤ 0} and {b ≤ 0}.

    Parameters
    ----------
    a, b : callable, (n, 3) float64 array → (n,) array
        The two fields, asked inside the box only [world units].
    box : Box
        Where the solids are looked for, the hull of their boxes; parts outside are not seen.
    lipschitz, allowance : (float, float)
        Bounds on the slope of either field and on the error of one of its values.
    gradients : pair of callables, (n, 3) → (n, 3), optional
        Where the witness walks; None takes differences.
    tolerance : float
        Width of the interval to stop at [world units].
    limit : int
        Evaluations of both fields together, some hundreds more for the last witness.

    Returns
    -------
    Clearance
        The interval is certified whatever stopped the search. Solids that touch without a common inner point
        have `lower` 0 and `contact` False.

    Raises
    ------
    ValueError
        A bound, tolerance or limit that is none, a field that returns another shape or no finite value.

    Notes
    -----
    Let p and q be the closest points of the solids and α = a/Lₐ, β = b/L_b. For x on the segment between them
    ‖x − p‖ ≥ α(x), since a(p) ≤ 0, and ‖x − q‖ ≥ β(x); so gap = ‖x − p‖ + ‖x − q‖ ≥ α(x) + β(x). If the
    solids are apart, β − α is positive at p and negative at q, so α = β at some x between, and there
    gap ≥ 2 max(α, β)(x). The segment lies in the box: gap ≥ 2 min over the box of F = max(α, β), and F has
    slope at most 1. On exact SDFs that is an equation, F being gap/2 in the middle. A block of centre c has
    F ≥ F(c) − half-diagonal; the lowest are halved first, and those within tolerance of the lowest F seen
    are let be: `lower` cannot rise by more.

    On lazy fields `lower` is lower: slope s on both gives s · gap, and the interval stays open, however many
    evaluations. `upper` is the length of a witness found by walking down both fields: local, so an upper
    bound of the gap but not always its least.
    """
    if not 0.0 < tolerance < np.inf:
        raise ValueError(f"`tolerance` must be positive and finite; got {tolerance}.")
    if limit < 1:
        raise ValueError(f"`limit` must be at least 1 evaluation; got {limit}. The default is 2,000,000.")
    pair = _Pair(
        Bounded(a, lipschitz[0], allowance[0], "a"), Bounded(b, lipschitz[1], allowance[1], "b"), box
    )
    if not box.longest > 0.0:
        raise ValueError(f"`box` must have an extent; got the single point {box.lower.tolist()}.")
    counts = np.maximum(1, np.ceil(_ROOTS * box.size / box.longest)).astype(np.int64)
    half = 0.5 * box.size / counts
    grid = np.stack(np.meshgrid(*[np.arange(c) for c in counts], indexing="ij"), axis=-1).reshape(-1, 3)
    center, level = box.lower + (2 * grid + 1) * half, np.zeros(len(grid), np.int64)
    stray = SAFE * box.farthest  # centres are rounded to 2⁻⁵³ of a coordinate a level
    front = _Front.of(pair.bound(center), half, center, level, stray)
    shelved = walked = np.inf  # lowest bound among the blocks let be; lowest F when last walked from
    while True:
        if pair.lowest < walked:
            pair.approach(front.center[np.argsort(front.value, kind="stable")[:_STARTS]], gradients)
            walked = pair.lowest
        near = front.floor >= pair.lowest - 0.25 * tolerance
        shelved = min(shelved, front.floor[near].min(initial=np.inf))
        front = front.at(~near)
        lower = max(0.0, 2.0 * min(shelved, front.floor.min(initial=np.inf)))
        batch = min(_BATCH, (limit - pair.evaluations) // 16)  # eight children, two fields
        if pair.contact or pair.upper - lower <= tolerance or len(front.floor) == 0 or batch < 1:
            break
        order = np.argsort(front.floor, kind="stable")
        split, front = front.at(order[:batch]), front.at(order[batch:])
        level = np.repeat(split.level + 1, 8)
        sides = (2 * np.tile(_CORNERS, (len(split.level), 1)) - 1) * half * 0.5 ** level[:, None]
        center = np.repeat(split.center, 8, axis=0) + sides
        front = front.joined(_Front.of(pair.bound(center), half, center, level, stray))
    upper = pair.upper
    return Clearance(min(lower, upper), upper, pair.contact, pair.witness, pair.evaluations)


class _Front(NamedTuple):
    """Blocks of a search for the minimum of F."""

    value: Floats  # F at the centre, at least
    floor: Floats  # F in the block, at least
    center: Floats
    level: NDArray[np.int64]

    @classmethod
    def of(
        cls, value: Floats, half: Floats, center: Floats, level: NDArray[np.int64], stray: float
    ) -> _Front:
        radius = float(lengths(half[None])[0]) * 0.5**level
        return cls(value, value - (1.0 + SAFE) * radius - SAFE * np.abs(value) - stray, center, level)

    def at(self, rows: NDArray) -> _Front:
        return _Front(*(array[rows] for array in self))

    def joined(self, other: _Front) -> _Front:
        return _Front(*(np.concatenate(both) for both in zip(self, other, strict=True)))


class _Pair:
    """Two solids, the shortest witness between them so far, and the lowest F that was seen."""

    def __init__(self, a: Bounded, b: Bounded, box: Box) -> None:
        self.sides, self.box = (a, b), box
        self.upper, self.lowest, self.contact = np.inf, np.inf, False
        self.witness = np.full((2, 3), np.nan)

    @property
    def evaluations(self) -> int:
        return sum(side.evaluations for side in self.sides)

    def bound(self, points: Floats) -> Floats:
        """(n,) F = max(α, β) at points, rounded down by the allowances; a common inner point is a contact."""
        values = [side(points) for side in self.sides]
        both = np.all([v <= -side.allowance for v, side in zip(values, self.sides, strict=True)], axis=0)
        if both.any():
            self.contact, self.upper = True, 0.0
            self.witness = np.repeat(points[both][:1], 2, axis=0)
        scaled = [(v - side.allowance) / side.lipschitz for v, side in zip(values, self.sides, strict=True)]
        bound = np.maximum(*scaled)
        self.lowest = min(self.lowest, float(bound.min(initial=np.inf)))
        return bound

    def approach(self, points: Floats, gradients: tuple[Gradient, Gradient] | None) -> None:
        """Walk from points down both fields; a middle between two feet is the next start."""
        for _ in range(2):
            feet = [
                self._foot(side, points, gradients[i] if gradients else None)
                for i, side in enumerate(self.sides)
            ]
            length = lengths(feet[0] - feet[1]) * (1.0 + SAFE)
            length[np.isnan(length)] = np.inf
            best = int(np.argmin(length)) if len(length) else 0
            if len(length) == 0 or length[best] == np.inf or self.contact:
                return
            if length[best] < self.upper:
                self.upper, self.witness = float(length[best]), np.stack([foot[best] for foot in feet])
            points = (0.5 * feet[0] + 0.5 * feet[1])[length < np.inf]
            self.bound(points)

    def _foot(self, side: Bounded, points: Floats, gradient: Gradient | None) -> Floats:
        """(n, 3) points of the box proven to lie in the solid, downhill from `points`; NaN where none was."""
        if gradient is None:
            step = (
                1e-4 * self.box.longest * np.eye(3)
            )  # float32 values of the box's size: slopes to a percent
            ends = np.clip(points[:, None] + np.concatenate([step, -step]), self.box.lower, self.box.upper)
            values = side(ends.reshape(-1, 3)).reshape(-1, 2, 3)
            slope = values[:, 0] - values[:, 1]
        else:
            slope = as_points(gradient(points), "gradients", len(points))
        values = side(points)
        start = np.abs(side.radii(values))
        feet = first_of_sign(
            side, points, -unit_vectors(slope)[:, None], -1.0, start, self.box.diagonal, 24, self.box
        )
        return np.where((values <= -side.allowance)[:, None], points, feet)
