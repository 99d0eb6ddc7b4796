"""φ on a plane: values on a square grid of it, and where isolines belong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ocsdf3d.csg import Field
from ocsdf3d.geometry import Box
from ocsdf3d.viewer.scene import ceiling
from ocsdf3d.viewer.views import AXES

__all__ = ["Slice", "cut", "isolines", "plane_of"]

Floats = NDArray[np.float64]
LINES = 12  # isolines, about


@dataclass(frozen=True, eq=False)
class Slice:
    """φ at the nodes of a rectangle.

    Attributes
    ----------
    corner, u, v : (3,) arrays
        Position of the first node, and unit vectors of the first and second axis [world units].
    spacing : float
        Between nodes [world units].
    values : (m, n) float64 array
        φ, `ij` order [world units].
    """

    corner: Floats
    u: Floats
    v: Floats
    spacing: float
    values: Floats

    @property
    def points(self) -> Floats:
        """Positions of the nodes, (m, n, 3) [world units]."""
        index = np.moveaxis(np.indices(self.values.shape), 0, -1)
        return self.corner + self.spacing * (index @ np.stack([self.u, self.v]))


def cut(field: Field, box: Box, origin: ArrayLike, normal: ArrayLike, resolution: int = 128) -> Slice:
    """Return φ on the rectangle in which a plane's neighbourhood of the box is seen.

    Parameters
    ----------
    field : Field
        φ.
    box : Box
        What to cover; of a tilted plane, the rectangle around the projections of its corners [world units].
    origin, normal : (3,) array_like
        A point of the plane, and its normal, of any length above 0 [world units].
    resolution : int
        Nodes along the longer side.

    Raises
    ------
    ValueError
        A normal without direction, or fewer than 2 nodes.
    """
    direction = np.asarray(normal, np.float64)
    length = np.linalg.norm(direction)
    if direction.shape != (3,) or not np.isfinite(length) or length == 0.0:
        raise ValueError(f"`normal` must be three finite numbers, not all 0; got {direction.tolist()}.")
    if resolution < 2:
        raise ValueError(f"`resolution` must be at least 2 nodes; got {resolution}.")
    direction = direction / length
    u, v = _basis(direction)
    corners = np.stack(np.meshgrid(*zip(box.lower, box.upper, strict=True), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    foot = corners - ((corners - np.asarray(origin, np.float64)) @ direction)[:, None] * direction
    first, second = foot @ u, foot @ v
    size = max(np.ptp(first), np.ptp(second))
    spacing = float(size) / (resolution - 1)
    counts = [int(np.ceil(np.ptp(along) / spacing - 1e-9)) + 1 for along in (first, second)]
    base = np.asarray(origin, np.float64)
    corner = base + (first.min() - base @ u) * u + (second.min() - base @ v) * v
    empty = Slice(corner, u, v, spacing, np.zeros(counts))
    return Slice(corner, u, v, spacing, field(empty.points.reshape(-1, 3)).reshape(counts))


def isolines(values: Floats, lines: int = LINES) -> Floats:
    """Return round levels, 0 among them, about `lines` over the range of φ."""
    low, high = float(values.min()), float(values.max())
    step = ceiling((high - low) / lines)
    return step * np.arange(np.ceil(low / step), np.floor(high / step) + 1) + 0.0  # no −0, which shows


def plane_of(text: str, box: Box) -> tuple[Floats, Floats]:
    """Return origin and normal of `x`, `y` or `z`, with `=POSITION` behind it or through the box's middle.

    Raises
    ------
    ValueError
        Another text.
    """
    axis, sign, position = text.partition("=")
    origin = box.center.copy()
    try:
        normal = np.array(AXES[axis.strip().lower()])
        if sign:
            origin[int(normal.argmax())] = float(position)
    except (KeyError, ValueError):
        raise ValueError(
            f"a plane is x, y, z or one of them and =POSITION, as z=0.5; got {text!r}."
        ) from None
    if not np.isfinite(origin).all():
        raise ValueError(f"a plane is at a finite position; got {text!r}.")
    return origin, normal


def _basis(normal: Floats) -> tuple[Floats, Floats]:
    """Return two unit vectors, (3,), of a right-handed frame with a unit normal; axes for axes."""
    helper: Any = np.eye(3)[(int(np.abs(normal).argmax()) + 1) % 3]
    u = helper - (helper @ normal) * normal
    u = u / np.linalg.norm(u)
    return u, np.cross(normal, u)
