"""Exact signed distance functions: oracles for tests, partners for CSG.

φ is the distance to the surface, negative inside; so L = 1 everywhere, and ‖∇φ‖ = 1 wherever the nearest
surface point is unique. Where it is not (centres, axes, medial planes) `gradient` returns one of the
directions that φ has nearby, never zero.

Values of a point do not depend on the points beside it: only elementwise arithmetic and square roots, no
matrix products. So a sparse grid of such a field can be compared with the dense one bit for bit.

References
----------
Quilez, "Distance functions", iquilezles.org/articles/distfunctions.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ocsdf3d.csg import Field
from ocsdf3d.directed import sum_above
from ocsdf3d.geometry import Box, as_points

Floats = NDArray[np.float64]
Vector = Sequence[float] | Floats


@dataclass(frozen=True, eq=False)
class ExactSDF(Field):
    """What exact shapes share: a callable φ with gradient, Lipschitz bound and the box of its surface."""

    kind: ClassVar[str]
    lipschitz: ClassVar[float] = 1.0
    support: ClassVar[str] = "solid"
    device: ClassVar[str] = "cpu"

    center: Floats

    def __call__(self, points: ArrayLike) -> Floats:
        """(n,) signed distances at (n, 3) points [world units]."""
        return self._distance(self._local(points))

    def gradient(self, points: ArrayLike) -> Floats:
        """(n, 3) unit vectors pointing away from the solid, at (n, 3) points."""
        return self._gradient(self._local(points))

    @property
    def box(self) -> Box:
        """Smallest axis-aligned box around the surface, its corners rounded outward [world units]."""
        reach = self._reach()
        return Box(0.0 - sum_above(-self.center, reach), sum_above(self.center, reach))

    def rounding_within(self, box: Box) -> float:
        """Return ε of the values in a box: fewer than 16 roundings, relative to the lengths involved."""
        lengths = float(np.abs(box.lower - self.center).max() + np.abs(box.upper - self.center).max())
        return 16.0 * 2.0**-53 * (np.sqrt(3.0) * lengths + 2.0 * float(self._reach().sum()))

    def astype(self, dtype: str) -> ExactSDF:
        """Return itself: exact shapes are always computed in float64."""
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """The numbers that make the shape, ready for JSON."""
        return {name: np.asarray(value).tolist() for name, value in self.__dict__.items()}

    @property
    def certificate(self) -> dict[str, Any]:
        """Return what holds of the formula: L = 1, and the rounding of its float64 arithmetic."""
        named = f"{self.kind} {sorted(self.settings.items())}"
        return {
            "certified": True,
            "lipschitz": 1.0,
            "rounding": self.rounding_within(self.box),
            "basis": "proved",
            "dtype": "float64",
            "hash": hashlib.sha256(named.encode()).hexdigest(),
        }

    def _local(self, points: ArrayLike) -> Floats:
        return as_points(points) - self.center

    @abstractmethod
    def _distance(self, local: Floats) -> Floats:
        """φ at points relative to the centre."""

    @abstractmethod
    def _gradient(self, local: Floats) -> Floats:
        """∇φ at points relative to the centre."""

    @abstractmethod
    def _reach(self) -> Floats:
        """Half the sides of the box."""


@dataclass(frozen=True, eq=False)
class Sphere(ExactSDF):
    """Ball of a given radius."""

    kind = "sphere"

    radius: float

    def _distance(self, local: Floats) -> Floats:
        return _norm(local) - self.radius

    def _gradient(self, local: Floats) -> Floats:
        return _unit(local, [0.0, 0.0, 1.0])

    def _reach(self) -> Floats:
        return np.full(3, self.radius)


@dataclass(frozen=True, eq=False)
class Cuboid(ExactSDF):
    """Axis-aligned box given by its sides."""

    kind = "box"

    sides: Floats

    def _distance(self, local: Floats) -> Floats:
        beyond = np.abs(local) - 0.5 * self.sides
        return _norm(np.maximum(beyond, 0.0)) + np.minimum(beyond.max(axis=1), 0.0)

    def _gradient(self, local: Floats) -> Floats:
        beyond = np.abs(local) - 0.5 * self.sides
        nearest_face = np.eye(3)[beyond.argmax(axis=1)]
        outward = np.where((beyond > 0.0).any(axis=1, keepdims=True), np.maximum(beyond, 0.0), nearest_face)
        return np.copysign(_unit(outward, [0.0, 0.0, 1.0]), local)

    def _reach(self) -> Floats:
        return 0.5 * self.sides


@dataclass(frozen=True, eq=False)
class Torus(ExactSDF):
    """Ring torus around the z axis: `major` from the axis to the tube's middle, `minor` the tube's radius."""

    kind = "torus"

    major: float
    minor: float

    def _distance(self, local: Floats) -> Floats:
        return _norm(self._across(local)) - self.minor

    def _gradient(self, local: Floats) -> Floats:
        flat = local * [1.0, 1.0, 0.0]
        in_tube = _unit(self._across(local), [0.0, 1.0])
        gradient = in_tube[:, :1] * _unit(flat, [1.0, 0.0, 0.0])
        gradient[:, 2] += in_tube[:, 1]
        return gradient

    def _across(self, local: Floats) -> Floats:
        """(n, 2) coordinates in the plane through the axis, from the tube's middle."""
        return np.stack([_norm(local[:, :2]) - self.major, local[:, 2]], axis=1)

    def _reach(self) -> Floats:
        return np.array([self.major + self.minor, self.major + self.minor, self.minor])


