"""A field that is asked in tiles, checked and counted; with its bounds, what a value proves.

If |φ(x) − φ(y)| ≤ L‖x − y‖, and a computed value v misses φ(x) by at most ε (`allowance`), then φ has the
sign of v on the whole ball of radius (|v| − ε)/L around x. Nothing that builds on this takes φ for a
distance: trained fields are lazy (slopes of 0.2 to 1 at L = 1), which widens intervals and breaks none. False
bounds L or ε break all of them.

Rounding of our own sums: every point at which a field is asked is exactly the float64 that is asked, and what
is computed from it (differences of coordinates, squares, roots, products) takes fewer than 100 roundings of
2⁻⁵³ relative to the lengths involved; all of it is widened by `SAFE` = 2⁻⁴⁰, 8192 roundings.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["SAFE", "TILE", "Bounded", "Field", "Oracle", "Progress", "lengths", "tiles", "unit_vectors"]

Floats = NDArray[np.float64]
Field = Callable[[Floats], NDArray[np.floating]]
Progress = Callable[[int, int], object]

TILE = 16384  # points handed to a field at once; at 65536 a network of width 128 is a fifth slower on a CPU
SAFE = 2.0**-40  # relative widening against rounding, see above


class Oracle:
    """A field with a count of what it was asked.

    Parameters
    ----------
    field : callable, (n, 3) float64 array → (n,) array
        φ [world units].
    name : str
        What messages call it.
    tile : int
        Points handed to it at once, at most.
    progress : callable, optional
        Called as `progress(done, total)` with evaluations after each tile.
    """

    def __init__(
        self, field: Field, name: str = "field", tile: int = TILE, progress: Progress | None = None
    ) -> None:
        self.field, self.name, self.tile, self.progress = field, name, tile, progress
        self.evaluations = 0
        self.expected = 0  # evaluations in all, as far as one can tell
        self.span = (np.inf, -np.inf)  # smallest and largest value that was met

    def __call__(self, points: NDArray) -> Floats:
        """Return (n,) float64 values at points, (n, 3).

        Raises
        ------
        ValueError
            The field returns another shape or a value that is not finite.
        """
        values = np.empty(len(points))
        for part in tiles(len(points), self.tile):
            values[part] = self._tile(points[part])
            if self.progress is not None:
                rest = len(points) - part.stop
                self.progress(self.evaluations, max(self.expected, self.evaluations + rest))
        return values

    def _tile(self, points: NDArray) -> NDArray[np.floating]:
        values = np.asarray(self.field(points))
        if values.shape != points.shape[:1]:
            raise ValueError(
                f"`{self.name}` must return one value a point, shape ({len(points)},); got {values.shape}. "
                "Squeeze a trailing axis."
            )
        if not np.isfinite(values).all():
            worst = int(np.argmin(np.isfinite(values)))
            raise ValueError(
                f"`{self.name}` must be finite; got {values[worst]} at {points[worst].tolist()}. "
                "Stay inside the field's domain."
            )
        self.evaluations += len(points)
        self.span = min(self.span[0], float(values.min())), max(self.span[1], float(values.max()))
        return values

    def finish(self) -> None:
        """Tell `progress` that nothing more is asked."""
        if self.progress is not None:
            self.progress(self.evaluations, self.evaluations)


class Bounded(Oracle):
    """A field with its bounds: L (`lipschitz`) on its slope, ε (`allowance`) on the error of a value.

    Raises
    ------
    ValueError
        A bound that is none.
    """

    def __init__(
        self,
        field: Field,
        lipschitz: float,
        allowance: float,
        name: str = "field",
        progress: Progress | None = None,
    ) -> None:
        super().__init__(field, name, TILE, progress)
        if not 0.0 < lipschitz < np.inf:
            raise ValueError(f"`lipschitz` must be positive and finite; got {lipschitz}.")
        if not 0.0 <= allowance < np.inf:
            raise ValueError(f"`allowance` must be finite and ≥ 0; got {allowance}.")
        self.lipschitz, self.allowance = lipschitz, allowance

    def radii(self, values: Floats) -> Floats:
        """(n,) proven radii around the points of these values, signed as φ there; 0 where nothing is."""
        proven = np.maximum(np.abs(values) - self.allowance, 0.0)
        return np.sign(values) * proven / self.lipschitz * (1.0 - SAFE)

    def proof(self, points: Floats) -> Floats:
        """(n,) the same at points that are asked."""
        return self.radii(self(points))


def tiles(count: int, size: int) -> list[slice]:
    """Slices of at most `size` that cover `count` rows."""
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def lengths(vectors: Floats) -> Floats:
    """(n,) lengths, elementwise arithmetic only: a row's does not depend on the others."""
    return np.asarray(np.sqrt((vectors * vectors).sum(axis=-1)))


def unit_vectors(vectors: Floats) -> Floats:
    """Unit vectors; zero ones stay zero, for they only say where to look."""
    length = lengths(vectors)[..., None]
    return vectors / np.where(length > 0.0, length, 1.0)
