"""Frozen values of the pipeline: a cloud of points and an axis-aligned box, checked once, at birth.

Everything behind the readers trusts these two: coordinates are finite float64 in world units, arrays are
private read-only copies, so no later stage checks again or writes into a caller's data. A mesh is a
`trimesh.Trimesh`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Box", "PointCloud", "as_points"]

Floats = NDArray[np.float64]


def _points(value: ArrayLike, name: str) -> Floats:
    """Return a float64 copy of `value` if it is (n, 3), n > 0, and finite."""
    shape = np.shape(value)
    array = np.asarray(value)
    if len(shape) != 2 or shape[1] != 3:
        hint = {
            (2, 2): " For planar or tabular data use ocsdf3d.oneclass.",
            (2, 1): " For planar or tabular data use ocsdf3d.oneclass.",
            (1, 3): " A single point is `points[None]`.",
        }.get((len(shape), shape[-1] if shape else 0), "")
        if len(shape) == 2 and shape[0] == 3:
            hint = " One point a row is wanted: pass the transpose."
        raise ValueError(f"`{name}` must be (n, 3) and finite; got shape {shape}.{hint}")
    if shape[0] == 0:
        raise ValueError(f"`{name}` must hold at least one row; got shape {shape}.")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"`{name}` must hold real numbers; got dtype {array.dtype}.")
    array = np.array(array, dtype=np.float64, order="C")
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        first = int(np.argmin(finite))
        raise ValueError(
            f"`{name}` must be (n, 3) and finite; {np.count_nonzero(~finite)} of {len(array)} rows are not, "
            f"the first is row {first} (from 0): {array[first].tolist()}. Remove those rows."
        )
    return array


def as_points(value: ArrayLike, name: str = "points", count: int | None = None) -> Floats:
    """Return vectors to ask a field at as a float64 array, (n, 3); n may be 0.

    Raises
    ------
    ValueError
        Another shape, another number of rows than `count`, or a coordinate that is not finite.
    """
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or count not in (None, len(array)):
        wanted = "n" if count is None else count
        hint = f" A single one is `{name}[None]`." if array.shape == (3,) else ""
        raise ValueError(f"`{name}` must be ({wanted}, 3) and finite; got shape {array.shape}.{hint}")
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(f"`{name}` must be finite; row {row} is {array[row].tolist()}. Leave it out.")
    return array


@dataclass(frozen=True, eq=False)
class Box:
    """An axis-aligned box from its two extreme corners.

    Parameters
    ----------
    lower, upper : (3,) array_like
        Smallest and largest corner [world units]; `lower <= upper` on every axis.

    Raises
    ------
    ValueError
        A corner is not three finite numbers, or `lower` exceeds `upper`.

    Examples
    --------
    >>> box = Box([0, 0, 0], [1, 2, 3])
    >>> box.longest, box.expanded(0.5).longest
    (3.0, 4.0)
    """

    lower: Floats
    upper: Floats

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            corner = np.array(getattr(self, name), dtype=np.float64)
            if corner.shape != (3,) or not np.isfinite(corner).all():
                raise ValueError(f"`{name}` must be three finite numbers; got {corner.tolist()}.")
            corner.setflags(write=False)
            object.__setattr__(self, name, corner)
        if (self.lower > self.upper).any():
            raise ValueError(
                f"`lower` must not exceed `upper`; got {self.lower.tolist()} and {self.upper.tolist()}. "
                "Swap them?"
            )

    @classmethod
    def of(cls, points: ArrayLike) -> Box:
        """Return the smallest box that holds `points`, (n, 3) and finite."""
        array = _points(points, "points")
        return cls(array.min(axis=0), array.max(axis=0))

    @property
    def size(self) -> Floats:
        """Side lengths, (3,) [world units]."""
        return self.upper - self.lower

    @property
    def center(self) -> Floats:
        """Middle of the box, (3,) [world units]; halves are added so that large offsets cannot overflow."""
        return 0.5 * self.lower + 0.5 * self.upper

    @property
    def diagonal(self) -> float:
        """Distance between the two corners [world units]."""
        return float(np.linalg.norm(self.size))

    @property
    def longest(self) -> float:
        """Longest side [world units]."""
        return float(self.size.max())

    @property
    def farthest(self) -> float:
        """Largest coordinate, by size: what the rounding of positions is relative to [world units]."""
        return float(max(np.abs(self.lower).max(), np.abs(self.upper).max()))

    def contains(self, points: ArrayLike) -> NDArray[np.bool_]:
        """Return (n,) bool: which of `points`, (n, 3), lie in the closed box (a NaN never does)."""
        array = np.asarray(points, dtype=np.float64)
        return np.asarray(((array >= self.lower) & (array <= self.upper)).all(axis=-1))

    def joined(self, other: Box) -> Box:
        """Return the smallest box that holds both."""
        return Box(np.minimum(self.lower, other.lower), np.maximum(self.upper, other.upper))

    def expanded(self, by: float) -> Box:
        """Return the box with every face moved outward by `by` [world units]; a negative value shrinks it.

        Raises
        ------
        ValueError
            `by` shrinks a side below zero.
        """
        return Box(self.lower - by, self.upper + by)


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points in space, with normals and colours where the source had them.

    Parameters
    ----------
    points : (n, 3) array_like
        Positions [world units], n > 0, finite; kept as a read-only float64 copy.
    normals : (n, 3) array_like or None
        Directions, scaled here to unit length; kept as a read-only float64 copy.
    colors : (n, 3) array_like of integers or None
        Red, green, blue from 0 to 255; kept as a read-only uint8 copy.

    Raises
    ------
    ValueError
        A shape is wrong, a coordinate or normal is not finite, a normal has length zero, or a colour leaves
        0–255.

    Examples
    --------
    >>> cloud = PointCloud([[0, 0, 0], [1, 2, 3]], normals=[[0, 0, 2], [0, 5, 0]])
    >>> len(cloud), cloud.box.longest, cloud.normals[0].tolist()
    (2, 3.0, [0.0, 0.0, 1.0])
    """

    points: Floats
    normals: Floats | None = None
    colors: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _points(self.points, "points"))
        if self.normals is not None:
            normals = self._like_points(_points(self.normals, "normals"), "normals")
            # Dividing by the largest entry first keeps tiny and huge normals from under- or overflowing.
            largest = np.abs(normals).max(axis=1, keepdims=True)
            if not largest.all():
                raise ValueError(
                    f"`normals` must not be zero; {np.count_nonzero(largest == 0)} of {len(normals)} are, "
                    f"the first is row {int(np.argmin(largest))}. Pass None if they cannot be trusted."
                )
            normals /= largest
            normals /= np.linalg.norm(normals, axis=1, keepdims=True)
            object.__setattr__(self, "normals", normals)
        if self.colors is not None:
            colors = self._like_points(np.asarray(self.colors), "colors")
            if colors.dtype.kind not in "iu" or colors.min() < 0 or colors.max() > 255:
                raise ValueError(
                    f"`colors` must be integers from 0 to 255; got {colors.dtype} from {colors.min()} to "
                    f"{colors.max()}. Scale and round them."
                )
            object.__setattr__(self, "colors", np.array(colors, dtype=np.uint8, order="C"))
        for array in (self.points, self.normals, self.colors):
            if array is not None:
                array.setflags(write=False)

    def _like_points(self, array: NDArray, name: str) -> NDArray:
        if array.shape != self.points.shape:
            raise ValueError(f"`{name}` must match `points`, {self.points.shape}; got shape {array.shape}.")
        return array

    def __len__(self) -> int:
        return len(self.points)

    @property
    def box(self) -> Box:
        """Smallest box that holds every point [world units]."""
        return Box(self.points.min(axis=0), self.points.max(axis=0))
