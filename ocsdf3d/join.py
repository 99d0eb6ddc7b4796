"""Many fields, each of its own tile of space, joined into one whose Lipschitz bound is proved.

Space is cut by planes across its axes. Along an axis the weight of a slab falls from 1 to 0 over a ramp of
width w around each of its planes, that of the next one rises; a tile's weight is the product of three of
these. They sum to 1 and are never negative, so a value is a mean of values, and there is no seam.

*Outliers among the tiles.* A network knows its tile only where it saw points, and no tile knows what a
neighbour found. So all are held to one guide φ₀, a field of the whole: g = median(φ₀ − b, φ, φ₀ + b), b the
`band`. No tile adds a piece farther than b/L from the guide's surface, or loses one.

*Slope.* Let the planes be numbered, h_i(x) the weights along x, s_i = h_i + h_{i+1} + … the ramp at plane i,
which rises from 0 to 1 over w. For φ = Σ h_i(x) h_j(y) h_k(z) g_ijk summation by parts gives

    ∇φ = Σ h_i h_j h_k ∇g_ijk + e,    e_x = Σ_i s_i′(x) Σ_jk h_j h_k (g_ijk − g_{i−1,jk}),

and so for y and z. The first sum is a mean, no longer than the largest L. In e_x one i is left, the ramp that
x lies on, ramps of an axis being apart; the inner sum is a mean of differences of tiles with a face in
common, so |e_x| ≤ D_x / w_x, D_x the largest difference of two such tiles where both have weight. At an edge
or a corner of tiles two or three components are not 0, and at most 8 tiles have weight: these, and no more
than these, are in the means. Together

    L ≤ max L_k + (Σ_axes (D/w)²)^½.

A function that is Lipschitz on a box, convex, with this bound on its gradient almost everywhere, has it
between any two points of it. Outside of the box φ is its value at the nearest point of the box, which moves
no faster than x; and of that and the distance beyond the faces the larger counts, as when meshing.

*Proof.* D is never believed: `extremes.largest` encloses it, in float64 with the rounding of the networks
counted, from the parts as they are, when the bound is first asked for; after loading, anew. Of a camel
in 2 × 2 tiles that takes 20 s on one core, and ten times as long where spheres hold the networks to points.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ocsdf3d.certified import ULP, Floats
from ocsdf3d.csg import Field, Node
from ocsdf3d.extremes import largest
from ocsdf3d.geometry import Box, as_points
from ocsdf3d.oracle import SAFE

__all__ = ["Join"]

Three = tuple[float, float, float]

# Of a ramp's width. Halving both makes the proof eight times as long, and takes 0.03 and 0.08 off a slope.
CLOSE = 0.05  # how near to the largest difference the proof goes
SLIGHT = 0.15  # differences that are not looked into


@dataclass(frozen=True, eq=False)
class Join(Node):
    """Weighted mean of the fields of tiles, each held to a band around a guide.

    Attributes
    ----------
    parts : tuple of Field
        The guide φ₀, then others.
    cuts : three tuples of floats
        Where planes cross each axis, ascending; none leaves an axis whole [world units].
    widths : three floats
        Of the ramps of each axis; no two of an axis may overlap [world units].
    which : tuple of int
        Of each tile the number of its part, the last axis running fastest; 0, the guide, where a tile is
        empty.
    band : float
        b [world units].
    lower, upper : three floats
        Corners of the box [world units].

    Raises
    ------
    TypeError
        A part is no field.
    ValueError
        Numbers that make no tiles.
    """

    kind, arity = "join", None

    cuts: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
    widths: Three
    which: tuple[int, ...]
    band: float
    lower: Three
    upper: Three

    def __post_init__(self) -> None:
        super().__post_init__()
        plain = {  # as they come from a file or from a caller, and as they are compared and written
            "cuts": tuple(tuple(map(float, axis)) for axis in self.cuts),
            "widths": tuple(map(float, self.widths)),
            "which": tuple(map(int, self.which)),
            "band": float(self.band),
            "lower": tuple(map(float, self.lower)),
            "upper": tuple(map(float, self.upper)),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        _check(self)

    @property
    def settings(self) -> dict[str, object]:
        """What the node is, beside its parts."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "parts"}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Tiles along each axis."""
        x, y, z = (len(axis) + 1 for axis in self.cuts)
        return x, y, z

    @property
    def support(self) -> str:
        """That of the guide."""
        return self.parts[0].support

    @property
    def box(self) -> Box:
        """Outside of it is outside of the solid."""
        return Box(np.array(self.lower), np.array(self.upper))

    @property
    def gaps(self) -> Three:
        """D, for each axis an upper bound of the difference of two neighbours, proved here [world units]."""
        if "_gaps" not in self.__dict__:
            object.__setattr__(self, "_gaps", self._proved())
        found: Three = self.__dict__["_gaps"]
        return found

    @property
    def lipschitz(self) -> float:
        """Upper bound of the slope: the parts' own, and that of the weights times what neighbours differ."""
        added = math.hypot(*(gap / width for gap, width in zip(self.gaps, self.widths, strict=True)))
        return max(1.0, (super().lipschitz + added) * (1.0 + SAFE))

    def astype(self, dtype: str) -> Join:
        """Return the same join, its networks computed in `"float32"` or `"float64"`."""
        changed = dataclasses.replace(self, parts=tuple(part.astype(dtype) for part in self.parts))
        if "_gaps" in self.__dict__:  # the proof is of real arithmetic
            object.__setattr__(changed, "_gaps", self.gaps)
        return changed

    # ------------------------------------------------------------------------------------------ values

    def __call__(self, points: ArrayLike) -> Floats:
        """Return φ, (n,), at `points`, (n, 3)."""
        x = as_points(points)
        mean, beyond = self._mean(np.clip(x, self.lower, self.upper)), self._beyond(x).max(axis=1)
        return np.maximum(mean, beyond)

    def gradient(self, points: ArrayLike) -> Floats:
        """Return ∇φ, (n, 3)."""
        x = as_points(points)
        at = np.clip(x, self.lower, self.upper)
        guide, steepest = self.parts[0](at), self.parts[0].gradient(at)
        hats, slopes = self._hats(at), self._slopes(at)
        value, total = np.zeros(len(x)), np.zeros((len(x), 3))
        for tile, number in self._tiles():
            own = [hat[:, i] for hat, i in zip(hats, tile, strict=True)]
            rows = np.flatnonzero(own[0] * own[1] * own[2] > 0.0)
            if not len(rows):
                continue
            g, uphill = guide[rows], steepest[rows]
            if number:
                raw = self.parts[number](at[rows])
                free = np.abs(raw - g) <= self.band
                uphill = np.where(free[:, None], self.parts[number].gradient(at[rows]), uphill)
                g = np.clip(raw, g - self.band, g + self.band)
            one, two, three = (hat[rows] for hat in own)
            a, b, c = (slope[rows, i] for slope, i in zip(slopes, tile, strict=True))
            weight = one * two * three
            value[rows] += weight * g
            rises = np.stack([a * two * three, one * b * three, one * two * c], axis=1)
            total[rows] += weight[:, None] * uphill + rises * g[:, None]
        total[at != x] = 0.0
        beyond = self._beyond(x)
        face = beyond.argmax(axis=1)
        outward = np.where(x - self.upper > self.lower - x, 1.0, -1.0) * (np.arange(3) == face[:, None])
        return np.where((beyond.max(axis=1) > value)[:, None], outward, total)

    def weights(self, points: ArrayLike) -> Floats:
        """Return the weight of every tile, (n, tiles), at `points`, (n, 3); their sum is 1."""
        hats = self._hats(np.clip(as_points(points), self.lower, self.upper))
        return np.einsum("ni,nj,nk->nijk", *hats).reshape(len(hats[0]), -1)

    def _tiles(self) -> Iterator[tuple[tuple[int, ...], int]]:
        """Place of every tile and the number of its part."""
        return zip(product(*map(range, self.shape)), self.which, strict=True)

    def _mean(self, at: Floats) -> Floats:
        guide, hats = self.parts[0](at), self._hats(at)
        mean = np.zeros(len(at))
        for (i, j, k), number in self._tiles():
            weight = hats[0][:, i] * hats[1][:, j] * hats[2][:, k]
            rows = np.flatnonzero(weight > 0.0)
            if len(rows):
                mean[rows] += weight[rows] * self._held(number, at[rows], guide[rows])
        return mean

    def _held(self, number: int, at: Floats, guide: Floats) -> Floats:
        """(n,) g of a part, given that of the guide."""
        if number == 0:
            return guide
        return np.clip(self.parts[number](at), guide - self.band, guide + self.band)

    def _ramps(self, at: Floats) -> Iterator[tuple[Floats, float]]:
        """(n, m) how far along its ramps a point is, below 0 before, above 1 behind; and their width."""
        for axis in range(3):
            width, cuts = self.widths[axis], np.array(self.cuts[axis])
            yield (at[:, axis, None] - (cuts - 0.5 * width)) / width, width

    def _hats(self, at: Floats) -> list[Floats]:
        """(n, count) weights along each axis."""
        ones = np.ones((len(at), 1))
        return [-np.diff(np.hstack([ones, np.clip(s, 0.0, 1.0), 0.0 * ones])) for s, _ in self._ramps(at)]

    def _slopes(self, at: Floats) -> list[Floats]:
        """(n, count) their derivatives."""
        zero = np.zeros((len(at), 1))
        rises = [np.where((s > 0.0) & (s < 1.0), 1.0 / width, 0.0) for s, width in self._ramps(at)]
        return [-np.diff(np.hstack([zero, rise, zero])) for rise in rises]

    def _beyond(self, x: Floats) -> Floats:
        return np.maximum(np.array(self.lower) - x, x - np.array(self.upper))

    def rounding_within(self, box: Box) -> float:
        """Return ε of the values in a box: means round 8 products of 4 factors, 2⁻⁴⁴ of the largest value."""
        inner = Box(*np.clip([box.lower, box.upper], self.lower, self.upper))
        means = 2.0**-44 * (self.parts[0]._largest_within(inner) + self.band)
        return super().rounding_within(inner) * (1.0 + SAFE) + means + 4.0 * ULP * box.joined(inner).farthest

    def _largest_within(self, box: Box) -> float:
        return self.parts[0]._largest_within(self.box) + self.band + self.box.joined(box).diagonal

    # ------------------------------------------------------------------------------------------ proof

    def pairs(self, axis: int) -> Iterator[tuple[int, int, Box]]:
        """Yield the parts of tiles with a face across an axis in common, and where both have weight."""
        numbers = np.reshape(self.which, self.shape)
        edges = []
        for a in range(3):
            half, cuts = 0.5 * self.widths[a], self.cuts[a]
            lows = [self.lower[a], *(cut - half for cut in cuts)]
            highs = [*(cut + half for cut in cuts), self.upper[a]]
            edges.append((lows, highs))
        for tile in product(*map(range, self.shape)):
            if tile[axis] + 1 == self.shape[axis]:
                continue
            other = tuple(i + (a == axis) for a, i in enumerate(tile))
            one, two = int(numbers[tile]), int(numbers[other])
            if one != two:
                low = [edges[a][0][other[a]] for a in range(3)]
                high = [edges[a][1][tile[a]] for a in range(3)]
                grown = 8.0 * ULP * self.box.farthest  # faces of ramps were rounded
                yield (
                    one,
                    two,
                    Box(*np.clip([low, high], np.array(self.lower), np.array(self.upper))).expanded(grown),
                )

    def _proved(self) -> Three:
        """D of each axis, from the parts as they are in float64."""
        exact = [part.astype("float64") for part in self.parts]
        slopes = [max(part.lipschitz, exact[0].lipschitz) for part in exact]
        gaps = []
        for axis, width in enumerate(self.widths):
            gap = 0.0
            for one, two, where in self.pairs(axis):
                difference = _Difference(
                    exact[0], exact[one] if one else None, exact[two] if two else None, self.band
                )
                allowance = 2.0 * max(part.rounding_within(where) for part in exact)
                places = 4.0 * ULP * (exact[0]._largest_within(where) + self.band)
                found = largest(
                    difference,
                    where,
                    lipschitz=slopes[one] + slopes[two],
                    allowance=allowance + places,
                    tolerance=CLOSE * width,
                    enough=max(gap, SLIGHT * width),
                )
                gap = max(gap, found.upper)
            gaps.append(min(gap, 2.0 * self.band) * (1.0 + SAFE))
        return gaps[0], gaps[1], gaps[2]