@dataclass(frozen=True, eq=False)
class Capsule(ExactSDF):
    """All points within `radius` of the segment from centre − `half` to centre + `half`."""

    kind = "capsule"

    half: Floats
    radius: float

    def _distance(self, local: Floats) -> Floats:
        return _norm(self._from_segment(local)) - self.radius

    def _gradient(self, local: Floats) -> Floats:
        side = np.cross(self.half, np.eye(3)[np.abs(self.half).argmin()])
        return _unit(self._from_segment(local), _unit(side[None], [0.0, 0.0, 1.0])[0])

    def _from_segment(self, local: Floats) -> Floats:
        """(n, 3) vectors from the nearest point of the segment."""
        square = float((self.half * self.half).sum())
        along = (local * self.half).sum(axis=1) / square if square > 0.0 else np.zeros(len(local))
        return local - np.clip(along, -1.0, 1.0)[:, None] * self.half

    def _reach(self) -> Floats:
        return np.abs(self.half) + self.radius


def sphere(radius: float = 1.0, center: Vector = (0.0, 0.0, 0.0)) -> Sphere:
    """Exact SDF of a ball.

    Examples
    --------
    >>> ball = sphere(radius=2.0, center=(1.0, 0.0, 0.0))
    >>> ball([[1.0, 0.0, 0.0], [4.0, 0.0, 0.0]]).tolist()
    [-2.0, 1.0]
    """
    return Sphere(_vector(center, "center"), _positive(radius, "radius"))


def box(size: float | Vector = 1.0, center: Vector = (0.0, 0.0, 0.0)) -> Cuboid:
    """Exact SDF of an axis-aligned box with sides `size` (one number for a cube)."""
    sides = _vector(np.full(3, size) if np.ndim(size) == 0 else size, "size")
    return Cuboid(_vector(center, "center"), _frozen([_positive(side, "size") for side in sides.tolist()]))


def torus(major: float = 1.0, minor: float = 0.25, center: Vector = (0.0, 0.0, 0.0)) -> Torus:
    """Exact SDF of a ring torus around the z axis through `center`; `minor` < `major`."""
    major, minor = _positive(major, "major"), _positive(minor, "minor")
    if minor >= major:
        raise ValueError(f"`minor` must be below `major` for a ring; got {minor:g} and {major:g}. Swap them?")
    return Torus(_vector(center, "center"), major, minor)


def capsule(a: Vector, b: Vector, radius: float) -> Capsule:
    """Exact SDF of all points within `radius` of the segment from `a` to `b`."""
    start, end = _vector(a, "a"), _vector(b, "b")
    return Capsule(
        _frozen(0.5 * start + 0.5 * end), _frozen(0.5 * end - 0.5 * start), _positive(radius, "radius")
    )


def exact(kind: str, settings: dict[str, Any]) -> ExactSDF:
    """Return the shape of that kind, as read from a file.

    Raises
    ------
    ValueError
        No such kind, or settings that are not its own.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}; got {kind!r}.")
    values: dict[str, Any] = {n: _frozen(v) if np.ndim(v) else float(v) for n, v in settings.items()}
    try:
        return KINDS[kind](**values)
    except TypeError as error:
        raise ValueError(f"{kind}: {error}") from None


KINDS: dict[str, type[ExactSDF]] = {shape.kind: shape for shape in (Sphere, Cuboid, Torus, Capsule)}


def _norm(vectors: Floats) -> Floats:
    return np.sqrt((vectors * vectors).sum(axis=1))


def _unit(vectors: Floats, instead: ArrayLike) -> Floats:
    """Unit vectors, with `instead` for those of length zero."""
    length = _norm(vectors)[:, None]
    return np.where(length > 0.0, vectors / np.where(length > 0.0, length, 1.0), instead)


def _frozen(value: ArrayLike) -> Floats:
    array = np.array(value, dtype=np.float64)
    array.setflags(write=False)
    return array


def _vector(value: ArrayLike, name: str) -> Floats:
    array = _frozen(value)
    if array.shape != (3,) or not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be three finite numbers; got {array.tolist()}.")
    return array


def _positive(value: float, name: str) -> float:
    if not 0.0 < float(value) < np.inf:
        raise ValueError(f"`{name}` must be positive and finite; got {float(value):g}.")
    return float(value)