class _Difference:
    """Of two held fields; None is the guide."""

    def __init__(self, guide: Field, one: Field | None, two: Field | None, band: float) -> None:
        self.guide, self.both, self.band = guide, (one, two), band

    def __call__(self, points: Floats) -> Floats:
        guide = self.guide(points)
        one, two = (
            guide if part is None else np.clip(part(points), guide - self.band, guide + self.band)
            for part in self.both
        )
        return one - two


def _check(join: Join) -> None:
    """Raise ValueError unless the numbers make tiles."""
    box = join.box  # raises where there is none
    if not 0.0 < join.band < np.inf:
        raise ValueError(f"`band` must be positive and finite; got {join.band}.")
    if len(join.cuts) != 3 or len(join.widths) != 3:
        raise ValueError(
            f"`cuts` and `widths` must be of 3 axes; got {len(join.cuts)} and {len(join.widths)}."
        )
    for axis in range(3):
        _check_axis(join.cuts[axis], join.widths[axis], float(box.lower[axis]), float(box.upper[axis]))
    if len(join.which) != math.prod(join.shape):
        raise ValueError(
            f"`which` must have {math.prod(join.shape)} entries, a part a tile; got {len(join.which)}."
        )
    if not all(0 <= number < len(join.parts) for number in join.which):
        raise ValueError(f"`which` must name parts from 0 to {len(join.parts) - 1}; got {list(join.which)}.")


def _check_axis(cuts: Sequence[float], width: float, lower: float, upper: float) -> None:
    if not 0.0 < width < np.inf:
        raise ValueError(f"`widths` must be positive and finite; got {width}.")
    faces: NDArray[np.float64] = np.array([lower - 0.5 * width, *cuts, upper + 0.5 * width])
    if not np.isfinite(faces).all() or not (np.diff(faces) >= width).all():
        raise ValueError(
            f"`cuts` must ascend within the box, ramps of width {width:g} apart; got {list(cuts)} "
            f"from {lower:g} to {upper:g}. Take fewer tiles or a narrower ramp."
        )
